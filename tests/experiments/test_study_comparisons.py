"""The runs behind the chapter on experiments: rows that are packed come back, the record is whole and comes out again."""

import json
import runpy
import sys
from pathlib import Path

import pytest
import torch

from tutorlib.records import run_of

ROOT = Path(__file__).parents[2] / "experiments"
TOOL = ROOT / "study_comparisons.py"
RECORD = ROOT / "records" / "comparisons.json"
TOLERANCE = 0.002  # nats: float32 sums in another order, after three steps


@pytest.mark.parametrize("rows", [1, 3, 4, 13])
def test_rows_that_are_packed_come_back(program, rows):
    right = torch.rand(rows, generator=torch.Generator().manual_seed(rows)) < 0.5
    assert program["unpacked"](program["packed"](right), rows).bool().tolist() == right.tolist()
    assert program["packed"](torch.tensor([True, False, False, False, False])) == "10"


def test_the_record_is_whole(program, record):
    assert {run_of(program["Run"], run) for run in record["runs"]} == {
        program["Run"](arm, seed) for arm, many in program["SEEDS"].items() for seed in range(many)}
    assert all(len(run["right"]) == 950 for run in record["runs"])
    assert len(record["random"]) == 200 and [len(study) for study in record["studies"]] == [40] * 8
    for trial in [*record["random"], *(trial for study in record["studies"] for trial in study)]:
        assert 3e-4 <= trial["rate"] <= 3e-2 and 8 <= trial["hidden"] <= 128 and 0 <= trial["dropout"] <= 0.6
        assert 0 <= trial["development"] <= 1 and 0 <= trial["test"] <= 1
    rights = program["rights"](record, "plain")
    assert rights.shape == (60, 3800) and 0.87 < rights.double().mean() < 0.91
    assert record["data"] == program["digest"]()


@pytest.mark.parametrize("arm", ["plain", "dropout", "more digits"])
def test_first_losses_are_those_of_the_record(program, record, arm):
    for seed in (0, 7):
        kept = next(run for run in record["runs"] if run_of(program["Run"], run) == program["Run"](arm, seed))
        _, losses = program["of_arm"](program["Run"](arm, seed), steps=3)
        assert losses == pytest.approx(kept["first"], abs=TOLERANCE)


@pytest.mark.slow
def test_a_run_comes_out_again_in_nearly_every_row(program, record):
    assert program["rerun"](record, "plain", 3) < 40  # of 3,800; another seed differs in about 110


@pytest.mark.slow
def test_a_trial_is_judged_on_rows_that_nobody_trains_on(program):
    trial = program["scored"](program["Settings"](hidden=8), seed=0)
    model, _ = program["trained"](0, program["Settings"](hidden=8))
    x, labels = program["digits"]()
    right = (model(x[1200:]).argmax(1) == labels[1200:]).double()
    assert trial["development"] == pytest.approx(right[:500].mean().item(), abs=1e-4)
    assert trial["test"] == pytest.approx(right[500:].mean().item(), abs=1e-5)


def test_a_second_call_goes_on(program, tmp_path, monkeypatch, capsys):
    path = tmp_path / "record.json"
    inside = program["main"].__globals__
    for name, value in (("SEEDS", {"plain": 2}), ("TRIALS", 1), ("STUDIES", 1)):
        monkeypatch.setitem(inside, name, value)
    monkeypatch.setitem(inside, "measured", lambda run: {**run._asdict(), "right": "f"})
    monkeypatch.setitem(inside, "random_trials", lambda: [{}])
    monkeypatch.setitem(inside, "study", lambda number: [{"development": 0.5}])
    monkeypatch.setattr(sys, "argv", [str(TOOL), str(path)])
    program["main"]()
    first = json.loads(path.read_text())
    monkeypatch.setitem(inside, "measured", lambda run: pytest.fail("measured twice"))
    program["main"]()
    assert json.loads(path.read_text()) == first and len(first["runs"]) == 2 and len(first["studies"]) == 1


def test_refuses_without_a_file(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(TOOL)])
    with pytest.raises(SystemExit):
        runpy.run_path(str(TOOL), run_name="__main__")
    assert "record" in capsys.readouterr().err
