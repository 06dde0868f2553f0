"""The committed chapters: fit to commit, and all of them in the table of contents."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import notebook
from tools.build_book import ROOT, toc_pages

CHAPTERS = notebook.chapters()


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_chapter_is_fit_to_commit(path: Path) -> None:
    assert notebook.findings(path) == []


def test_table_of_contents_names_every_chapter_and_no_other() -> None:
    named = {page for page in toc_pages() if page.startswith("chapters/")}
    written = {path.relative_to(ROOT).with_suffix("").as_posix() for path in CHAPTERS}
    assert named == written


def test_every_page_of_the_table_of_contents_exists_once() -> None:
    pages = toc_pages()
    assert len(pages) == len(set(pages))
    missing = [page for page in pages if not any((ROOT / f"{page}{suffix}").exists() for suffix in (".md", ".ipynb"))]
    assert missing == []


def test_every_page_of_the_book_folder_is_in_the_table_of_contents() -> None:
    pages = {path.relative_to(ROOT).with_suffix("").as_posix() for path in (ROOT / "book").rglob("*.md")}
    assert pages <= set(toc_pages())
