"""Every page of the built book in Chromium: from a server and from the disk, light and dark, with the network off."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tools.build_book import toc_pages

pytestmark = pytest.mark.slow

PAGES = [*toc_pages(), "search", "genindex"]
WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
MATH = re.compile(r'<(?:span|div)\b[^>]*\bclass="(?:amsmath )?math notranslate nohighlight"')

# What axe finds in the markup of the theme and of MathJax, and no page of ours can mend: (rule, part of the element).
THEME_FINDINGS = [
    ("region", 'class="sidebar-primary-item"'),  # the book's title stands outside the theme's landmarks
    # A formula alone in a header: MathJax hands its MathML to a screen reader, and axe takes no MathML for text.
    ("empty-table-header", '<th class="head">'),
]

COUNT_RENDERED = """async () => {
  if (window.MathJax) await MathJax.startup.promise;
  const sources = [...document.querySelectorAll("span.math, div.math")];
  return {
    sources: sources.length,
    rendered: sources.filter(node => node.querySelector("mjx-container svg")).length,
    errors: document.querySelectorAll("mjx-merror, [data-mml-node=merror]").length,
    undefined_macros: [...document.querySelectorAll("mjx-assistive-mml mtext")]
      .map(node => node.textContent).filter(text => text.startsWith("\\\\")),
  };
}"""


WIDEST = """() => {
  const out = node => node.getBoundingClientRect().right > innerWidth + 1;
  return [...document.querySelectorAll("article *")].find(out)?.outerHTML.slice(0, 200) ?? "outside the article";
}"""


class Visit:
    """One page, opened, with everything that went wrong on the way."""

    def __init__(self, context, address: str, origin: str) -> None:
        self.problems: list[str] = []
        self.page = context.new_page()
        self.page.on("request", lambda request: self.note_request(request.url, origin))
        self.page.on("requestfailed", lambda request: self.problems.append(f"failed request: {request.url}"))
        self.page.on("response", lambda r: r.status >= 400 and self.problems.append(f"status {r.status}: {r.url}"))
        self.page.on("console", lambda m: m.type == "error" and self.problems.append(f"console: {m.text}"))
        self.page.on("pageerror", lambda error: self.problems.append(f"script error: {error}"))
        self.page.goto(address, wait_until="load")

    def note_request(self, address: str, origin: str) -> None:
        if not address.startswith((origin, "data:", "blob:")):
            self.problems.append(f"request outside the site: {address}")

    def __enter__(self) -> Visit:
        return self

    def __exit__(self, *_) -> None:
        self.page.close()


@pytest.fixture(scope="module")
def contexts(browser):
    """One browser context for each color scheme and width, made when first asked for."""
    made = {}

    def context(scheme: str, viewport: dict):
        key = (scheme, viewport["width"])
        if key not in made:
            made[key] = browser.new_context(color_scheme=scheme, viewport=viewport)
        return made[key]

    yield context
    for opened in made.values():
        opened.close()


def formulas(site: Path, page: str) -> int:
    return len(MATH.findall((site / f"{page}.html").read_text(encoding="utf-8")))


def assert_formulas_rendered(visit: Visit, expected: int) -> None:
    state = visit.page.evaluate(COUNT_RENDERED)
    assert state["sources"] == state["rendered"] == expected
    assert state["errors"] == 0
    assert state["undefined_macros"] == []


def axe_findings(visit: Visit, rules: list[str] | None = None) -> list[str]:
    """What axe-core objects to, by all its rules or the given ones, but for the theme's own."""
    from axe_playwright_python.base import AXE_SCRIPT

    # A color halfway through a transition is nobody's choice: let every transition end at once.
    visit.page.add_style_tag(content="*, *::before, *::after { transition: none !important; animation: none !important; }")
    visit.page.evaluate(AXE_SCRIPT)
    # Without preload, axe asks for no style sheets, at wrong addresses; only a rule that is off needs them.
    options = {"resultTypes": ["violations"], "preload": False}
    if rules:
        options["runOnly"] = {"type": "rule", "values": rules}
    violations = visit.page.evaluate("options => axe.run(options).then(found => found.violations)", options)
    found = []
    for violation in violations:
        for node in violation["nodes"]:
            if not any(violation["id"] == rule and part in node["html"] for rule, part in THEME_FINDINGS):
                found.append(f"{violation['id']}: {' '.join(map(str, node['target']))}: {node['html'][:120]}")
    return found


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("page", PAGES)
def test_page_from_a_server(site: Path, server: str, contexts, page: str, scheme: str) -> None:
    """Wide, over http: nothing fails, formulas are rendered, the color scheme is the reader's, and axe is content."""
    with Visit(contexts(scheme, WIDE), f"{server}/{page}.html", server) as visit:
        assert_formulas_rendered(visit, formulas(site, page))
        assert visit.page.evaluate("document.documentElement.dataset.theme") == scheme
        assert axe_findings(visit, rules=None if scheme == "light" else ["color-contrast"]) == []
        assert visit.problems == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("page", PAGES)
