"""Print the built book through the system's Chromium, and join its pages into one PDF with an outline and working links.

    python tools/pdf.py                                        # every page of _toc.yml, into _build/large-models.pdf
    python tools/pdf.py chapters/code/gpt chapters/code/bert   # these alone

It needs _build/html (make book), Chromium or Chrome, and the packages playwright and pypdf, which requirements.txt pins. What
is folded on a page is not printed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "_build" / "html"
TARGET = ROOT / "_build" / "large-models.pdf"

sys.path.insert(0, str(ROOT / "tools"))
from browser import FLAGS, NAMES, find_browser  # noqa: E402
from build_book import toc_parts  # noqa: E402
from check_site import Site  # noqa: E402

FOOTER = """<div style="width: 100%; margin: 0 17mm; font: 8px sans-serif; color: #555; display: flex">
<span class="title" style="flex: 1"></span><span class="pageNumber"></span></div>"""

READY = """async () => {
  if (window.MathJax) await MathJax.startup.promise;
  await document.fonts.ready;
  await Promise.all([...document.images].map(image => image.decode().catch(() => {})));
}"""

# Chromium keeps the place of an anchor only if something on the page links to it, so the links of other pages are repeated.
KEEP_ANCHORS = """anchors => {
  const box = document.createElement("div");
  box.hidden = true;
  for (const anchor of anchors) {
    const link = document.createElement("a");
    link.href = "#" + anchor;
    box.append(link);
  }
  document.body.append(box);
}"""

HEADINGS = """() => [...document.querySelectorAll("article section[id] > :is(h1, h2, h3)")].map(heading => {
  const copy = heading.cloneNode(true);
  copy.querySelectorAll(".headerlink, mjx-assistive-mml").forEach(node => node.remove());
  return [Number(heading.tagName[1]), copy.textContent.trim(), heading.parentElement.id];
})"""


class PrintError(Exception):
    """The book could not be printed; the message says what is missing."""


@dataclass
class Printed:
    """A page of the book on paper."""

    page: str
    headings: list[tuple[int, str, str]]  # level, words, anchor
    file: Path


def print_pages(browser, site: Site, pages: list[str], folder: Path) -> Iterator[Printed]:
    """Each page on sheets of A4, as its print style has it."""
    anchors = anchors_asked_for(site)
    for number, page in enumerate(pages):
        opened = browser.new_page()
        opened.goto((site.root / f"{page}.html").as_uri(), wait_until="load")
        opened.evaluate(READY)
        headings = [tuple(heading) for heading in opened.evaluate(HEADINGS)]
        opened.evaluate(KEEP_ANCHORS, sorted({anchor for *_, anchor in headings} | anchors.get(f"{page}.html", set())))
        file = folder / f"{number}.pdf"
        opened.pdf(path=str(file), format="A4", prefer_css_page_size=True, print_background=True,
                   display_header_footer=True, header_template="<span></span>", footer_template=FOOTER)
        opened.close()
        yield Printed(page, headings, file)


def anchors_asked_for(site: Site) -> dict[str, set[str]]:
    """For each file, the anchors on it that any page links to."""
    asked: dict[str, set[str]] = {}
    for name, page in site.pages.items():
        for link in page.links:
            target = None if "://" in link else site.resolve(name, link)
            if target and target[1]:
                asked.setdefault(target[0], set()).add(target[1])
    return asked


def join(printed: list[Printed], site: Site, parts: list[tuple[str, list[str]]], target: Path) -> int:
    """Write one PDF of all pages, with the outline of `parts`; the number of its sheets."""
    from pypdf import PdfReader, PdfWriter

    writer, places, pages_of_sheets = PdfWriter(), {}, []
    for piece in printed:
        reader, start = PdfReader(piece.file), len(pages_of_sheets)
        places[f"{piece.page}.html", ""] = (start, None)
        for name, found in reader.named_destinations.items():
            sheet = start + reader.get_destination_page_number(found)
            places[f"{piece.page}.html", unquote(name.removeprefix("/"))] = (sheet, float(found.top))
        for sheet in reader.pages:
            writer.add_page(sheet)
            pages_of_sheets.append(f"{piece.page}.html")
    for sheet, page in zip(writer.pages, pages_of_sheets):
        mend_links(writer, sheet, page, site, places)
    add_outline(writer, {piece.page: piece for piece in printed}, parts, places)
    writer.add_metadata({"/Title": "Large Models, Line by Line"})
    writer.page_mode = "/UseOutlines"
    target.parent.mkdir(parents=True, exist_ok=True)
    writer.write(target)
    return len(pages_of_sheets)


def mend_links(writer, sheet, page: str, site: Site, places: dict) -> None:
    """Links within the book lead to its sheets; those to files that are not printed are taken off, the others stay."""
    from pypdf.generic import ArrayObject, NameObject

    kept = ArrayObject()
    for reference in sheet.get("/Annots", []):
        link = reference.get_object()
        key = target_of(link, page, site)
        if key is not None:
            place = places.get(key) or places.get((key[0], ""))
            if place is None:
                continue
            link.pop("/A", None)
            link[NameObject("/Dest")] = destination(writer, *place)
        kept.append(reference)
    sheet[NameObject("/Annots")] = kept


def target_of(link, page: str, site: Site) -> tuple[str, str] | None:
    """(file, anchor) of a link within the book, or None if it leads out of it."""
    if "/Dest" in link:
        return page, unquote(str(link["/Dest"]).removeprefix("/"))
    address = str(link.get("/A", {}).get("/URI", ""))
    root = site.root.as_uri() + "/"
    if not address.startswith("file:"):
        return None
    file, _, anchor = address.removeprefix(root).partition("#")
    return unquote(file), unquote(anchor)


def destination(writer, sheet: int, top: float | None):
    from pypdf.generic import ArrayObject, FloatObject, NameObject, NullObject

    height = NullObject() if top is None else FloatObject(top)
    return ArrayObject([writer.pages[sheet].indirect_reference, NameObject("/XYZ"), NullObject(), height, NullObject()])


def add_outline(writer, printed: dict[str, Printed], parts: list[tuple[str, list[str]]], places: dict) -> None:
    """Parts, pages and their sections, as the book's own contents have them."""
    from pypdf.generic import Fit

    for caption, pages in parts:
        pages = [page for page in pages if page in printed]
        part = None
        if caption and pages:
            part = writer.add_outline_item(title=caption, page_number=places[f"{pages[0]}.html", ""][0])
        for page in pages:
            above = {}
            for level, words, anchor in printed[page].headings:
                sheet, top = places.get((f"{page}.html", anchor), places[f"{page}.html", ""])
                parent = next((above[up] for up in range(level - 1, 0, -1) if up in above), part)
                above = {up: item for up, item in above.items() if up < level}
                above[level] = writer.add_outline_item(title=words, page_number=sheet, parent=parent,
                                                       fit=Fit.xyz(top=top), is_open=False)


