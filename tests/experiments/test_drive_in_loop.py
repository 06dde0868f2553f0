"""The record of drivers at the wheel: its arms are what they say, its runs come out again."""

from pathlib import Path

import pytest
import torch

from tutorlib.data.driving import drive_cars
from tutorlib.records import run_of

ROOT = Path(__file__).parents[2] / "experiments"
TOOL = ROOT / "drive_in_loop.py"
RECORD = ROOT / "records" / "driving.json"


def test_the_record_is_whole(program, record):
    assert [run_of(program["Run"], found) for found in record["runs"]] == program["runs"]()


def test_what_is_compared_has_three_seeds_and_as_many_labels(program):
    core = [run for run in program["runs"]() if run.seed == 2]
    assert {run.labels for run in core} == {1000}
    assert {(run.arm, run.nudge) for run in core} == {("clone", 0), ("clone", 0.2), ("dagger", 0), ("linear", 0), ("rule", 0)}


def test_the_rule_steers_to_what_is_bright(program):
    seen = torch.zeros(2, 8, 9)
    seen[0, 2, 6], seen[1, 2, 0] = 1, 1  # two meters to the left, four to the right
    assert program["rule"](0.1, 2)(seen).tolist() == pytest.approx([0.2, -0.4])


def test_the_linear_clone_finds_weights(program):
    pictures = torch.randn(500, 8, 9, generator=torch.Generator().manual_seed(0))
    driver = program["linear"](pictures, 0.3 * pictures[:, 1, 1] + 0.1, penalty=1e-3)
    torch.testing.assert_close(driver(pictures), 0.3 * pictures[:, 1, 1] + 0.1, atol=1e-3, rtol=0)


def test_astray_counts_frames_aside_and_frames_lost(program):
    """All who go straight are lost at some time, and stay so."""
    found = program["judged"](lambda seen: seen.new_zeros(len(seen)))
    assert found["crashed"] == 100 and found["left"][-1] == 1 and found["response"] == [0] * 5
    steps = torch.tensor(found["astray"]).diff()
    assert (steps[-10:] - 20).abs().max() < 1e-3 and steps.max() < 20 + 1e-3


def test_the_expert_answers_itself(program):
    found = program["judged"](None)
    assert found["close"] == 1 and found["error"] == 0 and found["crashed"] == 0
    assert found["response"][0] > 0 > found["response"][-1]


def test_learning_and_test_tracks_differ(program):
    seen = {track.sum().item() for track in program["test_tracks"]()}
    for seed in range(3):
        dice = torch.Generator().manual_seed(seed)
        assert not seen & {track.sum().item() for track in program["draw_tracks"](20, dice)}


@pytest.mark.parametrize("arm", ["linear", "rule"])
def test_runs_are_those_of_the_record(program, record, arm):
    """Rounding moves a few drives: what does not train comes within six of a hundred."""
    found = next(run for run in record["runs"] if run["arm"] == arm and run["seed"] == 1)
    tracks = program["test_tracks"]()
    driver = program["driver_of"](run_of(program["Run"], found))
    wheel = drive_cars(tracks, program["MINUTE"], torch.Generator().manual_seed(9), driver)
    assert int(wheel.crashed.sum()) == pytest.approx(found["crashed"], abs=6)


@pytest.mark.slow
@pytest.mark.parametrize("arm", ["clone", "dagger"])
def test_trained_runs_are_those_of_the_record(program, record, arm):
    """Training amplifies rounding, and the loop does it again: nearness is held closely, drives by the record's margin."""
    found = next(run for run in record["runs"] if run["arm"] == arm and run["seed"] == 1)
    again = program["perform"](run_of(program["Run"], found))
    assert again["close"] == pytest.approx(found["close"], abs=0.02)
    assert (again["crashed"] > 25) == (arm == "clone")
