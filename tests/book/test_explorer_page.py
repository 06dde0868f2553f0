"""The model in the built pages, opened from the disk: it answers, and it is the record's."""

import runpy
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

ROOT = Path(__file__).resolve().parents[2]
NODE = "document.querySelector('.gpt-explorer:not(.widget)')"
TOKENS = [5, 300, 799, 12, 1023, 64]


@pytest.fixture(scope="module")
def expected() -> torch.Tensor:
    """What the record's model says of some tokens, in PyTorch: (T, V)."""
    experiments = ROOT / "experiments"
    model, _ = runpy.run_path(str(experiments / "train_page_gpt.py"))["load"](experiments / "records" / "page_gpt.json")
    with torch.no_grad():
        return model(torch.tensor([TOKENS]))[0]


@pytest.mark.parametrize("place", ["book/preface.html", "chapters/code/gpt.html"])
def test_the_page_computes_what_the_record_says(site, browser, expected, place):
    page, problems = browser.new_page(), []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: request.url.startswith(("file:", "data:", "blob:")) or problems.append(request.url))
    page.goto((site / place).as_uri())
    page.wait_for_function(f"{NODE}.gpt !== undefined")
    found = page.evaluate(f"tokens => {NODE}.gpt.forward(tokens).map(row => Array.from(row.logits))", TOKENS)
    assert_close(torch.tensor(found), expected, rtol=0, atol=1e-4)
    page.get_by_role("button", name="Next token").click()
    page.wait_for_function(f"{NODE}.gpt.seen.length > {len(TOKENS)}")
    assert problems == []
    page.close()


def test_without_javascript_the_first_page_loses_nothing_else(site, browser):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((site / "book" / "preface.html").as_uri())
    assert "it needs JavaScript" in page.locator(".gpt-explorer").inner_text()
    assert page.get_by_role("heading", name="Where to begin").is_visible()
    context.close()


@pytest.mark.parametrize("asked, named", [
    ("softmax", "Glossary > softmax"),
    ("注意力", "Glossary > 多头注意力"),
    ("MultiHeadAttention", "Layers > tutorlib.layers.attention.MultiHeadAttention"),
    ("what breaks", "Scaled dot-product attention > What breaks"),
])
def test_a_search_names_the_entry_or_the_section(site, browser, asked, named):
    page = browser.new_page()
    page.goto((site / "search.html").as_uri() + f"?q={asked}")
    page.wait_for_selector(f"#search-results li a:has-text('{named}')", timeout=20_000)
    page.close()


def test_every_page_says_what_it_was_built_from(site):
    for page in ("book/preface.html", "chapters/code/gpt.html"):
        assert '<p class="built-from">Version 0.1.0' in (site / page).read_text("utf8")
