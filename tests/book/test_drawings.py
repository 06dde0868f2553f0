"""Drawings share one style, their text is legible on a phone, and a page shows them as part of itself."""

import re
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "book" / "drawings"
DRAWINGS = sorted(FOLDER.glob("*.svg"))
WIDEST = 440  # units: on a screen of 390 px, text of 13 units is then 10 px high
SVG = "{http://www.w3.org/2000/svg}"

sys.path.insert(0, str(ROOT / "tools" / "sphinx_ext"))
from drawings import inlined, view_width  # noqa: E402

SAMPLE = '<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg" class="drawing" viewBox="0 0 400 120"></svg>\n'


@pytest.mark.parametrize("path", DRAWINGS, ids=lambda path: path.stem)
def test_a_drawing_has_the_common_style_and_a_width_for_a_phone(path):
    text = path.read_text(encoding="utf-8")
    root = ET.fromstring(text)
    assert root.get("class") == "drawing"
    assert view_width(text) <= WIDEST, f"{path.name} is wider than {WIDEST} units: its text would be too small on a phone"
    styles = list(root.iter(f"{SVG}style"))
    assert len(styles) == 1 and styles[0] is root[0], f"{path.name} needs exactly one style block, its first child"
    lines = [line.strip() for line in (styles[0].text or "").strip().splitlines()]
    assert lines == (FOLDER / "style.css").read_text(encoding="utf-8").split("\n")[:-1]


@pytest.mark.parametrize("path", DRAWINGS, ids=lambda path: path.stem)
def test_names_in_a_drawing_are_its_own(path):
    names = re.findall(r'\bid="([^"]+)"', path.read_text(encoding="utf-8"))
    assert all(name.startswith(f"{path.stem}-") for name in names), names  # two drawings may stand in one page


@pytest.mark.parametrize("path", DRAWINGS, ids=lambda path: path.stem)
def test_a_drawing_is_used(path):
    pages = [*ROOT.glob("chapters/*/*.ipynb"), *ROOT.glob("book/*.md"), ROOT / "README.md"]
    assert any(path.stem in page.read_text(encoding="utf-8") for page in pages), f"no page shows {path.name}"


def test_a_drawing_in_a_page_is_an_image_that_says_what_it_shows():
    element = inlined(SAMPLE, 'a "norm" & a sum', width=540)
    assert element.startswith('<svg role="img" aria-label="a &quot;norm&quot; &amp; a sum" style="max-width:540px" xmlns=')
    assert element.endswith("</svg>") and "<?xml" not in element


def test_the_width_of_a_drawing_is_that_of_its_view():
    assert view_width(SAMPLE) == 400
    with pytest.raises(ValueError, match="viewBox of four numbers"):
        view_width("<svg></svg>")
