"""A chapter on paper: its text and figures whole, no bars, nothing past the edge; and two joined, with outline and links."""

import re

import pytest
from pypdf import PdfReader

from tools import pdf

CHAPTER, OTHER = "chapters/attention/scaled-dot-product", "book/glossary"
SHEET = {"width": 665, "height": 986}  # what the margins leave of A4, at 96 pixels an inch

CUT = """() => [...document.querySelectorAll("article *")].filter(node => {
  const box = node.getBoundingClientRect();
  const figure = node.matches("img, svg") && box.height > innerHeight;
  return box.width > 0 && !node.closest("mjx-assistive-mml") && (box.right > innerWidth + 1 || figure);
}).map(node => node.outerHTML.slice(0, 120))"""


@pytest.fixture(scope="module")
def printed(site, chromium, tmp_path_factory):
    target = tmp_path_factory.mktemp("pdf") / "two.pdf"
    pdf.print_book(chromium, site, [CHAPTER, OTHER], target)
    return PdfReader(target)


@pytest.fixture
def page(site, browser):
    opened = browser.new_page(viewport=SHEET)
    opened.goto((site / f"{CHAPTER}.html").as_uri())
    opened.evaluate(pdf.READY)
    opened.emulate_media(media="print")
    yield opened
    opened.close()


@pytest.mark.slow
def test_the_text_is_there_and_the_bars_are_not(printed):
    text = "\n".join(sheet.extract_text() for sheet in printed.pages[:15])
    for words in ("Scaled dot-product", "Why divide by the root?", "weights @ states", "What may a query not read?"):
        assert words in text
    assert not re.search(r"^\s*(Show code cell|Hide code cell|Check|Plot|Data|Solution|Imports)\b", text, flags=re.M)
    assert "click to" not in text.lower() and "Skip to main" not in text


@pytest.mark.slow
def test_the_outline_names_part_page_and_sections(printed):
    part, (page, sections), *_ = printed.outline
    assert (part.title, page.title) == ("Attention mathematics", "7. Scaled dot-product attention")
    assert sections[0].title == "7.1. How can a lookup be learned?"
    starts = [printed.get_destination_page_number(section) for section in sections if not isinstance(section, list)]
    assert starts == sorted(starts) and starts[-1] > starts[0]


def printed_links(sheet) -> list:
    return [link for reference in sheet["/Annots"] if "/Dest" in (link := reference.get_object())]


@pytest.mark.slow
def test_links_lead_to_sheets_or_out_of_the_book(printed):
    links = [link.get_object() for sheet in printed.pages for link in sheet["/Annots"]]
    inside = [link for link in links if "/Dest" in link]
    sheets = {sheet.indirect_reference.idnum for sheet in printed.pages}
    glossary = printed.get_destination_page_number(printed.outline[-1][0])
    assert any(printed.get_page_number(link["/Dest"][0].get_object()) >= glossary for link in printed_links(printed.pages[0]))
    assert len(inside) > 20 and all(link["/Dest"][0].idnum in sheets for link in inside)
    assert not any(str(link.get("/A", {}).get("/URI", "")).startswith("file:") for link in links)


def test_nothing_is_cut(page):
    assert page.evaluate(CUT) == []


def test_a_solution_is_printed_once_it_is_opened(page):
    solution = page.locator("details.hide:has-text('Solution')").first
    assert not solution.is_visible()
    page.evaluate("() => document.querySelectorAll('details.hide').forEach(fold => fold.open = true)")
    assert solution.locator("pre").first.is_visible() and not solution.locator("summary").is_visible()


def test_a_folded_question_shows_its_title_alone(page):
    question = page.locator(".admonition.question.toggle-hidden").first
    assert question.locator(".admonition-title").is_visible()
    assert not question.locator("p:not(.admonition-title)").first.is_visible()


def test_what_is_read_in_the_dark_is_printed_in_the_light(site, browser):
    context = browser.new_context(color_scheme="dark")
    page = context.new_page()
    page.goto((site / f"{CHAPTER}.html").as_uri())
    told = "event => { dispatchEvent(new Event(event)); return document.documentElement.dataset.theme }"
    themes = [page.evaluate(told, event) for event in ("nothing", "beforeprint", "afterprint")]
    assert themes == ["dark", "light", "dark"]
    context.close()


def test_what_is_missing_is_said(tmp_path, capsys, monkeypatch):
    assert pdf.main(["--site", str(tmp_path)]) == 1
    assert "run: make book" in capsys.readouterr().err
    (tmp_path / "index.html").write_text("<p>a book</p>", "utf8")
    monkeypatch.setattr(pdf, "find_browser", lambda: None)
    assert pdf.main(["--site", str(tmp_path)]) == 1
    assert "needs Chromium or Chrome" in capsys.readouterr().err
