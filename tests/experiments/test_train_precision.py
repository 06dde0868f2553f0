"""The record of trainings in few bits: whole seeds, of these settings, and a short one that runs in each way."""

from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2] / "experiments"
TOOL = ROOT / "train_precision.py"
RECORD = ROOT / "records" / "train_precision.json"


def test_the_record_has_whole_seeds_of_these_settings(program, record):
    done = [program["Run"](*(run[field] for field in program["Run"]._fields)) for run in record["runs"]]
    seeds = len({run.seed for run in done})
    assert seeds >= 2 and done == program["planned"]()[:9 * seeds]  # whole seeds, nine ways each
    assert record["settings"]["steps"] == program["STEPS"] and record["settings"]["batch"] == program["BATCH"]
    assert all(0 < run["nats"] < 8 and 0 <= run["zeros"] <= 1 for run in record["runs"])


def test_only_float16_loses_gradients_of_logits_and_most_with_a_small_scale(record):
    lost = {(run["way"], run["power"]): run["zeros"] for run in record["runs"]}
    assert lost["float16", -8] > 0.5 > lost["float16", 0] > lost["float16", 16]
    assert all(share == 0 for (way, _), share in lost.items() if way != "float16")


@pytest.mark.parametrize(("way", "power"), [("float32", None), ("float16", 0), ("nearest", None), ("chance", None)])
def test_each_way_trains(program, way, power):
    dice = torch.Generator().manual_seed(0)
    tokens = torch.randint(program["VOCABULARY"], (2000,), generator=dice)
    rows = torch.randint(program["VOCABULARY"], (2, program["LENGTH"] + 1), generator=dice)
    found = program["trained"](program["Run"](way, power, 1e-3, 0), tokens, rows, steps=1)
    assert 6 < found["nats"] < 9 and found["left_out"] == 0
