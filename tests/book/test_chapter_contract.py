"""The contract of a chapter, as far as a machine can read it: its size, its sections, its exercises, its figures.

The message of a failing chapter lists everything that is off, with the cell where that helps.
"""
import json
import re
from pathlib import Path
from statistics import median

import pytest

ROOT = Path(__file__).resolve().parents[2]
CHAPTERS = sorted((ROOT / "chapters").glob("*/*.ipynb"))

# Far outside the guides of CONTRIBUTING.md, which are no targets: a chapter that needs more is two chapters.
CELLS = 30, 90
WORDS = 1500, 5000
CODE_LINES = 80, 400
TYPICAL_CELL = 2, 10  # lines, the median
LONGEST_CELL = 30
FIGURES = 4, 20  # plots and drawings
EXERCISES = 3, 8
ASSERTIONS = 5
COMPARED = 70  # percent of the code cells that print
SHORTEST_ALT = 20  # letters

FOLDED = {"hide-cell", "hide-input", "remove-cell", "remove-input"}
NOT_COMPARED = {"nbval-ignore-output", "nbval-skip"}
SECTIONS = {"what breaks": r"\bbreaks?\b", "summary": r"\bsummary\b", "exercises": r"^exercises$",
            "references": r"^references$"}


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_keeps_the_contract(chapter):
    faults = contract_faults(chapter)
    assert not faults, f"{chapter.name}:\n- " + "\n- ".join(faults)


def contract_faults(path):
    """Everything in which a chapter departs from the contract, one sentence each."""
    cells = json.loads(path.read_text("utf8"))["cells"]
    return [fault for rule in RULES for fault in rule(cells)]


def size(cells):
    shown = [code_lines(cell) for cell in code_cells(cells) if not FOLDED & tags(cell)]
    yield from outside("cells", len(cells), CELLS)
    yield from outside("words of prose", len(words(cells)), WORDS)
    yield from outside("lines of visible code", sum(shown), CODE_LINES)
    yield from outside("lines in the median code cell", median(shown or [0]), TYPICAL_CELL)
    for number, cell in enumerate(cells, start=1):
        if cell["cell_type"] == "code" and code_lines(cell) > LONGEST_CELL:
            yield f"cell {number} has {code_lines(cell)} lines of code; the most is {LONGEST_CELL}"


def opening(cells):
    first = source(cells[0]) if cells else ""
    start = next((number for number, cell in enumerate(cells) if cell["cell_type"] == "code"), len(cells))
    text = prose(cells[:start]).lower()
    if not first.startswith("# ") and "\n# " not in first:
        yield "the first cell has no '# Title'"
    if not re.search(r"\bgoals?\b|able to|\byou will\b|\byou can\b", text):
        yield "the prose before the first code cell says no goals: what the reader will be able to do"
    if "prerequisite" not in text:
        yield "the prose before the first code cell names no prerequisites"
    if not (re.search(r"\bdocuments?\b", text) and re.search(r"\bsections?\b", text)):
        yield "the prose before the first code cell does not name the documents' sections that the chapter covers"
    code = source(cells[start]) if start < len(cells) else ""
    if not ("tutorlib" in code and re.search(r"\binstall\b", code)):
        yield "the first code cell does not say how to install tutorlib"


def headings(cells):
    titles = [title.strip() for title in re.findall(r"^## (.+)$", prose(cells), re.MULTILINE)]
    places = []
    for name, pattern in SECTIONS.items():
        found = [place for place, title in enumerate(titles) if re.search(pattern, title, re.IGNORECASE)]
        if not found:
            yield f"no '## ' heading for the section '{name}'"
        places += found[-1:]
    if places != sorted(places):
        yield f"the last sections must come in the order {', '.join(SECTIONS)}"


def exercises(cells):
    found = list(exercise_sections(cells))
    yield from outside("exercises headed '### Exercise n'", len(found), EXERCISES)
    if [number for number, _ in found] != list(range(1, len(found) + 1)):
        yield f"the exercises are numbered {[number for number, _ in found]}, not from 1 upward"
    for number, section in found:
        solutions = [cell for cell in section if cell["cell_type"] == "code" and "hide-cell" in tags(cell)]
        if not solutions:
            yield f"exercise {number} has no solution in a code cell tagged hide-cell"
        elif not all(cell.get("execution_count") for cell in solutions):
            yield f"exercise {number} has a solution that was not executed"


