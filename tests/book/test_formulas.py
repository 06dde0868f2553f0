"""Formulas have the line breaks of a phone where they need them, and none where a line only goes on and there is room."""

import pytest

PAGE = "chapters/attention/position.html"
FORMULAS = """() => [...MathJax.startup.document.math].filter(item => item.display).map(item => {
  const place = item.typesetRoot.parentElement.getBoundingClientRect();
  const svg = item.typesetRoot.querySelector("svg").getBoundingClientRect();
  const number = item.typesetRoot.parentElement.querySelector(".eqno")?.getBoundingClientRect();
  return {tex: item.math, cut: svg.right > place.right + 1 || svg.left < place.left - 1,
          hit: Boolean(number) && svg.right > number.left && svg.top < number.bottom && number.top < svg.bottom};
})"""


def formulas_at(browser, site, width):
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.goto((site / PAGE).as_uri())
    page.wait_for_selector("html[data-formulas=fitted]")
    found = page.evaluate(FORMULAS)
    page.close()
    return found


def of(formulas, words):
    formula, = (formula["tex"] for formula in formulas if words in formula["tex"])
    return formula


@pytest.mark.parametrize("width", [1280, 390])
def test_no_formula_is_cut_or_meets_its_number(browser, site, width):
    found = formulas_at(browser, site, width)
    assert len(found) > 5 and not [formula["tex"] for formula in found if formula["cut"] or formula["hit"]]


def test_a_line_that_goes_on_is_one_line_where_there_is_room(browser, site):
    wide, narrow = (of(formulas_at(browser, site, width), r"\sin .01, \cos .01") for width in (1280, 390))
    assert wide.count("\\\\") == 0 < narrow.count("\\\\")


def test_equations_of_their_own_stay_lines(browser, site):
    assert of(formulas_at(browser, site, 1280), r"P_{p,2i+1}").count("\\\\") == 2


def test_a_window_made_narrow_breaks_them_again(browser, site):
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto((site / PAGE).as_uri())
    page.wait_for_selector("html[data-formulas=fitted]")
    page.set_viewport_size({"width": 390, "height": 900})
    page.wait_for_function("""() => [...MathJax.startup.document.math].some(
      item => item.math.includes("sin .01") && item.math.includes("\\\\\\\\"))""")
    page.close()
