import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools" / "sphinx_ext"))
from accessible import EMPTY_HEADER, WITHDRAWN, mended


def test_the_corner_of_a_table_is_a_cell_and_a_name_stays_a_header():
    row = '<tr><th class="head"><p></p></th>\n<th class="head text-right"> </th><th class="head"><p>bits</p></th></tr>'
    assert mended(row) == '<tr><td class="head"></td>\n<td class="head text-right"></td><th class="head"><p>bits</p></th></tr>'


def test_an_entry_of_the_bibliography_is_an_item_of_its_list():
    entry = '<div role="list" class="citation-list"><div class="citation" id="id1" role="{}"></div></div>'
    assert mended(entry.format("doc-biblioentry")) == entry.format("listitem")


def test_no_page_has_either(site):
    pages = {page.stem: page.read_text("utf8") for page in site.rglob("*.html")}
    assert [name for name, html in pages.items() if EMPTY_HEADER.search(html) or WITHDRAWN in html] == []
