"""The record of a step's ratio: as its script writes it, with the processor named, and a ratio that is one."""

from pathlib import Path

ROOT = Path(__file__).parents[2] / "experiments"
TOOL = ROOT / "time_precision.py"
RECORD = ROOT / "records" / "precision.json"


def test_the_record_is_of_these_settings(program, record):
    assert [width for width, *_ in record["speed"]] == list(program["WIDTHS"])
    assert record["settings"]["rounds"] == program["ROUNDS"] and record["processor"] and record["threads"] == 1
    assert all(0 < low <= middle <= high for _, low, middle, high in record["speed"])


def test_a_ratio_is_of_positive_times_in_order(program):
    width, low, middle, high = program["timed"](32, 2)
    assert width == 32 and 0 < low <= middle <= high
