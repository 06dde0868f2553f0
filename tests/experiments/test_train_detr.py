"""The records of DETR: the first losses come out again, the weights give the recorded score, arms differ in one thing."""

import json
import runpy
import sys
from itertools import chain
from pathlib import Path

import pytest
import torch

from tutorlib.data.digits import load_digits
from tutorlib.data.scenes import make_scenes
from tutorlib.evaluation.detection import Detections, average_precision
from tutorlib.training.matching import Targets, detr_loss, match

ROOT = Path(__file__).parents[2] / "experiments"
TOOL = ROOT / "train_detr.py"
RECORD, ARMS = ROOT / "records" / "train_detr.json", ROOT / "records" / "ablate_detr.json"
TOLERANCE = 0.05  # of a loss near 25: float32 sums in another order, three steps


@pytest.fixture(scope="module")
def digits():
    return load_digits()


def test_first_losses_are_those_of_the_record(program, digits):
    record = json.loads(RECORD.read_text())
    losses = program["first_losses"](make_scenes(200, digits.train, 0), record["seed"])
    assert losses == pytest.approx(record["first_losses"], abs=TOLERANCE)


@pytest.mark.slow
def test_weights_give_the_recorded_score(program, digits):
    record = json.loads(RECORD.read_text())
    weights = RECORD.with_suffix(".safetensors")
    assert weights.stat().st_size < 4_000_000
    model = program["load_weights"](weights)
    assert sum(p.numel() for p in model.parameters()) == record["parameters"]
    test = program["test_scenes"](digits)
    found = program["found_by"](model, test.images)
    assert average_precision(found, program["objects_of"](test), [0.5]) == pytest.approx(record["scores"]["AP50"], abs=0.005)


def test_records_are_whole(program):
    record, ablation = json.loads(RECORD.read_text()), json.loads(ARMS.read_text())
    assert record["curve"][-1]["step"] == record["settings"]["steps"]
    assert set(ablation["arms"]) == set(program["ARMS"])
    seeds = [[run["seed"] for run in runs] for runs in ablation["arms"].values()]
    assert all(each == seeds[0] for each in seeds) and len(set(seeds[0])) >= 3


def test_the_record_by_number_is_whole(program):
    record = json.loads((ROOT / "records" / "number_detr.json").read_text())
    settings = record["settings"]
    assert (settings["steps"], settings["scenes"]) == (1600, program["APART_POOL"])
    assert settings["size"] == program["APART"]["size"] and settings["gaps"] == [*program["GAPS"]]
    assert [[run["seed"] for run in runs] for runs in record["rules"].values()] == [[0, 1], [0, 1]]
    for run in chain(*record["rules"].values()):
        for number, each in ((int(number), each) for number, each in run["by number"].items()):
            scenes = settings["test scenes"][str(number)]
            assert [sum(row) for row in each["held"]] == number * [scenes]
            assert each["errors"]["right"] + each["errors"]["missed"] == number * scenes
            assert sum(count for count, _ in each["by gap"]) == number * scenes


def test_the_records_beside_them_differ_in_one_thing_each():
    long, fewer, ordered, race, ablation = (json.loads((ROOT / "records" / f"{name}.json").read_text()) for name in (
        "train_detr", "train_detr_fewer", "train_detr_ordered", "race_detr", "ablate_detr"))
    assert fewer["settings"] | {"scenes": long["settings"]["scenes"]} == ordered["settings"] == long["settings"]
    assert fewer["seed"] == ordered["seed"] == long["seed"] and fewer["first_losses"] == long["first_losses"]
    assert race["settings"] | {"steps": ablation["settings"]["steps"]} == ablation["settings"]
    assert [line["step"] for line in ordered["curve"]] == [line["step"] for line in long["curve"][:len(ordered["curve"])]]
    for runs in race["arms"].values():
        assert [run["seed"] for run in runs] == [0, 1, 2] and all(run["AP50"] == run["on the way"][-1] for run in runs)


def test_places_are_counted_from_the_left(program, digits):
    """A model that gives the true boxes from left to right is right everywhere, and from right to left in the middle alone."""
    scenes = make_scenes(40, digits.test, 5, objects=(3, 3), visible=1.0)
    chosen = [k for k, labels in enumerate(scenes.labels) if len(labels) == 3]
    boxes = [scenes.boxes[k][scenes.boxes[k][:, 0].argsort()] for k in chosen]

    def answering(order):
        answers = torch.stack([each[order] for each in boxes])
        return lambda images: (None, answers[:len(images)])

    assert program["right_by_place"](answering([0, 1, 2]), scenes, objects=3) == [1, 1, 1]
    turned = program["right_by_place"](answering([2, 1, 0]), scenes, objects=3)
    assert turned[1] == 1 and max(turned[0], turned[2]) < 0.2


def test_what_outputs_hold_is_counted_by_the_object_of_the_most_overlap(program, digits):
    scenes = program["scenes_of"](3, digits)
    boxes = torch.stack([each[each[:, 0].argsort()] for each in scenes.boxes])  # (N, 3, 4), from the left
    number = len(boxes)
    assert program["held"](boxes, scenes) == [[number, 0, 0, 0], [0, number, 0, 0], [0, 0, number, 0]]
    moved = boxes[:, [1, 0, 2, 2]].clone()
    moved[:, 2] = 0.0  # output 3 holds nothing; a fourth output is not asked
    assert program["held"](moved, scenes) == [[0, number, 0, 0], [number, 0, 0, 0], [0, 0, 0, number]]


