"""The record of compute: budgets are spent, the prediction came from smaller budgets alone, its first losses come out again."""

import json
import math
import runpy
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch

from tutorlib.records import run_of

ROOT = Path(__file__).parents[2] / "experiments"
TOOL = ROOT / "sweep_compute.py"
RECORD = ROOT / "records" / "compute.json"
TOLERANCE = 0.01  # nats: float32 sums in another order, after three steps
recorded = pytest.mark.skipif(not RECORD.exists(), reason="the run is not made yet")


def planned(program):
    return [run for stage in range(4) for run in program["runs"](stage)]


def test_every_budget_is_spent(program):
    for budget, widths in program["SWEEP"].items():
        for width in widths:
            steps = round(budget / program["flops"](width) / program["TOKENS"])
            assert steps * program["TOKENS"] * program["flops"](width) == pytest.approx(budget, rel=0.02)


def test_pieces_are_of_the_text_and_each_once(program):
    inputs, targets = program["pieces"](2**12, 0)
    assert inputs.shape == targets.shape == (2**12 // 32, 32)
    assert torch.equal(inputs[:, 1:], targets[:, :-1])
    assert len({tuple(row) for row in inputs.tolist()}) == len(inputs)
    fewer, _ = program["pieces"](2**10, 0)
    assert torch.equal(fewer, inputs[:len(fewer)])  # less text is a part of more
    assert not torch.equal(program["pieces"](2**12, 1)[0], inputs)


def test_every_comparison_has_all_seeds(program):
    everything = planned(program)
    assert len(set(everything)) == len(everything)
    counts = Counter(run._replace(seed=0) for run in everything)
    assert {(run.part, count) for run, count in counts.items()} == {
        ("sweep", 3), ("repeats", 3), ("noise", 3), ("labels", 3), ("counting", 1), ("selection", 5),
        ("clock", 3), ("heart", 3)}


def test_the_largest_budget_is_foretold_from_the_smaller_ones(program):
    """Losses from a known law: the best size grows as the law says, and runs of the largest budget change nothing."""
    found = []
    for run in planned(program):
        if run.part == "sweep":
            size = program["blocks"](int(run.arm))
            tokens = run.amount / program["flops"](int(run.arm))
            found.append(run._asdict() | {"N": size, "D": tokens, "loss": 1.2 + 8 / size**0.3 + 60 / tokens**0.4, "seconds": 1})
    told = program["expected"](found)
    smaller = [run for run in found if run["amount"] < program["LARGEST"]]
    assert program["expected"](smaller) == told
    assert told["exponent"] == pytest.approx(0.4 / 0.7, abs=0.03)
    assert told["size"] == pytest.approx(told["law size"], rel=0.1)
    assert told["law"]["floor"] == pytest.approx(1.2, abs=0.02)


def test_equal_seconds_are_more_steps_for_narrower_models(program):
    """Steps of a width that was run cost what they did; between two widths the cost lies between theirs."""
    cost = {40: 0.004, 48: 0.005, 64: 0.01, 80: 0.0125, 96: 0.015}  # seconds a step
    found = [program["Run"]("sweep", program["LARGEST"], str(width), 0)._asdict() | {"steps": 1000, "seconds": 1000 * each}
             for width, each in cost.items()]
    assert program["seconds_a_step"](found, 64) == pytest.approx(0.01)
    assert program["seconds_a_step"](found, 55) == pytest.approx(0.005 * 2 ** (math.log(55 / 48) / math.log(64 / 48)))
    steps = [program["steps_in_time"](found, program["Run"]("clock", 80, width, 0)) for width in ("48", "64", "80")]
    assert steps == [2500, 1250, 1000]


def test_the_nearest_decide(program):
    rows, labels = torch.tensor([[0.0], [1.0], [2.0], [10.0]]), torch.tensor([3, 5, 5, 7])
    asked = torch.tensor([[0.1], [9.0]])
    assert program["nearest"](rows, labels, asked, 1).tolist() == [3, 7]
    assert program["nearest"](rows, labels, asked, 3).tolist() == [5, 5]


def test_a_network_learns_its_digits(program):
    (rows, labels), _, _ = program["digits"]()
    model, _ = program["network"](rows[:50], labels[:50], 0, steps=100)
    assert (model(rows[:50]).argmax(1) == labels[:50]).float().mean() > 0.95


@recorded
def test_record_is_whole(program, record):
    found = [run_of(program["Run"], run) for run in record["runs"]]
    assert sorted(found) == sorted(planned(program))
    for stage, part in ((1, "sweep"), (2, "repeats")):  # what was foretold came after all that it was foretold from
        last = [place for place, run in enumerate(found) if run in program["runs"](0) and run.part == part][-1]
        assert all(found.index(run) > last for run in program["runs"](stage))


@recorded
def test_what_was_expected_follows_from_the_record(program, record):
    told, kept = json.loads(json.dumps(program["expected"](record["runs"]))), record["expected"]
    assert told["law size"] == kept["law size"] and told["size"] == pytest.approx(kept["size"], rel=1e-3)
    assert program["expected_text"](record["runs"]) == record["expected_text"]
    for again, before in zip(told["best"], kept["best"], strict=True):
        assert again == pytest.approx(before, rel=1e-3)


@recorded
def test_every_budget_has_its_lowest_loss_inside(program, record):
    for budget, widths in program["SWEEP"].items():
        for seeds in ((0,), (1,), (2,), (0, 1, 2)):
            best = program["bottom"](record["runs"], budget, seeds)
            assert program["blocks"](widths[0]) < best.size < program["blocks"](widths[-1])


@recorded
@pytest.mark.slow
@pytest.mark.parametrize("part", ["sweep", "repeats"])
def test_first_losses_are_those_of_the_record(program, record, part):
    for run in record["runs"]:
        if run["part"] == part and run["seed"] == 1:
            again = program["PARTS"][part](run_of(program["Run"], run), 3)
            assert again["first"] == pytest.approx(run["first"], abs=TOLERANCE), run["arm"]


@recorded
@pytest.mark.slow
def test_first_losses_of_equal_seconds_are_those_of_the_record(program, record):
    for run in record["runs"]:
        if run["part"] == "clock" and run["seed"] == 1:
            asked = run_of(program["Run"], run)
            assert program["steps_in_time"](record["runs"], asked) == run["steps"]
            again = program["in_windows"](asked, run["steps"], 3)
            assert again["first"] == pytest.approx(run["first"], abs=TOLERANCE), run["arm"]


def test_refuses_unknown_arguments(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(TOOL), "record.json", "--color", "blue"])
    with pytest.raises(SystemExit):
        runpy.run_path(str(TOOL), run_name="__main__")
    assert "--color" in capsys.readouterr().err
