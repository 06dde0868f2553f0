"""The documents' programs with one fault each: the runs of the record begin so, and the chapter shows the same attention."""

import ast
import json
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
TOOL = ROOT / "experiments" / "train_silent.py"
RECORD = ROOT / "experiments" / "records" / "silent.json"
PAGE = ROOT / "chapters" / "code" / "repairing-pytorch.ipynb"


def test_the_record_has_all_runs(program, record):
    planned = [program["Run"](arm, seed) for seed in range(3) for arm in program["ARMS"]]
    assert [program["Run"](run["arm"], run["seed"]) for run in record["runs"]] == planned


def test_what_counting_gets_comes_out_again(program, record):
    assert program["Text"]().counted() == pytest.approx(record["counted"], abs=1e-4)


def test_a_longer_window_has_the_same_answers(program):
    text = program["Text"]()
    (short, answers), (long, same) = text.test(7), text.test(8)
    assert torch.equal(answers, same) and torch.equal(short, long[:, :7])
    assert (short[:, program["MIDDLE"]] == text.letters).all()


@pytest.mark.parametrize("arm", ["000 with P8", "004, repaired"])
def test_a_run_begins_as_the_record_says(program, record, arm):
    known = next(run for run in record["runs"] if run["arm"] == arm and run["seed"] == 0)
    assert program["fit"](arm, 0, program["Text"](), steps=40)["losses"][0] == pytest.approx(known["losses"][0], abs=0.01)


def test_the_chapter_shows_the_script_s_attention():
    script = {part.name: ast.dump(part) for part in ast.parse(TOOL.read_text()).body if hasattr(part, "name")}
    cells = [cell for cell in json.loads(PAGE.read_text())["cells"] if cell["cell_type"] == "code"]
    shown = {part.name: ast.dump(part) for cell in cells for part in ast.parse("".join(cell["source"])).body
             if hasattr(part, "name")}
    for name in ("PrintedAttention", "RepairedAttention"):
        assert shown[name] == script[name]
