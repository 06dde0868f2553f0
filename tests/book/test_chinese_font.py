"""The Chinese of the book is legible on a machine that has no Chinese font."""

import re
from pathlib import Path

import pytest
from fontTools.ttLib import TTFont

from tools.chinese_font import CHINESE, chinese_characters, write_subset

ROOT = Path(__file__).resolve().parents[2]
CSS = (ROOT / "book" / "_static" / "custom.css").read_text(encoding="utf-8")


def covered(path: Path) -> set[str]:
    return set(map(chr, TTFont(path).getBestCmap()))


def test_the_subset_holds_the_characters_asked_for_and_no_others(tmp_path):
    write_subset(set("注意力。"), tmp_path / "chinese.woff")
    assert covered(tmp_path / "chinese.woff") == set("注意力。")
    font = TTFont(tmp_path / "chinese.woff")
    assert font.flavor == "woff"
    assert "SIL Open Font License" in font["name"].getDebugName(13)


def test_a_character_without_a_glyph_is_refused_and_nothing_written(tmp_path):
    with pytest.raises(ValueError, match="no glyph for \u2eff"):
        write_subset({"注", "\u2eff"}, tmp_path / "chinese.woff")
    assert not any(tmp_path.iterdir())


def test_characters_are_found_in_text_entities_and_search_index(tmp_path):
    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "page.html").write_text("<p>attention 注 &#24847;</p>", encoding="utf-8")
    (tmp_path / "searchindex.js").write_text('{"力": 1}', encoding="utf-8")
    assert chinese_characters(tmp_path) == set("注意力")


def test_the_style_asks_for_the_font_exactly_where_it_was_subset():
    ranges = re.search(r"unicode-range: ([^;]+);", CSS)[1].lower().replace("u+", "").split(", ")
    spans = ["-".join(f"{ord(end):x}" for end in span.split("-")) for span in re.findall(".-.", CHINESE.pattern)]
    assert ranges == spans
    for family in ("base", "heading", "monospace"):
        assert re.search(rf'--pst-font-family-{family}: [^;]*"Chinese of the book";', CSS)


@pytest.mark.slow
def test_the_font_of_the_site_covers_every_chinese_character_of_it(site):
    font = site / "_static" / "chinese.woff"
    used = chinese_characters(site)
    assert len(used) > 200
    assert used - covered(font) == set()
    assert font.stat().st_size < 300_000
