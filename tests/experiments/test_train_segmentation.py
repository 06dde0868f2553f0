"""The records of the segmentation networks: first losses come out again, weights give the recorded scores."""

import json
import runpy
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch

from tutorlib.data.digits import load_digits
from tutorlib.records import run_of

ROOT = Path(__file__).parents[2] / "experiments"
TOOL = ROOT / "train_segmentation.py"
RECORD, LONG = ROOT / "records" / "train_segmentation.json", ROOT / "records" / "train_segmentation_long.json"
TOLERANCE = 0.02  # nats: float32 sums in another order, after four steps


@pytest.mark.slow
def test_first_losses_are_those_of_the_record(program):
    record = json.loads(RECORD.read_text())
    data = program["scenes"](record["settings"]["scenes"], load_digits().train, 1)
    assert program["first_losses"](data) == pytest.approx(record["first_losses"], abs=TOLERANCE)


def test_the_record_is_whole(program):
    record = json.loads(RECORD.read_text())
    assert list(record["arms"]) == list(program["ARMS"])
    for name, runs in record["arms"].items():
        assert [run["seed"] for run in runs] == list(program["SEEDS"]), name
        assert ("taken back" in runs[0]) == (program["ARMS"][name].loss is program["weighted"])
    same = [record["arms"][name][0]["parameters"] for name in ("U-Net", "no skips", "finest skip only", "all but the finest")]
    assert len(set(same)) == 1
    assert sum(record["truth"]["classes"]) == pytest.approx(1, abs=1e-3) == sum(record["truth"]["distance"])


def test_taps_apart_see_further_with_the_same_weights(program):
    near, far = program["window"]().eval(), program["spread"]().eval()
    assert [p.shape for p in near.parameters()] == [p.shape for p in far.parameters()]
    for model, side in ((near, 9), (far, 31)):
        images = torch.rand(1, 3, 61, 61, requires_grad=True)
        model(images)[0, :, 30, 30].sum().backward()
        seen = images.grad.abs().sum((0, 1)) > 0
        assert seen.any(0).sum() <= side and seen.any(0).nonzero().max() - seen.any(0).nonzero().min() + 1 == side


def test_what_the_chapter_quotes(program):
    arms, long = (json.loads(path.read_text()) for path in (RECORD, LONG))
    quoted = ("U-Net", "no skips", "plain loss", "finest skip only", "all but the finest", "window of 9", "window of 31")
    assert all("two questions" in run for name in quoted for run in arms["arms"][name])
    pair = [mean_of_longer(long, name, "boundary") for name in ("no skips", "U-Net")]
    assert pair[1] > pair[0] + 0.3
    near, far = (sum(run["two questions"]["named"] for run in arms["arms"][f"window of {side}"]) / 3 for side in (9, 31))
    assert far > near + 0.1
    before, after = (sum(long["long"][name]["photographs"]["mean_iou"]) / 6 for name in ("U-Net", "on photographs"))
    assert after > before + 0.3


def mean_of_longer(record, name, key):
    runs = [run for run in record["longer"] if (run["name"], run["steps"]) == (name, 800)]
    assert [run["seed"] for run in runs] == [1, 2]
    return sum(run[key] for run in (record["long"][f"{name}, 800 steps"], *runs)) / 3


def test_the_longer_runs_are_whole(program):
    found = json.loads(LONG.read_text())["longer"]
    assert [run_of(program["Longer"], run) for run in found] == program["LONGER"]
    for run in found:
        for key in ("named", "boundary", "mean_iou"):
            assert run["errors"][key][0] == pytest.approx(run[key], abs=1e-3) and 0 < run["errors"][key][1] < 0.05


def test_errors_are_of_the_scores(program):
    test = program["scenes"](30, load_digits().test, 3)
    told = torch.where(torch.rand(test.classes.shape) < 0.1, 2, test.classes.roll(1, 2))
    told[:10] = 2  # objects of these scenes have a wrong name
    found, scores = program["errors"](told, test, draws=20), program["scores"](told, test)
    for key in ("named", "boundary", "recall", "precision", "mean_iou"):
        assert found[key][0] == pytest.approx(scores[key], abs=1e-3) and 0 < found[key][1] < 0.2, key
    assert found["wrong at 1"][0] == pytest.approx(scores["wrong_at"][0], abs=1e-3)


def test_the_long_record_is_whole():
    record = json.loads(LONG.read_text())
    steps = runpy.run_path(str(TOOL))["LONG"]
    assert {name: found["steps"] for name, found in record["long"].items()} == steps
    assert all(len(scores) == 6 for found in record["long"].values() for scores in found["photographs"].values())


