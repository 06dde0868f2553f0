"""The record of learning in use: its arms are what they say, its runs come out again."""

import re
import runpy
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch

from tests.closeness import assert_same
from tutorlib.records import run_of

ROOT = Path(__file__).parents[2] / "experiments"
TOOL = ROOT / "learn_in_use.py"
RECORD = ROOT / "records" / "adaptive.json"
TOLERANCE = 0.02  # of the digits: rounding moves a few


def test_every_comparison_has_all_seeds(program):
    planned = program["runs"]()
    assert len(set(planned)) == len(planned)
    assert set(Counter(run._replace(seed=0) for run in planned).values()) == {3}


def test_turning_by_ninety_degrees_is_exact(program):
    images = torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    assert_same(program["turned"](images, 0), images)
    torch.testing.assert_close(program["turned"](images, 90), images.rot90(1, (2, 3)), atol=1e-4, rtol=0)


def test_the_world_stands_still_first_and_ends_where_it_should(program):
    angles = [program["angle"](t, 90) for t in range(60)]
    assert angles[:10] == [0] * 10 and angles[10] == pytest.approx(1.8) and angles[-1] == 90


def test_the_stream_is_new_to_the_model(program):
    _, first, _, then, labels = program["start"](1)
    assert len(first) == 1500 and len(then) == len(labels) == 3000
    assert torch.cdist(program["pooled"](then), first).min() > 0


def test_a_batch_is_answered_before_it_is_learned(program):
    """A label that comes later than the stream ends changes nothing."""
    frozen = program["drift"](program["Run"]("drift", 0, "frozen", 90))["right"]
    late = program["drift"](program["Run"]("drift", 0, "online", 90, delay=60))["right"]
    one = program["drift"](program["Run"]("drift", 0, "online", 90, delay=58))["right"]
    assert late == frozen and one[:-1] == frozen[:-1]


def test_own_answers_do_not_look_at_the_labels(program):
    model, x, y, *_ = program["start"](0)
    peer = program["start"](0)[0]
    program["Own"](model, x, y).learn(x[:50], y[:50])
    program["Own"](peer, x, y).learn(x[:50], y[:50].flip(0))
    assert all(torch.equal(w, v) for w, v in zip(model.parameters(), peer.parameters(), strict=True))


def test_a_window_holds_the_last_labels(program):
    model, x, y, *_ = program["start"](0)
    who = program["Neighbor"](model, x, y)
    who.learn(x[:50], y[:50])
    assert len(who.y) == 500 and torch.equal(who.x[-50:], x[:50]) and torch.equal(who.answer(x[:50]), y[:50])


def test_nearest_mean_of_labels_that_occur(program):
    known, labels = torch.tensor([[0.0], [2.0], [10.0]]), torch.tensor([7, 7, 3])
    assert program["nearest_mean"](torch.tensor([[4.0], [6.0]]), known, labels).tolist() == [7, 3]


def test_judging_tells_ten_from_five(program):
    logits, labels = torch.zeros(3, 10), torch.tensor([1, 1, 8])
    logits[0, 1], logits[1, 1], logits[1, 8], logits[2, 8] = 1, 1, 2, 1
    assert program["judge"](logits, labels) == {"old, ten": 0.5, "old, five": 1, "new, ten": 1, "new, five": 1}


def test_what_should_stay_in_the_second_half_stays(program):
    before = program["knows_first_half"](0)
    frozen, rows, restored, plain = (
        program["second_half"](program["Run"]("forgetting", 0, arm)) for arm in ("frozen", "rows", "restored", "plain"))
    assert torch.equal(frozen.layers[0].weight, before.layers[0].weight)
    assert not torch.equal(frozen.layers[1].weight[:5], before.layers[1].weight[:5])
    assert torch.equal(rows.layers[1].weight[:5], before.layers[1].weight[:5])
    assert not torch.equal(rows.layers[1].weight[5:], before.layers[1].weight[5:])
    assert torch.equal(restored.layers[1].bias[:5], before.layers[1].bias[:5])
    assert torch.equal(restored.layers[0].weight, plain.layers[0].weight)


def test_a_memory_has_as_many_of_each(program):
    labels = program["halves"]()[1]
    assert labels[program["kept"](2, 50)].bincount().tolist() == [10] * 5
    assert labels[program["kept"](2, 10, 5)].bincount().tolist() == [0] * 5 + [2] * 5


def test_an_image_leaves_at_the_first_sure_exit(program):
    sure, unsure = torch.tensor([9.0, 0.0]), torch.tensor([0.1, 0.0])
    logits = [torch.stack([sure, unsure, unsure]), torch.stack([unsure, sure, unsure]), torch.stack([unsure] * 3)]
    assert program["leave"](logits, 0.9).tolist() == [0, 1, 2]


def test_multiplications_are_those_of_the_layers(program):
    """Counted by hooks."""
    model, counted = program["Exits"](), []
    for layer in (each for pair in zip(model.convolutions, model.heads, strict=True) for each in pair):
        layer.register_forward_hook(lambda layer, given, made: counted.append(
            made.numel() * layer.weight[0].numel()))
    model(torch.zeros(1, 1, 28, 28))
    assert program["multiplications"]() == torch.tensor(counted).view(3, 2).sum(1).cumsum(0).tolist()