def test_scenes_of_a_number_have_that_number_and_hide_nothing(program, digits):
    scenes = program["scenes_of"](5, digits)
    assert {len(labels) for labels in scenes.labels} == {5} and len(scenes.images) > 250
    alone = make_scenes(20, digits.test, 0, objects=(1, 1), **program["APART"])
    assert all(len(labels) == 1 for labels in alone.labels)


def test_what_is_found_is_counted_by_the_gap_to_the_neighbor(program, digits):
    scenes = program["scenes_of"](3, digits)
    there = torch.stack(scenes.boxes)  # (N, 3, 4)
    logits = torch.zeros(len(there), 3, 14)
    logits[..., 0] = 9
    counts = program["by_gap"](logits, there, scenes)
    assert sum(number for number, _ in counts) == 3 * len(there) and all(number == found for number, found in counts)
    assert all(found == 0 for _, found in program["by_gap"](0 * logits, there, scenes))  # none is sure
    close = scenes._replace(boxes=[torch.tensor([[0.5, 0.2, 0.2, 0.2], [0.51, 0.8, 0.2, 0.2], [0.9, 0.5, 0.2, 0.2]])])
    assert program["by_gap"](logits[:1], close.boxes[0][None, [0, 0, 2]], close) == [[2, 1], [0, 0], [0, 0], [0, 0], [1, 1]]


def test_second_boxes_are_struck_by_the_surer_one_of_their_class(program):
    box, near, far = torch.tensor([[0.5, 0.5, 0.2, 0.2], [0.51, 0.5, 0.2, 0.2], [0.1, 0.1, 0.1, 0.1]])
    said = Detections(torch.stack([near, box, box, far]), torch.tensor([3, 3, 4, 3]), torch.tensor([0.6, 0.9, 0.5, 0.2]))
    kept = program["first_only"](said)
    assert kept.scores.tolist() == pytest.approx([0.9, 0.5, 0.2]) and kept.labels.tolist() == [3, 4, 3]


def targets():
    boxes = [torch.tensor([[0.7, 0.5, 0.1, 0.1], [0.2, 0.5, 0.1, 0.1]]), torch.tensor([[0.5, 0.5, 0.2, 0.2]])]
    return Targets.of([torch.tensor([0, 1]), torch.tensor([2])], boxes)


def test_orders_by_hand(program):
    assert program["drawing_order"](None, None, targets()).tolist() == [0, 1, 0]
    assert program["left_to_right"](None, None, targets()).tolist() == [1, 0, 0]


def test_the_matched_arm_is_the_loss_of_the_package(program, digits):
    model = program["new_model"](0)
    images, there = program["SceneBatches"]([make_scenes(20, digits.train, 0)], 4, 0)(0)
    logits, boxes = model.eval().every_layer(images)
    assert torch.equal(program["ARMS"]["matched"].loss(model, (images, there)), detr_loss(logits, boxes, there))
    last = program["ARMS"]["matched, no auxiliary losses"].loss(model, (images, there))
    assert last.item() == pytest.approx(detr_loss(logits[-1:], boxes[-1:], there).item(), rel=1e-5)
    fixed = program["ARMS"]["in drawing order"].loss(model, (images, there))
    assert fixed > detr_loss(logits, boxes, there)  # the cheapest pairing is the cheapest
    assert match(logits[-1], boxes[-1], there).tolist() != program["drawing_order"](None, None, there).tolist()


def test_batches_depend_on_the_step_alone_and_keep_boxes(program, digits):
    scenes = make_scenes(12, digits.train, 0)
    batches = program["SceneBatches"]([scenes], 4, 0)
    images, there = batches(1)
    batches(2)
    again, _ = program["SceneBatches"]([scenes], 4, 0)(1)
    assert torch.equal(images, again)
    rows, = batches.rows(1)
    assert torch.equal(there.boxes, torch.cat([scenes.boxes[row] for row in rows]))
    assert torch.allclose(images.sum(1), scenes.images[rows].sum(1), atol=0.01)  # colors change places, none is lost


def test_kept_weights_are_the_models_to_half_precision(program, tmp_path):
    model = program["new_model"](1)
    program["save_half"](model, tmp_path / "detr.safetensors")
    loaded = program["load_weights"](tmp_path / "detr.safetensors").state_dict()
    for name, weight in model.state_dict().items():
        assert torch.equal(loaded[name], weight.half().float()), name


def test_the_baseline_knows_training_digits_only(program, digits):
    templates = program["templates"](digits.train)
    assert templates.shapes.shape == (4003, 256) and templates.labels.bincount().tolist() == [400] * 10 + [1] * 3


def test_refuses_unknown_arguments(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(TOOL), "record.json", "--color", "blue"])
    with pytest.raises(SystemExit):
        runpy.run_path(str(TOOL), run_name="__main__")
    assert "--color" in capsys.readouterr().err
