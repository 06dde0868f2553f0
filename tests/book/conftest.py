"""The built site, a server for it, and the browser for the tests that open its pages."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / "_build" / "html"
SOURCES = ("_config.yml", "_toc.yml", "book/**/*", "chapters/**/*.ipynb", "tutorlib/**/*.py")
NOT_SOURCES = {"mathjax", ".ipynb_checkpoints", "__pycache__"}

sys.path.insert(0, str(ROOT / "tools"))


def newest_source() -> Path:
    files = (path for pattern in SOURCES for path in ROOT.glob(pattern))
    kept = (path for path in files if path.is_file() and not NOT_SOURCES & set(path.parts))
    return max(kept, key=lambda path: path.stat().st_mtime)


@pytest.fixture(scope="session")
def site() -> Path:
    """The folder of the built book; it must be there, and newer than what it was built from."""
    index = SITE / "index.html"
    if not index.exists():
        pytest.fail("_build/html is missing; run: make book", pytrace=False)
    source = newest_source()
    if source.stat().st_mtime > index.stat().st_mtime:
        pytest.fail(f"_build/html is older than {source.relative_to(ROOT)}; run: make book", pytrace=False)
    return SITE


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_) -> None:
        pass


@pytest.fixture(scope="session")
def server(site: Path) -> Iterator[str]:
    """The site's address over http."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(site))) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()


@pytest.fixture(scope="session")
def browser(site: Path, chromium):
    """The browser, where there is a book to open."""
    return chromium
