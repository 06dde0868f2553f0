"""The errata page keeps its word: every row is there, and a row that names a cell leads to one that ran.

A row of ``book/errata.md`` is a heading ``### F6 · title``. Its line ``*Status:*`` is *linked* when it holds the link
``[executed cell in The Transformer](#erratum-f6)``, which names the chapter of the cell, *cited* when it begins with
``*cited*`` and cites a source, and *to come* when it begins so.
A chapter demonstrates the row in a code cell under a markdown cell that holds the line ``(erratum-f6)=``.
"""

import json
import re
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "book" / "errata.md"
EXPECTED = [f"{letter}{n}" for letter, last in (("F", 22), ("P", 21), ("S", 23)) for n in range(1, last + 1)]
SOURCE = re.compile(r"\{cite\}`|\]\(https://")
LINK = re.compile(r"\[executed cell in ([^\]]+)\]\(#(erratum-[a-z0-9]+)\)")
CHINESE = re.compile(r"[\u4e00-\u9fff]")


def read_rows(text: str) -> dict[str, str]:
    """Row -> what its status line says; a row without exactly one status line, or listed twice, is an error."""
    rows: dict[str, str] = {}
    for section in re.split(r"^### ", text, flags=re.M)[1:]:
        row = section.split(" ", 1)[0]
        status = re.findall(r"^\*Status:\* (.+)$", section, flags=re.M)
        assert len(status) == 1, f"{row} has {len(status)} status lines, expected one"
        assert row not in rows, f"{row} is listed twice"
        rows[row] = status[0]
    return rows


def kind_of(row: str, status: str) -> str:
    """'linked', 'cited' or 'to come'."""
    links = [anchor for _, anchor in LINK.findall(status)]
    if links:
        assert links == [f"erratum-{row.lower()}"], f"{row} links to {links}, expected its own anchor"
        return "linked"
    for kind in ("cited", "to come"):
        if status.startswith(f"*{kind}*"):
            assert kind != "cited" or SOURCE.search(status), f"{row} is called cited and cites nothing"
            return kind
    raise AssertionError(f"the status of {row} is neither a link, nor cited, nor to come: {status!r}")


def find_anchors(notebooks: dict[str, dict]) -> dict[str, list[tuple[str, str]]]:
    """Row -> chapter and fault of each place that bears its anchor; the fault is '' above a cell that ran."""
    anchors = defaultdict(list)
    for name, notebook in notebooks.items():
        cells = notebook["cells"]
        title = re.search(r"^# (.+)$", "".join(cells[0]["source"]), flags=re.M)
        for cell, following in zip(cells, cells[1:] + [None], strict=True):
            if cell["cell_type"] != "markdown":
                continue
            for row in re.findall(r"^\(erratum-([a-z]\d+)\)=\s*$", "".join(cell["source"]), flags=re.M):
                fault = fault_of(following)
                anchors[row.upper()].append((title[1] if title else name, f"{name}: {fault}" if fault else ""))
    return dict(anchors)


def fault_of(cell: dict | None) -> str:
    """Why this cell is no demonstration, or ''."""
    if cell is None or cell["cell_type"] != "code":
        return "the anchor is not directly above a code cell"
    if cell.get("execution_count") is None:
        return "the cell has not been executed"
    if {"skip-execution", "nbval-skip"} & set(cell["metadata"].get("tags", [])):
        return "the cell is tagged to be skipped"
    return ""


def problems_of(rows: dict[str, str], anchors: dict[str, list[str]]) -> list[str]:
    """Everything in which the page and the chapters disagree."""
    problems = []
    for row, status in rows.items():
        found = anchors.get(row, [])
        if kind_of(row, status) == "linked":
            if len(found) != 1:
                problems.append(f"{row} links to a cell, and {len(found)} chapters bear its anchor, expected one")
            problems += [f"{row}: {fault}" for _, fault in found if fault]
            named = LINK.findall(status)[0][0]
            problems += [f"{row} names the chapter {named!r}, its cell is in {title!r}" for title, _ in found if title != named]
        elif found:
            problems.append(f"{row} is demonstrated in a chapter, and the page does not link to it")
    unlisted = sorted(anchors.keys() - rows.keys())
    problems += [f"a chapter bears the anchor of {row}, which the page does not list" for row in unlisted]
    return problems