def print_book(browser, folder: Path, pages: list[str], target: Path) -> int:
    """Print these pages of a built book, or all, in an open browser; the number of sheets."""
    parts, site = toc_parts(), Site(folder)
    asked = pages or [page for _, listed in parts for page in listed]
    if unknown := [page for page in asked if f"{page}.html" not in site.pages]:
        raise PrintError(f"the built book has no page {', '.join(unknown)}")
    with tempfile.TemporaryDirectory() as temporary:
        printed = list(print_pages(browser, site, asked, Path(temporary)))
        return join(printed, site, parts, target)


def check_needs(folder: Path) -> str:
    """The path of the browser; raises PrintError if it or anything else is missing."""
    if not (folder / "index.html").exists():
        raise PrintError(f"{folder} has no built book; run: make book")
    if missing := [name for name in ("playwright", "pypdf") if find_spec(name) is None]:
        raise PrintError(f"it needs the packages playwright and pypdf; run: pip install {' '.join(missing)}")
    executable = find_browser()
    if executable is None:
        raise PrintError(f"it needs Chromium or Chrome; none was found as {', '.join(NAMES)} or in the variable CHROMIUM")
    return executable


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", nargs="*", help="pages as _toc.yml names them; all, if none is given")
    parser.add_argument("--site", type=Path, default=SITE, help="the built book")
    parser.add_argument("--output", type=Path, default=TARGET)
    options = parser.parse_args(arguments)
    start = time.perf_counter()
    try:
        executable = check_needs(options.site)
        from playwright.sync_api import sync_playwright

        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=executable, args=FLAGS)
            sheets = print_book(browser, options.site.resolve(), options.pages, options.output)
            browser.close()
    except PrintError as error:
        print(f"The book was not printed: {error}.", file=sys.stderr)
        return 1
    size = options.output.stat().st_size / 1e6
    print(f"{options.output}: {sheets} sheets, {size:.0f} MB, in {time.perf_counter() - start:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