def figures(cells):
    drawn = [(number, cell) for number, cell in enumerate(cells, start=1) if images(cell)]
    drawings = len(re.findall(r"!\[[^\]]+\]\([^)]+\.svg\)", prose(cells)))
    yield from outside("figures", sum(images(cell) for _, cell in drawn) + drawings, FIGURES)
    for number, cell in drawn:
        alt = str(cell["metadata"].get("mystnb", {}).get("image", {}).get("alt") or "").strip()
        if len(alt) < SHORTEST_ALT:
            yield f"the figure of cell {number} has no alt text that says what it shows (metadata mystnb: image: alt)"
    for number, cell in enumerate(cells, start=1):
        if cell["cell_type"] == "markdown" and re.search(r"!\[\s*\]\(", source(cell)):
            yield f"an image in cell {number} has no alt text"


def evidence(cells):
    printing = [cell for cell in code_cells(cells) if cell.get("outputs")]
    compared = [cell for cell in printing if not NOT_COMPARED & tags(cell)]
    if printing and 100 * len(compared) < COMPARED * len(printing):
        yield f"only {len(compared)} of {len(printing)} printing code cells are compared; at least {COMPARED} % must be"
    count = sum(len(re.findall(r"\bassert\b|\bassert_\w+\(", source(cell))) for cell in code_cells(cells))
    if count < ASSERTIONS:
        yield f"{count} assertions; every claim is asserted, so expect at least {ASSERTIONS}"


RULES = size, opening, headings, exercises, figures, evidence


def outside(what, value, bounds):
    if not bounds[0] <= value <= bounds[1]:
        yield f"{value} {what}; the contract is {bounds[0]} to {bounds[1]}"


def source(cell):
    return "".join(cell["source"])


def tags(cell):
    return set(cell["metadata"].get("tags", []))


def code_cells(cells):
    return [cell for cell in cells if cell["cell_type"] == "code"]


def code_lines(cell):
    """Lines that hold code: neither empty nor only a comment."""
    return sum(1 for line in source(cell).splitlines() if line.strip() and not line.lstrip().startswith("#"))


def images(cell):
    outputs = (output.get("data", {}) for output in cell.get("outputs", []))
    return sum(any(kind.startswith("image/") for kind in data) for data in outputs)


def prose(cells):
    return "\n\n".join(source(cell) for cell in cells if cell["cell_type"] == "markdown")


def words(cells):
    """The words that a reader reads: without formulas and fenced code."""
    text = re.sub(r"```.*?```|\$\$.*?\$\$|\$[^$\n]*\$", " ", prose(cells), flags=re.DOTALL)
    return re.findall(r"[^\W\d_][\w'’-]*", text)


def exercise_sections(cells):
    """(number, cells) of each '### Exercise n', up to the next heading of that level or above."""
    number, section = None, []
    for cell in cells:
        if cell["cell_type"] == "markdown" and re.search(r"^#{1,3} ", source(cell), re.MULTILINE):
            if number is not None:
                yield number, section
            heads = re.findall(r"^### Exercise (\d+)\b", source(cell), re.MULTILINE)
            number, section = (int(heads[-1]) if heads else None), []
        section.append(cell)
    if number is not None:
        yield number, section


# The rules themselves: a chapter that keeps them, and the same chapter spoilt in one way at a time.

def markdown(text):
    return {"cell_type": "markdown", "metadata": {}, "source": text}


def code(text, *, output=None, tags=(), alt=None):
    outputs = [{"output_type": "display_data", "data": output}] if output else []
    metadata = {"tags": list(tags)} | ({"mystnb": {"image": {"alt": alt}}} if alt else {})
    return {"cell_type": "code", "metadata": metadata, "execution_count": 1, "source": text, "outputs": outputs}


def good_chapter():
    figure = code("plt.show()", output={"image/svg+xml": "<svg/>"}, alt="The loss falls from three to one.")
    shown = code("x = 1\n" * 8 + "assert x == 1\n# a comment\n", output={"text/plain": "1"})
    lesson = [markdown("word " * 110 + "$x + y$"), shown]
    exercise = [code("def f(x):\n    raise NotImplementedError"), code("def g(x):\n    return x", tags=["hide-cell"])]
    return [
        markdown("# Title\n\nYou will be able to count. Prerequisites: none. Covers section 3 of document 000."),
        code('raise ModuleNotFoundError("tutorlib is missing: pip install -e .")', tags=["hide-input"]),
        *(cell for _ in range(20) for cell in lesson), *([figure] * 4),
        markdown("## What breaks"), markdown("## Summary, and the paper"), markdown("## Exercises"),
        *(cell for n in range(1, 4) for cell in [markdown(f"### Exercise {n}: count"), *exercise]),
        markdown("## References"),
    ]