def test_every_row_is_listed_once_and_in_order():
    assert list(read_rows(PAGE.read_text(encoding="utf-8"))) == EXPECTED


def test_every_row_is_in_the_index_of_its_documents():
    text = PAGE.read_text(encoding="utf-8")
    lines = re.findall(r"^\| 00\d \|.+$", text, flags=re.M)
    index = {line[2:5]: set(re.findall(r"\]\(#row-([a-z]\d+)\)", line)) for line in lines}
    named = defaultdict(set)
    for section in re.split(r"^### ", text, flags=re.M)[1:]:
        for document in re.findall(r"\b00\d\b", section.splitlines()[2]):
            named[document].add(section.split(" ", 1)[0].lower())
    assert index == dict(named)


def test_page_and_chapters_agree():
    paths = [path for path in sorted(ROOT.glob("chapters/**/*.ipynb")) if ".ipynb_checkpoints" not in path.parts]
    notebooks = {str(path.relative_to(ROOT)): json.loads(path.read_text(encoding="utf-8")) for path in paths}
    rows = read_rows(PAGE.read_text(encoding="utf-8"))
    assert problems_of(rows, find_anchors(notebooks)) == []


def test_every_chinese_quotation_is_translated():
    quotations = re.findall(r"(?:^>.*\n)+", PAGE.read_text(encoding="utf-8"), flags=re.M)
    chinese = [quotation for quotation in quotations if CHINESE.search(quotation)]
    assert len(chinese) == 39
    assert [quotation for quotation in chinese if not re.fullmatch(r"> \(.+\)", quotation.splitlines()[-1])] == []


TITLE = {"cell_type": "markdown", "source": ["# The Transformer\n"]}
ANCHOR = {"cell_type": "markdown", "source": ["Some prose.\n", "\n", "(erratum-f6)="]}
RAN = {"cell_type": "code", "source": ["assert True"], "metadata": {}, "execution_count": 1}
LINKED = {"F6": "[executed cell in The Transformer](#erratum-f6)"}
ELSEWHERE = {"F6": "[executed cell in Position](#erratum-f6)"}


@pytest.mark.parametrize(
    ("rows", "cells", "expected"),
    [
        (LINKED, [ANCHOR, RAN], None),
        (ELSEWHERE, [ANCHOR, RAN], "names the chapter 'Position', its cell is in 'The Transformer'"),
        (LINKED, [RAN], "0 chapters bear its anchor"),
        (LINKED, [ANCHOR, RAN, ANCHOR, RAN], "2 chapters bear its anchor"),
        (LINKED, [ANCHOR], "not directly above a code cell"),
        (LINKED, [ANCHOR, ANCHOR, RAN], "not directly above a code cell"),
        (LINKED, [ANCHOR, RAN | {"execution_count": None}], "has not been executed"),
        (LINKED, [ANCHOR, RAN | {"metadata": {"tags": ["nbval-skip"]}}], "tagged to be skipped"),
        ({"F6": "*to come* in the-transformer."}, [ANCHOR, RAN], "does not link to it"),
        ({}, [ANCHOR, RAN], "does not list"),
    ],
)
def test_the_check_itself(rows, cells, expected):
    problems = problems_of(rows, find_anchors({"chapter.ipynb": {"cells": [TITLE, *cells]}}))
    assert (problems == []) if expected is None else any(expected in problem for problem in problems)


@pytest.mark.parametrize("status", ["[executed cell in Position](#erratum-f7)", "[executed cell](#erratum-f6)",
                                    "*cited*: a book, surely", "soon", "to come"])
def test_a_status_that_says_nothing_is_refused(status):
    with pytest.raises(AssertionError):
        kind_of("F6", status)