def test_a_network_with_one_exit_pays_for_no_other(program):
    whole, (one, two, last) = program["multiplications"](), (90 * maps for maps in program["CHANNELS"])
    assert program["multiplications_alone"]() == whole[-1] - one - two and last > 0
    assert program["widths"](8) == program["CHANNELS"]


@pytest.mark.parametrize("threshold", [0.15, 0.2, 1.1])
def test_one_image_at_a_time_leaves_where_a_batch_does(program, threshold):
    torch.manual_seed(0)
    model, images = program["Exits"](), torch.rand(20, 1, 28, 28)
    with torch.no_grad():
        logits = model(images)
        out = program["leave"](logits, threshold)
        expected = [logits[k][i].argmax().item() for i, k in enumerate(out.tolist())]
        assert [model.first_sure(image, threshold).item() for image in images.split(1)] == expected
        assert torch.equal(model.last(images, 2), logits[1].argmax(-1))
        assert torch.equal(model.last(images), logits[2].argmax(-1))


def test_the_second_lesson_is_watched_and_not_disturbed(program):
    steps = []
    watched = program["second_half"](program["Run"]("course", 0, "plain"), lambda step, model: steps.append(step))
    plain = program["second_half"](program["Run"]("forgetting", 0, "plain"))
    assert steps == list(range(301))
    assert all(torch.equal(w, v) for w, v in zip(watched.parameters(), plain.parameters(), strict=True))


def test_a_course_ends_where_the_lesson_does(program, record):
    for arm in ("plain", "frozen", "rows"):
        runs = {found["kind"]: found for found in record["runs"] if found["arm"] == arm and found["seed"] == 0}
        end = runs["course"]["course"][-1]
        assert end["step"] == 300
        assert end["old, five"] == pytest.approx(runs["forgetting"]["old, five"], abs=TOLERANCE)


def test_afresh_begins_anew_and_longer_goes_on(program):
    model, x, y, *_ = program["start"](0)
    for name, same in (("Afresh", False), ("Longer", True)):
        who = program[name](model, x, y)
        who.learn(x[:50], y[:50])
        assert (who.model is model) == same


def test_record_is_whole(program, record):
    assert [run_of(program["Run"], found) for found in record["runs"]] == program["runs"]()


def test_the_drawing_that_opens_the_page_shows_the_record(record):
    drawing = (ROOT.parent / "book" / "drawings" / "adapt-turn.svg").read_text(encoding="utf-8")
    for name, arm, what in (("sure", "own", "sure"), ("right", "own", "right"), ("fixed", "frozen", "right")):
        runs = [found for found in record["runs"]
                if (found["kind"], found["arm"], found["turn"], found["delay"]) == ("drift", arm, 90, 0)]
        tens = torch.tensor([found[what] for found in runs]).view(3, 6, 10).mean((0, 2))
        points = re.search(rf'id="adapt-turn-{name}".* d="M([^"]*)"', drawing)[1].split("L")
        drawn = torch.tensor([(262 - float(point.split()[1])) / 180 for point in points])
        torch.testing.assert_close(drawn, tens, atol=1e-3, rtol=0)
        assert f">{name} {tens[-1]:.2f}<".replace("0.", ".") in drawing


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["drift", "forgetting", "refit", "sweep", "leaving", "alarm"])
def test_runs_are_those_of_the_record(program, record, kind):
    tolerance = {"sweep": 0.05, "leaving": 0.05}.get(kind, TOLERANCE)
    for found in record["runs"]:
        if found["kind"] == kind and found["seed"] == 1 and found["arm"] not in ("window", "own", "longer", "afresh"):
            again = program["perform"](run_of(program["Run"], found))
            for name in set(found) & {"right", "old, ten", "new, ten", "early", "above"}:
                expected, got = (torch.tensor(each[name]).mean().item() for each in (found, again))
                assert got == pytest.approx(expected, abs=tolerance), (found["arm"], name)


@pytest.mark.slow
def test_exits_are_those_of_the_record(program, record):
    found = next(run for run in record["runs"] if run["kind"] == "exits" and run["seed"] == 1)
    again = program["perform"](run_of(program["Run"], found))
    assert again["single"] == pytest.approx(found["single"], abs=TOLERANCE)
    assert again["dial"][3]["cost"] == pytest.approx(found["dial"][3]["cost"], abs=0.05)


@pytest.mark.slow
def test_a_narrower_network_is_that_of_the_record(program, record):
    found = next(run for run in record["runs"] if run["kind"] == "narrow" and run["arm"] == "4" and run["seed"] == 1)
    again = program["perform"](run_of(program["Run"], found))
    assert again["cost"] == pytest.approx(found["cost"]) and again["right"] == pytest.approx(found["right"], abs=2 * TOLERANCE)


def test_refuses_unknown_arguments(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(TOOL), "record.json", "--color", "blue"])
    with pytest.raises(SystemExit):
        runpy.run_path(str(TOOL), run_name="__main__")
    assert "--color" in capsys.readouterr().err