@pytest.mark.slow
def test_weights_are_small_and_give_the_recorded_scores(program):
    path = LONG.with_suffix(".safetensors")
    assert path.stat().st_size < 4_000_000
    record, test = json.loads(LONG.read_text()), program["scenes"](400, load_digits().test, 2)
    for name, model in program["load_weights"](path).items():
        found, expected = program["scores"](program["answer"](model, test.images), test), record["long"][name]
        for key in ("mean_iou", "named", "boundary", "pixels"):
            assert found[key] == pytest.approx(expected[key], abs=0.01), (name, key)


def test_loaded_weights_are_the_saved_ones(program, tmp_path):
    names = "U-Net", "U-Net", "no skips", "U-Net"
    models = {name: program["ARMS"][arm].build().eval() for name, arm in zip(program["LONG"], names, strict=True)}
    program["save_weights"](models, tmp_path / "two.safetensors")
    images = torch.rand(1, 3, 40, 40)
    for name, model in program["load_weights"](tmp_path / "two.safetensors").items():
        assert (model(images) - models[name](images)).abs().max() < 0.02


def test_scenes_have_the_classes_of_the_chapter(program):
    made = program["scenes"](60, load_digits().train, 4)
    found = torch.cat(made.labels).unique().tolist()
    assert found == list(range(1, 9)) and made.classes.unique().tolist() == list(range(9))
    for classes, masks, labels in zip(made.classes, made.masks, made.labels, strict=True):
        for mask, label in zip(masks, labels.tolist(), strict=True):
            assert (classes[mask] == label).all()
        assert not classes[~masks.any(0)].any() if len(masks) else not classes.any()


def test_two_questions(program):
    p = torch.tensor([[0.3, 0.25, 0.45], [0.4, 0.3, 0.3], [0.6, 0.4, 0.0]])  # ground and two objects, at three pixels
    assert program["in_two_steps"](p.log().mT.view(1, 3, 3, 1)).flatten().tolist() == [2, 1, 0]


def test_what_is_pasted_keeps_its_objects(program):
    made = program["scenes"](5, load_digits().train, 4, size=48)
    bright = program["pasted"](made, [torch.ones(3, 96, 96)], 0)
    there = (made.classes > 0)[:, None].expand_as(made.images)
    assert torch.equal(bright.images[there], made.images[there]) and (bright.images[~there] == 1).all()
    assert torch.equal(bright.classes, made.classes)


def test_skips_are_muted_where_they_are_not_wanted(program):
    fine, coarse = torch.ones(1, 2, 4, 4), torch.full((1, 3, 4, 4), 2.0)
    assert program["muted"](fine, coarse).mean((0, 2, 3)).tolist() == [0, 0, 2, 2, 2]
    for side, kept in ((4, 1), (8, 0)):
        assert program["only"](lambda size, side=side: size == side)(fine, coarse)[:, :2].mean() == kept


def test_refuses_unknown_arguments(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(TOOL), "record.json", "--color", "blue"])
    with pytest.raises(SystemExit):
        runpy.run_path(str(TOOL), run_name="__main__")
    assert "--color" in capsys.readouterr().err


def test_the_drawing_shows_the_scores_of_the_record():
    record = json.loads(LONG.read_text())
    drawing = ElementTree.parse(ROOT.parent / "book" / "drawings" / "segmentation-two.svg")
    shown = [text.text for text in drawing.iter() if text.get("data-of") == "rim"]
    assert shown == [f"{mean_of_longer(record, name, 'boundary'):.2f}" for name in ("no skips", "U-Net")]


def test_a_skip_forward_only_brings_values_and_no_gradient(program):
    fine, coarse = (torch.rand(1, 2, 4, 4, requires_grad=True) for _ in range(2))
    joined = program["forward_only"](fine, coarse)
    joined.sum().backward()
    assert torch.equal(joined, torch.cat([fine, coarse], dim=1)) and fine.grad is None and (coarse.grad == 1).all()


def test_longer_runs_keep_the_others(program, tmp_path, monkeypatch):
    record = tmp_path / "long.json"
    record.write_text(json.dumps({"longer": [run._asdict() | {"old": True} for run in program["LONGER"]]}))
    globals_of_program = program["train_longer"].__globals__
    monkeypatch.setitem(globals_of_program, "trained", lambda arm, data, steps, seed: arm.build().eval())
    options = program["argparse"].Namespace(record=record, longer=["forward only"])
    program["train_longer"](options, None, program["scenes"](4, load_digits().test, 3))
    found = json.loads(record.read_text())["longer"]
    assert [run_of(program["Longer"], run) for run in found] == [
        *program["LONGER"], *(run for run in program["OPEN"] if run.name == "forward only")]
    assert all(run.get("old", False) == (run["name"] != "forward only") for run in found)
