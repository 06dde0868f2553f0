"""The built site, a server for it, and one browser for all tests that open pages."""

from __future__ import annotations

import os
import shutil
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
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # the network is off, but for the site's own server
]

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
def browser(site: Path):
    """The system's Chromium, started once."""
    names = [os.environ.get("CHROMIUM"), *BROWSERS]
    executable = next((found for name in names if name and (found := shutil.which(name))), None)
    if executable is None:
        reason = f"no Chromium found (looked for {', '.join(BROWSERS)}): the pages were not opened in a browser"
        if os.environ.get("CI"):
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=executable, headless=True, args=FLAGS)
        yield chromium
        chromium.close()
