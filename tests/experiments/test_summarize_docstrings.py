"""The record of the docstrings: whole, judged text by text, and read from code as it says."""

from pathlib import Path

import pytest

from tutorlib.evaluation.summarization import rouge_l
from tutorlib.search import sentences_of

ROOT = Path(__file__).parents[2]
TOOL = ROOT / "experiments" / "summarize_docstrings.py"
RECORD = ROOT / "experiments" / "records" / "summarize_docstrings.json"


def test_the_record_is_whole_and_serves(program, record):
    items = record["items"]
    assert len(items) == program["DRAWN"] == len({(item["package"], item["file"]) for item in items})
    for item in items:
        assert program["serves"](item["line"], item["body"])
        assert item["in words"] == program["name_in_words"](item["name"])
        sentences = sentences_of(item["body"])
        assert item["first"] == sentences[0] and item["central"] in sentences
        assert max(rouge_l(item["line"], sentence) for sentence in sentences) < 0.7


def test_judgments_are_of_the_texts_that_were_read(program, record):
    bare = [{name: value for name, value in item.items() if name not in ("right", "why")} for item in record["items"]]
    assert program["judged"](bare) == record["items"]
    assert len(program["JUDGMENTS"]) == program["JUDGED"] == sum("right" in item for item in record["items"])
    bare[3]["shown"] += "."
    with pytest.raises(ValueError, match="read them and judge anew"):
        program["judged"](bare)


CODE = '''
def _hidden():
    """Do not read this one here.

    Prose that is long enough. It has more than thirty words for sure, since it goes on and on without saying anything at
    all, as prose in a test will do until it is long enough.
    """

def load_it():
    """Load what was kept before.

    The place is looked up first. Then all bytes are fetched from there, in an order that nobody has promised to anybody,
    and they are put together again where the caller wants to have them.

    Args:
        none
    """
'''


def test_public_functions_are_read_up_to_the_first_section(program):
    found = list(program["documented"]("torch", "x.py", CODE))
    assert [(item.name, item.line) for item in found] == [("load_it", "Load what was kept before.")]
    assert found[0].body.endswith("wants to have them.")


def test_a_line_that_the_prose_repeats_does_not_serve(program):
    body = "The place is looked up first. " + "Then bytes are fetched from there and put together again. " * 4
    assert program["serves"]("Load what was kept before.", body)
    assert not program["serves"]("The place is looked up first.", body)


def test_a_name_is_cut_into_its_words(program):
    assert program["name_in_words"]("MaxPool1d") == "Max Pool1d"
    assert program["name_in_words"]("load_state_dict") == "load state dict"
