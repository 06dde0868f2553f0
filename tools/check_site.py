"""Read a built site and list what a reader would stumble over. Needs no browser and nothing installed.

    python tools/check_site.py _build/html

Reported: resources from outside the site, links and anchors that lead nowhere, images without alternative text, ids
used twice on a page, pages without a language or a title, and pages too heavy to load. Exit code 1 if there is any.
"""

from __future__ import annotations

import argparse
import posixpath
import re
import sys
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

HEAVIEST_PAGE = 8_000_000  # bytes of a page and all that it loads, uncompressed; MathJax and the icons are half of it
RESOURCES = {
    "script": ("src",),
    "img": ("src", "srcset"),
    "iframe": ("src",),
    "audio": ("src",),
    "video": ("src", "poster"),
    "source": ("src", "srcset"),
    "track": ("src",),
    "embed": ("src",),
    "object": ("data",),
    "input": ("src",),
    "image": ("href", "xlink:href"),
    "use": ("href", "xlink:href"),
}
LOADING = {"stylesheet", "icon", "preload", "prefetch", "modulepreload", "preconnect", "dns-prefetch", "manifest"}
OUTSIDE = re.compile(r"^(?:https?:|wss?:|ftp:)?//", re.IGNORECASE)
CSS_REFERENCE = re.compile(r"""url\(\s*["']?([^"')]+)["']?\s*\)|@import\s+["']([^"']+)["']""")
SCRIPT_REQUEST = re.compile(
    r"""(?:fetch|import|importScripts|open|sendBeacon|Worker|\.src\s*=|_URL\s*=)\W{0,4}["'`]((?:https?:|wss?:)?//[^"'`]+)"""
)
FILE_NAME = re.compile(r"^\S+\.(?:png|svg|jpe?g|gif|webp)$", re.IGNORECASE)


@dataclass
class Page:
    """What one HTML file says about itself."""

    language: str | None = None
    title: str = ""
    identifiers: list[str] = field(default_factory=list)
    anchors: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    resources: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    images: list[tuple[str, str | None]] = field(default_factory=list)


class Reader(HTMLParser):
    """Collects a Page."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.page = Page()
        self.inside = ""

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = dict(attributes)
        page = self.page
        self.inside = tag if tag in ("script", "style", "title") else ""
        if tag == "html":
            page.language = values.get("lang")
        if values.get("id"):
            page.identifiers.append(values["id"])
        if tag in ("a", "area") and values.get("href") is not None:
            page.links.append(values["href"])
        if tag == "a" and values.get("name"):
            page.anchors.add(values["name"])
        if tag == "form" and OUTSIDE.match(values.get("action") or ""):
            page.requests.append(values["action"])
        if tag == "link" and LOADING & set((values.get("rel") or "").lower().split()):
            page.resources.append(values.get("href") or "")
        for name in RESOURCES.get(tag, ()):
            if values.get(name):
                page.resources += addresses(values[name]) if name == "srcset" else [values[name]]
        if tag == "img" and values.get("aria-hidden") != "true" and values.get("role") not in ("presentation", "none"):
            page.images.append((values.get("src") or "", values.get("alt")))
        page.resources += css_references(values.get("style") or "")

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        self.inside = ""

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside == "script":
            self.page.requests += SCRIPT_REQUEST.findall(data)
        elif self.inside == "style":
            self.page.resources += css_references(data)
        elif self.inside == "title":
            self.page.title += data


def addresses(srcset: str) -> list[str]:
    return [candidate.split()[0] for candidate in srcset.split(",") if candidate.split()]


def css_references(text: str) -> list[str]:
    return [first or second for first, second in CSS_REFERENCE.findall(text)]


def read_page(path: Path) -> Page:
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    reader.close()
    reader.page.anchors |= set(reader.page.identifiers)
    return reader.page


class Site:
    """A folder of pages, each read once."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.files = {path.relative_to(self.root).as_posix(): path for path in self.root.rglob("*") if path.is_file()}
        self.pages = {
            name: read_page(path)
            for name, path in sorted(self.files.items())
            if name.endswith(".html") and not name.startswith("_static/")
        }

    def resolve(self, source: str, address: str) -> tuple[str, str] | None:
        """(file in the site, anchor) of a relative address on a page or style sheet; None if it leaves the site."""
        parts = urlsplit(address)
        path = unquote(parts.path)
        if path.startswith("/"):
            return None
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), path)) if path else source
        if path.endswith("/") or target == ".":
            target = f"{target}/index.html".removeprefix("./")
        return (target, unquote(parts.fragment)) if not target.startswith("..") else None


