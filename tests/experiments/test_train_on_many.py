"""The record of many processes: its bytes are the formulas, its losses come out again, and the drawing shows its numbers."""

import re
from pathlib import Path
from statistics import median

import pytest
import torch

from tutorlib.distributed.costs import ring_bytes
from tutorlib.distributed.launch import process_group
from tutorlib.distributed.pipeline import bubble
from tutorlib.distributed.sharded import bytes_a_process

ROOT = Path(__file__).parents[2]
TOOL = ROOT / "experiments" / "train_on_many.py"
RECORD = ROOT / "experiments" / "records" / "distributed.json"
TOLERANCE = 1e-6  # of a loss, in float64


def test_what_was_sent_and_held_are_the_formulas(record):
    shown = record["show"]
    assert shown["sums"]["ring"]["sent"] == [ring_bytes(4e6, 4)] * 4
    assert shown["sums"]["star"]["sent"] == [12e6, 4e6, 4e6, 4e6]
    numbers = shown["memory"]["parameters"]
    for way, stage in (("data", 0), ("sharded", 3)):
        held = [sum(shown["memory"][way][kind][rank] for kind in ("weights", "gradients", "moments")) for rank in range(4)]
        assert held == pytest.approx([bytes_a_process(numbers, 4, stage=stage)] * 4, rel=0.01)


def test_the_killed_run_is_the_unbroken_one(record):
    found = record["survive"]
    assert (found["attempt"], found["killed at"], found["started from"], found["differ"]) == (1, 13, 10, 0)
    assert found["losses"] == found["unbroken"][10:] and found["apart"] < 1e-6
    losses = [*found["unbroken"], *found["one"]["losses"], *found["four"]["losses"]]
    assert losses == pytest.approx(found["alone"], abs=TOLERANCE)


def test_the_first_losses_come_out_again(program, record, tmp_path):
    """Three steps in one process by plain means, and the same by the sharded run of the script, in a world of one."""
    weights, losses = program["unbroken_alone"](3)
    assert losses == pytest.approx(record["survive"]["alone"][:3], abs=TOLERANCE)
    with process_group():
        model, started, again = program["sharded_run"](tmp_path, 3)
        for name, value in program["whole_state"](model).items():
            torch.testing.assert_close(value, weights[name], atol=1e-9, rtol=0)
    assert started == 0 and again == pytest.approx(losses, abs=1e-9)


def test_pipelines_wait_no_less_than_the_formula(record):
    found = record["schedules"]
    for shares in found["idle"].values():
        for number, steps in zip(found["microbatches"], shares):
            assert steps is None or steps[0] > bubble(4, number) - 0.01  # sleeping takes at least its time


def test_units_of_sharding_cost_work_and_not_bytes(record):
    """One unit sends as many bytes as seven and takes less of the processor, at every batch; two rows do not pay."""
    steps = record["steps"]
    middle = {name: [median(each["processor"]) for each in times] for name, times in steps["seconds"].items()}
    assert all(one < many for one, many in zip(middle["sharded, one unit"], middle["sharded"], strict=True))
    assert middle["data"][0] > middle["alone"][0] and middle["data"][-1] < middle["alone"][-1]
    assert {len(each[clock]) for times in steps["seconds"].values() for each in times for clock in each} == {20}


def test_steps_are_timed_in_turn(program, record):
    with process_group():  # in a world of one
        found = program["time_steps"](2, (2,))
    assert found["seconds"].keys() == record["steps"]["seconds"].keys()
    assert found["parameters"] == record["steps"]["parameters"]
    assert all(each[clock][0] >= 0 for (each,) in found["seconds"].values() for clock in ("processor", "clock"))


def test_a_checkpoint_without_its_list_is_passed_over(program, tmp_path):
    assert program["latest"](tmp_path) is None
    for step, whole in (("0010", True), ("0020", False)):
        (tmp_path / f"step-{step}").mkdir()
        if whole:
            (tmp_path / f"step-{step}" / ".metadata").touch()
    assert program["latest"](tmp_path) == tmp_path / "step-0010"


def test_the_drawing_says_what_was_measured(record):
    drawing = (ROOT / "book" / "drawings" / "dist-crash.svg").read_text(encoding="utf-8")
    said = re.search(r"([\d,]+) of ([\d,]+) weights differ", drawing)
    assert [int(number.replace(",", "")) for number in said.groups()] == [record["survive"]["differ"],
                                                                         record["survive"]["parameters"]]
    assert f"kill −9 in step {record['survive']['killed at']}" in drawing
