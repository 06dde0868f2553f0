"""A font for the Chinese of the book, for a reader whose machine has none: only the characters that the pages use.

The glyphs are those of Noto Sans SC (SIL Open Font License 1.1), read from the installed package pylopdf-fonts-zh-cn.
"""

from __future__ import annotations

import html
import re
from importlib.util import find_spec
from pathlib import Path

from fontTools.subset import Options, Subsetter
from fontTools.ttLib import TTFont

CHINESE = re.compile("[\u2e80-\u303f\u3400-\u9fff\uf900-\ufaff\ufe30-\ufe4f\uff00-\uffef]")  # as unicode-range in custom.css


def chinese_characters(site: Path) -> set[str]:
    """The Chinese characters and punctuation in the text and the scripts of every page, and in the search index."""
    pages = [*site.rglob("*.html"), *site.glob("searchindex.js")]
    return {found for page in pages for found in CHINESE.findall(html.unescape(page.read_text(encoding="utf-8")))}


def installed_font() -> Path:
    """The whole font, 8 MB; raises FileNotFoundError if the package that carries it is not installed."""
    package = find_spec("pylopdf_fonts_zh_cn")
    if package is None or not package.submodule_search_locations:
        raise FileNotFoundError(
            "the package pylopdf-fonts-zh-cn is not installed; run: pip install --no-deps -r requirements-data.txt"
        )
    return Path(package.submodule_search_locations[0], "NotoSansSC-Regular.otf")


def write_subset(characters: set[str], target: Path) -> None:
    """Write the glyphs of these characters as a WOFF file.

    Raises ValueError, before anything is written, for characters that the font does not have.
    """
    font = TTFont(installed_font())
    missing = characters - set(map(chr, font.getBestCmap()))
    if missing:
        raise ValueError(f"characters: Noto Sans SC has no glyph for {' '.join(sorted(missing))}")
    options = Options(layout_features=[], hinting=False, notdef_outline=True, name_IDs=["*"])  # the names hold the licence
    subsetter = Subsetter(options)
    subsetter.populate(text="".join(sorted(characters)))
    subsetter.subset(font)
    font.flavor = "woff"  # zlib, which every Python has; woff2 would need one more package and save a quarter
    font.save(target)
