import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools" / "sphinx_ext"))
from empty_headers import EMPTY, with_cells


def test_the_corner_of_a_table_is_a_cell_and_a_name_stays_a_header():
    row = '<tr><th class="head"><p></p></th>\n<th class="head text-right"> </th><th class="head"><p>bits</p></th></tr>'
    assert with_cells(row) == ('<tr><td class="head"></td>\n<td class="head text-right"></td>'
                               '<th class="head"><p>bits</p></th></tr>')


def test_no_page_has_a_header_without_words(site):
    assert [page.stem for page in site.rglob("*.html") if EMPTY.search(page.read_text("utf8"))] == []