def faults_of(cells, folder):
    path = folder / "chapter.ipynb"
    path.write_text(json.dumps({"cells": cells}))
    return contract_faults(path)


def test_a_good_chapter_has_no_faults(tmp_path):
    assert faults_of(good_chapter(), tmp_path) == []


def replace(old, new, count=-1):
    """A spoiling that replaces text in every cell."""
    def spoil(cells):
        cells[:] = [cell | {"source": cell["source"].replace(old, new, count)} for cell in cells]
    return spoil


def cut(start, stop=None):
    def spoil(cells):
        del cells[start:stop]
    return spoil


def change(place, **entries):
    """A spoiling that changes entries of one cell."""
    def spoil(cells):
        cells[place] = cells[place] | entries
    return spoil


@pytest.mark.parametrize("spoil, fault", [
    (cut(2, 40), "cells; the contract is 30 to 90"),
    (lambda cells: cells.extend([markdown("more")] * 40), "cells; the contract is 30 to 90"),
    (replace("word " * 110, "word " * 60), "words of prose; the contract is 1500 to 5000"),
    (replace("word " * 110, "word " * 260), "words of prose; the contract is 1500 to 5000"),
    (replace("word " * 110, "$word$ " * 110), "words of prose; the contract is 1500 to 5000"),
    (replace("x = 1\n" * 8, "x = 1\n" * 2), "lines of visible code; the contract is 80 to 400"),
    (replace("x = 1\n" * 8, "x = 1\n" * 29), "lines of visible code; the contract is 80 to 400"),
    (replace("x = 1\n" * 8, "x = 1\n" * 12), "13 lines in the median code cell; the contract is 2 to 10"),
    (replace("x = 1\n" * 8, "x = 1\n" * 30), "cell 4 has 31 lines of code; the most is 30"),
    (replace("# Title", "Title"), "the first cell has no '# Title'"),
    (replace("You will be able to", "We"), "says no goals"),
    (replace("Prerequisites", "Before"), "names no prerequisites"),
    (replace("section 3 of document 000", "attention"), "does not name the documents' sections"),
    (replace("pip install", "find"), "does not say how to install tutorlib"),
    (replace("## What breaks", "### What breaks"), "no '## ' heading for the section 'what breaks'"),
    (replace("## Summary", "## The end"), "no '## ' heading for the section 'summary'"),
    (replace("## Exercises", "## Problems"), "no '## ' heading for the section 'exercises'"),
    (replace("## References", "## Books"), "no '## ' heading for the section 'references'"),
    (lambda cells: cells.insert(2, cells.pop()), "must come in the order what breaks, summary, exercises, references"),
    (replace("### Exercise 3", "### Task 3"), "2 exercises headed '### Exercise n'; the contract is 3 to 8"),
    (replace("### Exercise 3", "### Exercise 7"), "the exercises are numbered [1, 2, 7], not from 1 upward"),
    (change(-2, metadata={}), "exercise 3 has no solution in a code cell tagged hide-cell"),
    (change(-2, execution_count=None), "exercise 3 has a solution that was not executed"),
    (cut(42, 43), "3 figures; the contract is 4 to 20"),
    (lambda cells: cells.extend([markdown("![What it shows.](a.svg)")] * 17), "21 figures; the contract is 4 to 20"),
    (change(42, metadata={}), "the figure of cell 43 has no alt text"),
    (change(42, metadata={"mystnb": {"image": {"alt": "loss.png"}}}), "the figure of cell 43 has no alt text"),
    (change(2, source="word " * 110 + "![](picture.png)"), "an image in cell 3 has no alt text"),
    (lambda cells: [change(n, metadata={"tags": ["nbval-ignore-output"]})(cells) for n in range(3, 19, 2)],
     "only 16 of 24 printing code cells are compared; at least 70 % must be"),
    (replace("assert ", "_ = "), "0 assertions; every claim is asserted"),
])
def test_a_departure_is_named(tmp_path, spoil, fault):
    cells = good_chapter()
    spoil(cells)
    found = faults_of(cells, tmp_path)
    assert any(fault in said for said in found), found


def test_a_chapter_of_one_empty_cell_is_told_everything(tmp_path):
    assert len(faults_of([markdown("")], tmp_path)) >= 14
