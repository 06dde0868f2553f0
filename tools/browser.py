"""The Chromium that the system has, for the tests and for printing; nothing is downloaded."""

from __future__ import annotations

import os
import shutil

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
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


def find_browser() -> str | None:
    """The path of Chromium or Chrome: what the variable CHROMIUM names, or else the first of `NAMES` that is there."""
    names = [os.environ.get("CHROMIUM"), *NAMES]
    return next((found for name in names if name and (found := shutil.which(name))), None)
