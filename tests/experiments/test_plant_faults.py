"""The planted faults: the edits are those of the rules, the record is of this program, and its first answers come out again."""

import ast
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOL = ROOT / "experiments" / "plant_faults.py"
RECORD = ROOT / "experiments" / "records" / "faults.json"
PAGE = ROOT / "chapters" / "code" / "repairing-pytorch.ipynb"
QUICK = "shapes", "edits", "parameters", "reference"


def test_edits_by_hand(program):
    found = [fault["is"] for fault in program["faults"]("def f(a, b):\n    c = a + 2\n    return c.abs()")]
    assert sorted(found) == sorted(["pass", "c = a - 2", "c = a", "c = 2", "c = a + 3", "c = a + 1", "c = b + 2", "c = c + 2",
                                    "return c", "return a.abs()", "return b.abs()"])


def test_lines_and_arguments_exchanged(program):
    rules = {(fault["rule"], fault["text"]) for fault in program["faults"]("def f(a):\n    g(a, 1)\n    h()\n    return a")}
    assert ("two lines exchanged", "def f(a):\n    h()\n    g(a, 1)\n    return a") in rules
    assert ("two arguments exchanged", "def f(a):\n    g(1, a)\n    h()\n    return a") in rules


def test_the_record_is_of_these_faults(program, record):
    planted = [tuple(fault[name] for name in ("rule", "was", "is")) for fault in program["faults"](program["sources"]())]
    assert planted == [tuple(fault[name] for name in ("rule", "was", "is")) for fault in record["faults"]]


def test_the_right_program_passes_and_a_known_leak_does_not(program):
    source = program["sources"]()
    right, leak = program["run"](source), program["run"](source.replace("triu(1)", "triu(2)"))
    assert program["asked"](right) == {kind: list(program[kind](right)) for kind in ("questions", "careless")}
    assert program["stops"](right) is None and program["harmless"](right, right) and not program["harmless"](leak, right)
    assert program["asked"](leak)["questions"] == ["shapes", "parameters", "one batch"]


@pytest.mark.slow
def test_the_quick_answers_of_the_record_come_out_again(program, record):
    for place, fault in enumerate(program["faults"](program["sources"]())):
        known = record["faults"][place]
        if known["outcome"] == "silent" and place % 5 == 0:
            questions = program["questions"](program["run"](fault["text"]))
            assert [name for name in QUICK if program["ask"](questions[name])] == [q for q in known["questions"] if q in QUICK]


def test_the_first_loss_of_the_record_comes_out_again(program, record):
    text, held_out = program["letters"]()
    right = program["run"](program["sources"]())
    assert program["cost"](right, text, held_out, steps=1)["first"] == pytest.approx(record["right"][0]["first"], abs=1e-3)


def test_the_chapter_shows_the_script_s_program_and_questions():
    def definitions(text):
        return {part.name: ast.dump(part) for part in ast.parse(text).body if hasattr(part, "name")}

    script, shown = definitions(TOOL.read_text()), {}
    for cell in json.loads(PAGE.read_text())["cells"]:
        if cell["cell_type"] == "code":
            shown |= definitions("".join(cell["source"]))
    names = ("Attention", "Block", "Program", "loss_of", "train_step", "evaluate", "fits", "who_moves_whom", "may_move",
             "hears_the_past_alone", "parameter_count", "unreached", "learns_one_batch", "equals_the_library")
    assert [name for name in names if shown.get(name) != script[name]] == []
