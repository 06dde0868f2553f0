"""The ePub: formulas are MathML, every file is XML, folds need no script, and what is wrong in one is found."""

import shutil
import sys
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tools.epub import TARGET, build, findings, main

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools" / "sphinx_ext"))
from epub_pages import RUNS, mathml, well_formed  # noqa: E402

CHAPTER, OTHER = "chapters/attention/scaled-dot-product", "book/notation"
TOC = f"format: jb-book\nroot: {OTHER}\nparts:\n  - caption: One\n    chapters:\n      - file: {CHAPTER}\n"


def words(tex: str, **how) -> str:
    return "".join(ElementTree.fromstring(mathml(tex, **how)).itertext())


@pytest.mark.parametrize("tex, shown", [
    (r"a < b \& c", "a<b&c"),
    (r"\begin{aligned}a &= b\end{aligned}", "a=b"),
    (r"x \tag{1}\label{x}", "x"),
    (r"a &= b \\ &= c", "a=b=c"),
    (r"\begin{split}a &= b\end{split}", "a=b"),
    (r"\begin{equation}a\end{equation}", "a"),
])
def test_a_formula_becomes_xml_without_alignment_and_number(tex, shown):
    assert words(tex, block=True) == shown


def test_raw_html_becomes_xml_and_runs_nothing():
    assert well_formed("<p>a<br>b</p><script>if (1 < 2) {}</script>") == "<p>a<br/>b</p>"
    assert well_formed("<table><tr><td>1</td></tr></table>") == "<table><tr><td>1</td></tr></table>"
    assert well_formed('<div class="gpt-explorer"><script>1</script></div>') == RUNS


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    """An ePub of two pages, by the book's own settings."""
    root = tmp_path_factory.mktemp("book")
    for name in ("_config.yml", "pyproject.toml", "CHANGELOG.md"):
        shutil.copy(ROOT / name, root)
    shutil.copytree(ROOT / "book", root / "book", ignore=shutil.ignore_patterns("mathjax"))
    shutil.copytree(ROOT / "tools", root / "tools", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "tutorlib", root / "tutorlib", ignore=shutil.ignore_patterns("__pycache__"))
    (root / CHAPTER).parent.mkdir(parents=True)
    shutil.copy(ROOT / f"{CHAPTER}.ipynb", root / f"{CHAPTER}.ipynb")
    (root / "_toc.yml").write_text(TOC, "utf8")
    build(root)
    return root / TARGET


@pytest.mark.slow
def test_every_file_is_xml_and_every_address_is_there(book):
    assert findings(book) == []


@pytest.mark.slow
def test_a_chapter_has_mathml_folds_and_its_drawings(book):
    with zipfile.ZipFile(book) as files:
        page = files.read(f"{CHAPTER}.xhtml").decode()
    assert page.count("<math ") > 100 and "\\(" not in page
    assert '<details class="dropdown question"><summary>' in page and "toggle-button" not in page
    assert '<svg role="img"' in page and RUNS in page and "<script" not in page


def test_a_broken_ebook_is_found_out(tmp_path):
    path = tmp_path / "broken.epub"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as files:
        files.writestr("a.xhtml", '<a href="b.xhtml#c"><script/><mi>\\foo</mi></a>')
        files.writestr("d.xhtml", "<p>")
    found = "\n".join(findings(path))
    for words in ("mimetype", "d.xhtml: no element", "b.xhtml, which is not there", "a script", "unknown command"):
        assert words in found


def test_what_is_missing_is_said(capsys, monkeypatch):
    monkeypatch.setattr("tools.epub.find_spec", lambda name: None)
    assert main() == 1
    assert "pip install latex2mathml" in capsys.readouterr().err
