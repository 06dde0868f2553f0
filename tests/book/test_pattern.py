"""The pattern of a chapter (CONTRIBUTING.md): what departs from it is a warning, since the pattern is a guide."""

import json
import re
import warnings
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CHAPTERS = sorted((ROOT / "chapters").glob("*/*.ipynb"))
FOLDED = {"hide-input", "hide-cell", "remove-input", "remove-cell"}
ASSERTS_IN_SIGHT = 8
SHARE_OF_ERRATA = 0.05  # of the words and the code in sight
REPAIR_CLINICS = {"repairing-pytorch", "repairing-keras"}


class PatternWarning(UserWarning):
    """A chapter departs from the pattern."""


def departures(cells, *, clinic=False):
    """Each thing in which a chapter departs from the pattern, in a sentence."""
    shown = [cell for cell in cells if cell["cell_type"] == "code" and not FOLDED & tags(cell)]
    text = [source(cell) for cell in cells if cell["cell_type"] == "markdown"]
    plots = [cell for cell in cells if any("image/svg+xml" in output.get("data", {}) for output in cell.get("outputs", []))]
    without = sum(not cell["metadata"].get("mystnb", {}).get("figure", {}).get("caption") for cell in plots)
    if without:
        yield f"{without} of {len(plots)} plots have no caption"
    if not any("{figure-md}" in part and ".svg)" in part for part in text):
        yield "no drawing"
    if any(re.search(r"^(import|from) ", source(cell), re.M) for cell in shown):
        yield "imports in sight"
    asserts = sum(len(re.findall(r"\bassert(_\w+)?\b(?=[ (])", source(cell))) for cell in shown)
    if asserts > ASSERTS_IN_SIGHT:
        yield f"{asserts} asserts in sight; about five teach"
    if not any(":class: dropdown question" in part for part in text):
        yield "no questions in words"
    errata = [box for part in text for box in re.findall(r"^\(erratum-.*?(?=^:::$|\Z)", part, re.M | re.S)]
    share = sum(map(words, errata)) / max(1, sum(map(words, text)))
    if share > SHARE_OF_ERRATA and not clinic:
        yield f"errata are {share:.0%} of the words"
    if any("{admonition}" not in box for box in errata):
        yield "errata outside their folded boxes"


def source(cell):
    return "".join(cell["source"])


def tags(cell):
    return set(cell["metadata"].get("tags", []))


def words(text):
    return len(text.split())


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_departures_are_warnings(chapter):
    cells = json.loads(chapter.read_text("utf8"))["cells"]
    found = list(departures(cells, clinic=chapter.stem in REPAIR_CLINICS))
    if found:
        warnings.warn(f"{chapter.stem}: {'; '.join(found)}", PatternWarning, stacklevel=1)


def markdown(text):
    return {"cell_type": "markdown", "metadata": {}, "source": text}


def code(text, *tags, caption=None, plot=False):
    metadata = {"tags": list(tags)} | ({"mystnb": {"figure": {"caption": caption}}} if caption else {})
    outputs = [{"output_type": "display_data", "data": {"image/svg+xml": "<svg/>"}}] if plot else []
    return {"cell_type": "code", "metadata": metadata, "source": text, "outputs": outputs}


def good():
    return [
        markdown(":::{figure-md} fig-norm\n![What a norm averages.](norm.svg)\n\n**Finding.**\n:::"),
        code("# imports\nimport torch", "hide-input"),
        code("assert 1 == 1"),
        code("plt.show()", "hide-input", caption="**The loss falls.**", plot=True),
        markdown("word " * 400),
        markdown("(erratum-f6)=\n:::{admonition} Erratum F6: a sign\n:class: dropdown erratum\n\nA line.\n:::"),
        markdown(":::{admonition} Why?\n:class: dropdown question\n\nBecause.\n:::"),
    ]


def test_a_chapter_of_the_pattern_has_no_departure():
    assert not list(departures(good()))


@pytest.mark.parametrize("place, cell, said", [
    (0, markdown("no picture"), "no drawing"),
    (1, code("import torch"), "imports in sight"),
    (2, code("assert 1 == 1\n" * 9), "9 asserts in sight"),
    (2, code("assert_close(a, b)\n" * 9), "9 asserts in sight"),
    (3, code("plt.show()", plot=True), "1 of 1 plots have no caption"),
    (5, markdown("(erratum-f6)=\n:::{admonition} E\n" + "word " * 40 + "\n:::"), "errata are 9% of the words"),
    (5, markdown("(erratum-f6)=\nThe document says so."), "errata outside their folded boxes"),
    (6, markdown("Why?"), "no questions in words"),
])
def test_a_departure_is_named(place, cell, said):
    cells = good()
    cells[place] = cell
    assert any(said in departure for departure in departures(cells)), list(departures(cells))