def test_page_from_the_disk(site: Path, contexts, page: str, scheme: str) -> None:
    """Narrow, from a file: nothing fails, formulas are rendered, and nothing is wider than a telephone."""
    with Visit(contexts(scheme, NARROW), (site / f"{page}.html").as_uri(), site.as_uri()) as visit:
        assert_formulas_rendered(visit, formulas(site, page))
        width = visit.page.evaluate("document.documentElement.scrollWidth")
        assert width <= NARROW["width"], f"the page is {width} pixels wide: {widest(visit)}"
        assert visit.problems == []


def widest(visit: Visit) -> str:
    """The outermost element that sticks out at the right."""
    return visit.page.evaluate(WIDEST)


def test_pages_of_source_code(site: Path, contexts) -> None:
    """The pages that show the package's source, which the table of contents does not name."""
    for path in sorted((site / "_modules").rglob("*.html")):
        with Visit(contexts("light", NARROW), path.as_uri(), site.as_uri()) as visit:
            assert visit.page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"], path.name
            assert visit.problems == [], path.name


@pytest.mark.parametrize("place", ["server", "disk"])
def test_search_finds_words_of_the_text(site: Path, server: str, contexts, place: str) -> None:
    base = server if place == "server" else site.as_uri()
    with Visit(contexts("light", WIDE), f"{base}/search.html?q=attention", base) as visit:
        # The results appear one after another: a chapter among them is waited for, and its absence is a failure.
        visit.page.wait_for_selector("#search-results ul.search li > a[href*='chapters/attention/']", timeout=10_000)
        visit.page.wait_for_load_state("networkidle")
        assert visit.problems == []


def test_index_leads_to_the_first_page(site: Path, contexts) -> None:
    with Visit(contexts("light", WIDE), (site / "index.html").as_uri(), site.as_uri()) as visit:
        visit.page.wait_for_url(f"**/{PAGES[0]}.html", timeout=10_000)


def test_chapters_offer_their_notebook(site: Path) -> None:
    for page in toc_pages():
        if page.startswith("chapters/"):
            html = (site / f"{page}.html").read_text(encoding="utf-8")
            assert re.search(rf'href="[^"]*_sources/{page}\.ipynb"', html), page


class Prose(HTMLParser):
    """The text that a page shows, without code, scripts and formulas."""

    LEFT_OUT = frozenset({"code", "pre", "script", "style"})

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[str] = []
        self.open: list[str] = []  # the element that is left out, and those inside it that bear one of its names

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        formula = "math" in (dict(attributes).get("class") or "").split()
        if tag in self.LEFT_OUT or formula or tag in self.open:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self.open and self.open[-1] == tag:
            self.open.pop()

    def handle_data(self, data: str) -> None:
        if not self.open:
            self.shown.append(data)


def raw_formulas(html: str) -> list[str]:
    """TeX in the prose that nothing has rendered: between dollars that touch what they enclose, unlike $5 or $6."""
    prose = Prose()
    prose.feed(html)
    return re.findall(r"\$(?!\s)[^$\n]+(?<!\s)\$", "".join(prose.shown))


def test_raw_formulas_are_found_in_prose_alone() -> None:
    assert raw_formulas("<p>a rate of $O(1/k^2)$</p>") == ["$O(1/k^2)$"]
    assert raw_formulas('<div class="math notranslate"><div>$x$</div> $y$</div><pre><span>$z$</span> $w$</pre>') == []
    assert raw_formulas("<p>it costs $5 or $6</p><code>$x$</code>") == []


def test_no_page_shows_a_formula_as_source(site: Path) -> None:
    """TeX between dollars, as sphinxcontrib-bibtex copies it from a title, reaches no reader."""
    pages = [*(site / f"{page}.html" for page in toc_pages()), *(site / "_modules").rglob("*.html")]
    found = {path.stem: raw for path in pages if (raw := raw_formulas(path.read_text(encoding="utf-8")))}
    assert found == {}


def test_no_page_shows_a_table_as_source(site: Path) -> None:
    """A table that nothing has rendered is a paragraph of bars."""
    found = [page for page in toc_pages() if re.search(r"<p>\s*\|", (site / f"{page}.html").read_text(encoding="utf-8"))]
    assert found == []


def test_keyboard_reaches_the_text_first(site: Path, contexts) -> None:
    """The first press of the tab key offers to skip the navigation."""
    with Visit(contexts("light", WIDE), (site / f"{PAGES[0]}.html").as_uri(), site.as_uri()) as visit:
        visit.page.keyboard.press("Tab")
        assert visit.page.evaluate("document.activeElement.getAttribute('href')") == "#main-content"
