"""The record of the network that tells exercises: its splits are what they say, its runs come out again."""

from pathlib import Path

import pytest
import torch

from tutorlib.data.physiotherapy import Windows
from tutorlib.records import run_of

ROOT = Path(__file__).parents[2] / "experiments"
TOOL = ROOT / "recognize_exercises.py"
RECORD = ROOT / "records" / "physiotherapy.json"


@pytest.fixture
def windows():
    people, arms = torch.arange(40) % 10, torch.arange(40) // 20
    return Windows(torch.randn(40, 6, 20), torch.arange(40) % 7, people, arms, torch.zeros(40))


def test_the_record_is_whole(program, record):
    assert [run_of(program["Run"], found) for found in record["runs"]] == program["runs"]()


def test_a_split_by_people_parts_people_and_one_at_random_does_not(program, windows):
    by_people, at_random = (program["folds"](windows, split) for split in ("people", "random"))
    assert all(len(windows.people[by_people == fold].unique()) == 1 for fold in range(10))
    assert at_random.bincount().tolist() == [4] * 10
    assert max(len(windows.people[at_random == fold].unique()) for fold in range(10)) > 1


def test_a_split_by_time_holds_a_tenth_of_each_recording_and_learns_from_nothing_beside_it(program):
    rows = torch.arange(60)
    windows = Windows(torch.randn(60, 6, 20), rows // 20, torch.zeros(60, dtype=torch.long), torch.zeros(60, dtype=torch.long),
                      torch.zeros(60))  # three recordings of twenty windows
    pieces = program["folds"](windows, "time")
    assert pieces.tolist() == (rows % 20 // 2).tolist()
    held = pieces == 4
    known = program["taught"](held, "time")
    assert set(rows[~known].tolist()) == {20 * n + k for n in range(3) for k in (7, 8, 9, 10)}
    assert torch.equal(program["taught"](held, "random"), ~held)


@pytest.mark.parametrize("shape", [(40, 6, 20), (40, 5)])
def test_a_persons_arm_has_its_own_scale(program, windows, shape):
    values = 3 + torch.randn(shape) * (1 + windows.people).view(-1, *[1] * (len(shape) - 1))
    made = program["per_person"](values, windows)
    rows = (windows.people == 4) & (windows.arms == 1)
    dims = (0, 2) if len(shape) == 3 else 0
    torch.testing.assert_close(made[rows].mean(dims), torch.zeros(shape[1]), atol=1e-5, rtol=0)
    torch.testing.assert_close(made[rows].std(dims), torch.ones(shape[1]), atol=1e-3, rtol=0)


def test_the_network_reads_any_length_and_learns_a_batch(program):
    torch.manual_seed(0)
    x, y = torch.randn(64, 6, 50), torch.arange(64) % 7
    assert program["network"]()(x).shape == (64, 7)
    x[:, 0] += y[:, None]
    model = program["fitted"](x.repeat(20, 1, 1), y.repeat(20), 0)
    assert (model(x).argmax(1) == y).double().mean() > 0.9


@pytest.mark.slow
def test_a_run_is_that_of_the_record(program, record):
    found = next(run for run in record["runs"] if run["split"] == "people" and run["fold"] == 4 and not run["own"])
    again = program["perform"](run_of(program["Run"], found))
    assert again["right"] == pytest.approx(found["right"], abs=0.08)
