"""The record of scale: the forecast came from small models alone, what is told to a layer is true, first losses come again."""

import random
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch

from tutorlib.data.in_context import MappingPrompts
from tutorlib.records import run_of

ROOT = Path(__file__).parents[2] / "experiments"
TOOL = ROOT / "study_scale.py"
RECORD = ROOT / "records" / "scale.json"
TOLERANCE = 0.01  # nats: float32 sums in another order, after three steps
recorded = pytest.mark.skipif(not RECORD.exists(), reason="the run is not made yet")


def planned(program):
    return [run for stage in range(3) for run in program["runs"](stage)]


def test_every_training_has_all_seeds(program):
    everything = planned(program)
    assert len(set(everything)) == len(everything)
    counts = Counter(run._replace(seed=0) for run in everything)
    assert all(count == (1 if run.part in ("words", "dates") else 3) for run, count in counts.items())


def test_the_forecast_comes_from_the_small_models_alone(program):
    """Losses from a known law come out again, and runs of large models change nothing."""
    small, large = ([{"part": "family", "arm": str(width), "N": 24 * width**2, "loss": 1.2 + 8 / (24 * width**2) ** 0.3}
                     for width in widths] for widths in (program["FITTED"], program["FORETOLD"]))
    told = program["expected"](small)
    assert program["expected"](small + [run | {"loss": 9.0} for run in large]) == told
    assert told["law"] == pytest.approx([run["loss"] for run in large], abs=1e-3)
    assert told["no floor"][-1] < told["law"][-1] < told["nothing more"][-1]
    assert told["last gain again"][-1] < told["law"][-1]


def test_no_mapping_of_the_training_is_held_out(program):
    known = program["known_mappings"]()
    assert len(known) == 3584 == len({tuple(row) for row in known.tolist()})
    held = {tuple(row) for row in MappingPrompts(batch_size=500, held_out=True)(0).mapping.tolist()}
    assert not held & {tuple(row) for row in known.tolist()}
    few = program["FewMappings"](known[:3], 0)(5)
    assert {tuple(row) for row in few.mapping.tolist()} <= {tuple(row) for row in known[:3].tolist()}
    assert torch.equal(few.tokens[:, 1::2], few.mapping.gather(1, few.tokens[:, ::2]))


def test_a_told_layer_depends_on_the_token_before_and_on_nothing_later(program):
    model = program["Told"](program["new_gpt"](12, 16, 8, 1, 1, 4))
    with torch.no_grad():
        more = torch.arange(8.0)  # not the same for all coordinates, which a norm would take away
        model.before.weight[3] += more
        tokens = torch.zeros(1, 6, dtype=torch.long)
        tokens[0, 2] = 3
        told = model(tokens)
        model.before.weight[3] -= more
        changed = (model(tokens) - told).abs().amax(2)[0] > 1e-6
    assert changed.tolist() == [False, False, False, True, True, True]  # the place after it, and who attends to that


def test_dates_are_written_as_asked(program):
    asked, said = program["a_date"](random.Random(1))
    month, day, year = asked.replace(",", "").split()
    assert said == f"{year}-{program['MONTHS'].index(month) + 1:02}-{day}" and len(day) == 2


@recorded
def test_the_record_holds_every_run_and_its_forecast(program, record):
    assert [run_of(program["Run"], run) for run in record["runs"]] == planned(program)
    assert program["expected"](record["runs"]) == record["expected"]


@recorded
@pytest.mark.slow
@pytest.mark.parametrize("part, arm", [("context", "two layers"), ("context", "one layer, told"), ("tasks", "16"),
                                       ("family", "16"), ("rate", "32")])
def test_first_losses_are_those_of_the_record(program, record, part, arm):
    run = program["Run"](part, arm, 1)
    kept, = [found for found in record["runs"] if run_of(program["Run"], found) == run]
    assert program["perform"](run, program["FIRST"])["first"] == pytest.approx(kept["first"], abs=TOLERANCE)


@pytest.mark.slow
def test_the_command_goes_on_where_it_stopped(tmp_path, monkeypatch, program):
    """With every run replaced by its name, the plan is done once, and the forecast stands before the large models."""
    path, made = tmp_path / "record.json", []

    def perform(run):
        made.append(run)
        width = int(run.arm) if run.part in ("family", "rate") else 1
        return {"loss": 1 + 5 / width, "N": 24 * width**2}

    monkeypatch.setitem(program["main"].__globals__, "perform", perform)
    monkeypatch.setattr(sys, "argv", ["study_scale.py", str(path)])
    program["main"]()
    program["main"]()
    assert made == planned(program)
