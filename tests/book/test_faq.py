"""The sixteen questions keep their word: an answer leads to a section or erratum that has run, or says that it is cited."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "book" / "faq.md").read_text(encoding="utf-8")
FOUND = re.findall(r"\(question-(\d+)\)=\n(.*?)(?=\n\(question-|\Z)", PAGE, flags=re.S)
ANSWERS = {int(number): body for number, body in FOUND}


def cells(path: Path) -> list[dict]:
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def headings(path: Path) -> set[str]:
    """The anchors that the book gives to the headings of a chapter."""
    text = "\n".join("".join(cell["source"]) for cell in cells(path) if cell["cell_type"] == "markdown")
    titles = [re.sub(r"[^\w\s-]", "", title).strip().lower() for title in re.findall(r"^#+ (.*)$", text, flags=re.M)]
    return {re.sub(r"\s+", "-", title) for title in titles}


def test_every_question_of_the_articles_is_there_once():
    assert sorted(ANSWERS) == list(range(1, 17))
    assert len(FOUND) == 16


@pytest.mark.parametrize("number", range(1, 17))
def test_an_answer_rests_on_cells_that_ran_or_says_that_it_is_cited(number):
    answer = ANSWERS[number]
    sections = re.findall(r"\]\(\.\./(chapters/[\w/-]+\.ipynb)#([\w-]+)\)", answer)
    errata = re.findall(r"\]\(#(erratum-\w+)\)", answer)
    assert re.search(r"^\*\d{3}[,.:]", answer, flags=re.M), "the document's answer, with its number"
    if not sections and not errata:
        assert "*cited; experiment to come*" in answer and "{cite" in answer
    for file, anchor in sections:
        assert anchor in headings(ROOT / file), f"{file} has no heading #{anchor}"
        assert any(cell.get("outputs") for cell in cells(ROOT / file))
    for label in errata:
        assert any(f"({label})=" in path.read_text(encoding="utf-8") for path in (ROOT / "chapters").rglob("*.ipynb"))


@pytest.mark.parametrize("number", range(1, 17))
def test_an_answer_begins_with_a_short_bold_one(number):
    answer = ANSWERS[number].split("\n\n")
    first = next(part for part in answer if not part.startswith(("### ", "*0")))
    short = re.match(r"\*\*(.+?)\*\*", first, flags=re.S)
    assert short and len(short[1].split()) <= 40, f"question {number} has no short answer in bold"


def test_the_listings_stand_in_executed_cells_of_the_chapters_that_are_named():
    for number, answer in ANSWERS.items():
        for listing in re.findall(r"```python\n(.*?)\n```", answer, flags=re.S):
            files = re.findall(r"\]\(\.\./(chapters/[\w/-]+\.ipynb)#", answer)
            code = [cell for file in files for cell in cells(ROOT / file) if cell["cell_type"] == "code"]
            assert any(listing in "".join(cell["source"]) and cell["execution_count"] for cell in code), number