def findings(root: Path, heaviest: int = HEAVIEST_PAGE) -> list[str]:
    """Every problem of the site, one line each, in the order of its pages."""
    site = Site(root)
    if not site.pages:
        return [f"{root}: no pages"]
    found: list[str] = []
    for name, page in site.pages.items():
        problems = [
            *head_problems(page),
            *resource_problems(site, name, page.resources),
            *(f"requests {address} from outside the site" for address in page.requests),
            *link_problems(site, name, page),
            *image_problems(page),
            *weight_problems(site, name, page, heaviest),
        ]
        found += [f"{name}: {problem}" for problem in problems]
    for name in sorted(site.files):
        if name.endswith(".css"):
            references = css_references(site.files[name].read_text(encoding="utf-8", errors="replace"))
            found += [f"{name}: {problem}" for problem in resource_problems(site, name, references)]
    return found


def head_problems(page: Page):
    if not page.language:
        yield "no lang attribute on <html>"
    if not page.title.strip():
        yield "no title"
    for identifier in sorted({i for i in page.identifiers if page.identifiers.count(i) > 1}):
        yield f"the id {identifier!r} is used {page.identifiers.count(identifier)} times"


def resource_problems(site: Site, name: str, references: list[str]):
    for address in dict.fromkeys(references):
        if address.startswith(("data:", "#")):
            continue
        if OUTSIDE.match(address):
            yield f"loads {address} from outside the site"
        elif (target := site.resolve(name, address)) is None or target[0] not in site.files:
            yield f"loads {address}, which does not exist"


def link_problems(site: Site, name: str, page: Page):
    for address in dict.fromkeys(page.links):
        if urlsplit(address).scheme or OUTSIDE.match(address) or address in ("", "#"):
            continue
        target = site.resolve(name, address)
        if target is None or target[0] not in site.files:
            yield f"links to {address}, which does not exist"
        elif target[1] and target[0] in site.pages and target[1] not in site.pages[target[0]].anchors:
            yield f"links to {address}, but {target[0]} has no such anchor"


def image_problems(page: Page):
    for source, alternative in page.images:
        shown = source if len(source) < 60 else source[:57] + "..."
        if alternative is None:
            yield f"the image {shown} has no alternative text"
        elif not alternative.strip():
            yield f"the image {shown} has an empty alternative text"
        elif FILE_NAME.match(alternative.strip()) or alternative.strip() == source:
            yield f"the image {shown} has a file name as alternative text: {alternative}"


def weight(site: Site, name: str, page: Page) -> int:
    """Bytes of a page with everything it loads itself, uncompressed."""
    loaded = {name}
    for address in page.resources:
        target = site.resolve(name, address) if not address.startswith("data:") else None
        if target and target[0] in site.files:
            loaded.add(target[0])
    return sum(site.files[file].stat().st_size for file in loaded)


def weight_problems(site: Site, name: str, page: Page, heaviest: int):
    if (size := weight(site, name, page)) > heaviest:
        yield f"{size / 1e6:.1f} MB with what it loads; at most {heaviest / 1e6:.1f} MB"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("site", type=Path, help="the folder with the built pages")
    parser.add_argument("--heaviest", type=float, default=HEAVIEST_PAGE / 1e6, help="MB a page may load (%(default)s)")
    options = parser.parse_args(arguments)
    found = findings(options.site, int(options.heaviest * 1e6))
    print("\n".join(found) if found else "", end="\n" if found else "", file=sys.stderr)
    site = Site(options.site)
    if site.pages:
        heavy = max(site.pages, key=lambda name: weight(site, name, site.pages[name]))
        size = weight(site, heavy, site.pages[heavy]) / 1e6
        print(f"{len(site.pages)} pages checked, {len(found)} problems; the heaviest, {heavy}, loads {size:.1f} MB")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
