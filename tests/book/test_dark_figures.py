import io
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools" / "sphinx_ext"))
from dark_figures import is_ink


def test_a_figure_with_a_picture_is_no_ink():
    assert is_ink("<svg><path/></svg>") and not is_ink('<svg><image href="data:image/png;base64,"/></svg>')


@pytest.mark.parametrize("scheme, dark", [("light", False), ("dark", True)])
def test_a_plot_stands_on_the_ground_of_its_page(site, browser, scheme, dark):
    context = browser.new_context(color_scheme=scheme, viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.goto((site / "chapters/attention/scaled-dot-product.html").as_uri())
    shot = page.locator(".cell_output img.ink").first.screenshot()
    gray = np.asarray(Image.open(io.BytesIO(shot)).convert("L"))
    assert (np.median(gray) < 40) == dark and np.ptp(gray) > 150  # its lines stand out from it
    context.close()


def test_a_figure_with_a_picture_keeps_its_colors(site):
    for page in ("chapters/applications/segmentation", "chapters/code/vit"):
        html = (site / f"{page}.html").read_text("utf8")
        assert '<img alt="' in html
        marked = [tag.split('src="')[1].split('"')[0] for tag in html.split("<img ")[1:] if 'class="ink"' in tag.split(">")[0]]
        for address in marked:
            assert "<image" not in (site / page).parent.joinpath(address).resolve().read_text("utf8")
