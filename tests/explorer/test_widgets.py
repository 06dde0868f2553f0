"""The widgets calculate in the page what PyTorch does: in Chromium, from the disk, network off."""

import math
from collections.abc import Callable

import pytest
import torch
from torch.testing import assert_close

from tutorlib.explorer import attention_by_hand, sampling, turning
from tutorlib.explorer.widgets import Widget
from tutorlib.generation import truncate
from tutorlib.layers import RotaryPosition

FOUND = "document.querySelector('.widget').found"
STATES = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]])


def by_hand() -> Widget:
    return attention_by_hand(["the", "river", "bank"], STATES, STATES, STATES, 2**0.5)


@pytest.fixture
def opened(chromium, tmp_path):
    """Opens a widget in a page of its own, and holds at the end that nothing was fetched and nothing complained."""
    problems, pages = [], []

    def show(widget: Widget):
        path = tmp_path / "widget.html"
        path.write_text(f"<!doctype html><meta charset=utf8>{widget._repr_html_()}", "utf8")
        page = chromium.new_page()
        page.on("request", lambda request: request.url == path.as_uri() or problems.append(request.url))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda message: problems.append(message.text))
        page.goto(path.as_uri())
        pages.append(page)
        return page

    yield show
    for page in pages:
        page.close()
    assert problems == []


@pytest.mark.slow
def test_attention_is_softmax_of_products_times_values(opened):
    page = opened(by_hand())
    queries, values = STATES.clone(), STATES.clone()
    page.get_by_label("query of bank, number 1").fill("-2")
    page.get_by_label("value of the, number 2").fill("3.5")
    page.get_by_label("scores divided by").fill("0.5")
    queries[2, 0], values[0, 1] = -2, 3.5
    weights = (queries @ STATES.T / 0.5).softmax(-1)
    found = page.evaluate(FOUND)
    assert_close(torch.tensor(found["weights"]), weights, rtol=0, atol=1e-6)
    assert_close(torch.tensor(found["outputs"]), weights @ values, rtol=0, atol=1e-6)
    assert page.locator("[role=status] tbody tr").nth(2).locator("td").nth(2).inner_text() == f"{weights[2, 2]:.2f}"
    page.get_by_role("button", name="Start again").click()
    assert_close(torch.tensor(page.evaluate(FOUND)["weights"]), (STATES @ STATES.T / 1.41).softmax(-1), rtol=0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("temperature, k, p", [(1.0, 0, 1.0), (0.5, 3, 1.0), (2.0, 0, 0.6), (1.0, 2, 0.6), (1.0, 0, 0.05)])
def test_what_can_be_drawn_is_what_generate_draws_from(opened, temperature, k, p):
    scores = torch.tensor([2.0, 1.5, 0.1, -1.0, 0.7, -3.0])
    page = opened(sampling(list("abcdef"), scores))
    for name, value in (("temperature", temperature), ("top-k", k), ("top-p", p)):
        page.get_by_label(name).fill(str(value))
    logits = truncate(scores[None] / temperature, top_k=k or None, top_p=p)[0]
    expected = logits.softmax(-1)
    assert_close(torch.tensor(page.evaluate(FOUND), dtype=torch.float32), expected, rtol=0, atol=1e-4)
    page.get_by_role("button", name="Draw a hundred").click()
    counts = [int(text.split("· ")[1]) for text in page.locator(".number").all_inner_texts()]
    assert sum(counts) == 100 and all(count == 0 for count, left in zip(counts, expected, strict=True) if left == 0)
    assert f"{int((expected > 0).sum())} of 6 tokens" in page.locator(".note").inner_text()


@pytest.mark.slow
def test_hands_turn_as_rotary_positions_do(opened):
    page = opened(turning(2, 1, 30))
    assert page.locator("label").all_inner_texts() == ["place of the query 3", "place of the key 1", "degrees a place 30"]
    rotary = RotaryPosition(2)
    for m, n in ((3, 1), (4, 2), (7, 0)):
        page.get_by_label("place of the query").fill(str(m))
        page.get_by_label("place of the key").fill(str(n))
        page.get_by_label("degrees a place").fill(str(round(math.degrees(1))))
        found = page.evaluate(FOUND)
        query, key = (rotary(torch.tensor([[[[length, 0.0]]]]), offset=place)[0, 0, 0]
                      for length, place in ((2.0, m), (1.0, n)))
        assert_close(torch.tensor(found["query"]), query, rtol=0, atol=0.15)  # whole degrees: 57 for 57.3
        assert found["product"] == pytest.approx(2 * math.cos(math.radians(57 * (m - n))), abs=1e-9)
        assert found["product"] == pytest.approx(float(query @ key), abs=0.1)
    page.get_by_role("button", name="Both one on").click()
    assert page.evaluate(FOUND)["product"] == pytest.approx(found["product"])
    assert "Distance 7" in page.locator(".note").inner_text()


@pytest.mark.slow
@pytest.mark.parametrize("make", [by_hand, lambda: sampling(["a", "b"], torch.zeros(2)), lambda: turning(2, 1, 30)])
def test_everything_has_a_name_and_fits_a_phone(opened, make: Callable[[], Widget]):
    page = opened(make())
    page.set_viewport_size({"width": 345, "height": 800})  # what is left of 390 beside the margins of a cell
    parts = "[...document.querySelectorAll('.widget :is(button, input, svg)')]"
    assert page.evaluate(f"{parts}.filter(n => !(n.ariaLabel || n.innerText?.trim() || n.labels?.length)).length") == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= 345
    assert page.evaluate("[...document.querySelectorAll('section')].filter(n => n.scrollWidth > n.clientWidth).length") == 0


@pytest.mark.parametrize("wrong, named", [
    (lambda: attention_by_hand(["a"], STATES, STATES, STATES), "queries must have a row for each of the 1 words"),
    (lambda: attention_by_hand(list("abc"), STATES[:, :1], STATES, STATES), "equally wide, got 1 and 2"),
    (lambda: attention_by_hand(list("abc"), STATES, STATES, STATES, 0), "division must be above 0, got 0"),
    (lambda: sampling(["a", "b"], torch.zeros(3)), r"scores must hold a finite number for each of the 2 tokens, got \(3,\)"),
    (lambda: sampling(["a"], torch.tensor([float("nan")])), "finite"),
    (lambda: turning(0, 1, 30), "query and key must be lengths above 0, got 0 and 1"),
    (lambda: turning(1, 1, 30, places=2), "places must be 3 at least, got 2"),
])
def test_wrong_data_is_refused(wrong, named):
    with pytest.raises(ValueError, match=named):
        wrong()


def test_the_output_is_the_same_bytes_each_time():
    assert by_hand()._repr_html_() == by_hand()._repr_html_() and "attention" in repr(by_hand())
