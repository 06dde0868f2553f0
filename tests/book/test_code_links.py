import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools" / "sphinx_ext"))
from code_links import from_package, with_links  # noqa: E402

CELL = '<div class="highlight-ipython3 notranslate"><div class="highlight"><pre>{}</pre></div></div>'
PLACES = {"mask": ("../api.html#mask", "tutorlib.layers.masks.mask")}


def n(name: str) -> str:
    return f'<span class="n">{name}</span>'


def test_a_name_of_a_room_means_the_one_of_its_file_and_what_a_cell_defines_anew_means_nothing():
    codes = ["from tutorlib.layers import LayerNorm, causal_mask as look\nfrom torch import nn",
             "from tutorlib.tables import table\ndef f(number): table = number", "from tutorlib.tables import number"]
    assert from_package(ROOT, codes) == {"LayerNorm": "tutorlib.layers.normalization.LayerNorm",
                                         "look": "tutorlib.layers.masks.causal_mask"}


def test_the_first_use_in_each_cell_is_a_link():
    page = CELL.format(n("mask") + n("mask")) + CELL.format(n("mask"))
    link = f'<a class="code-name" href="../api.html#mask" title="tutorlib.layers.masks.mask">{n("mask")}</a>'
    assert with_links(page, PLACES) == CELL.format(link + n("mask")) + CELL.format(link)


def test_attributes_keywords_and_what_stands_outside_of_cells_stay():
    page = CELL.format(f'{n("x")}<span class="o">.</span>{n("mask")}({n("mask")}<span class="o">=</span>1)') + n("mask")
    assert with_links(page, PLACES) == page


def test_a_chapter_leads_to_the_interface(site):
    page = (site / "chapters" / "attention" / "multi-head.html").read_text("utf8")
    links = re.findall(r'<a class="code-name" href="([^"#]+)#([^"]+)"', page)
    assert len(links) > 5
    for address, anchor in links:
        assert f'id="{anchor}"' in (site / "chapters" / "attention" / address).resolve().read_text("utf8")
