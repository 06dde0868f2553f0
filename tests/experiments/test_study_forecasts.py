"""The record of curves to be foretold: the trainings are those of the architectures, and only the rate parts two."""

import json
from pathlib import Path

import pytest

from tutorlib.records import run_of
from tutorlib.training import warmup_cosine

ROOT = Path(__file__).parents[2] / "experiments"
TOOL = ROOT / "study_forecasts.py"
RECORD = ROOT / "records" / "forecasts.json"
TOLERANCE = 0.01  # nats: float32 sums in another order, after three steps


def test_both_rates_warm_up_alike_and_one_falls(program):
    falls = warmup_cosine(program["WARMUP"], program["STEPS"])
    assert [program["stays"](step) for step in range(20)] == pytest.approx([falls(step) for step in range(20)])
    assert program["stays"](399) == 1 and falls(399) < 0.01


def test_the_record_is_whole(program, record):
    found = [run_of(program["Forecast"], run) for run in record["runs"]]
    assert found == program["runs"]()
    assert all(len(run["held_out"]) == len(run["batch"]) == program["STEPS"] // program["EVERY"] for run in record["runs"])


def test_the_falling_runs_are_those_of_the_architectures(record):
    others = json.loads((ROOT / "records" / "architectures.json").read_text())["runs"]
    for run in record["runs"]:
        (twin,) = (
            other
            for other in others
            if other["task"] == "corpus"
            and other["arm"] == "attention"
            and other["network"] == "dense"
            and other["seed"] == run["seed"]
        )
        assert run["first"] == pytest.approx(twin["losses"][:3], abs=1e-3)
        if run["rate"] == "falls":
            assert run["batch"] == pytest.approx(twin["losses"][3:], abs=1e-3)


@pytest.mark.slow
def test_the_first_losses_come_out_again(program, record):
    text = program["FAMILY"].corpus()
    for run in record["runs"][:2]:
        again = program["curve"](run_of(program["Forecast"], run), text, steps=3)
        assert again["first"] == pytest.approx(run["first"], abs=TOLERANCE)
