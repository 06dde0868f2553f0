"""Where the book's repository is configured, its pages lead there: to report an error, and to run a chapter on Binder or Colab.

One setting, `repository: url:` of _config.yml, an address https://github.com/OWNER/NAME. While it is empty, no page has any of
these links. Binder makes its machine from the folder binder/; Colab opens the chapters of the branch `colab`, which
tools/colab.py prepares.
"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import quote

from colophon import built_from
from sphinx.application import Sphinx
from sphinx.errors import ConfigError

ADDRESS = re.compile(r"https://github\.com/[\w.-]+/[\w.-]+")
BINDER, COLAB = "https://mybinder.org/v2/gh", "https://colab.research.google.com/github"


def name_of(url: str) -> str:
    """OWNER/NAME of a repository's address. Raises ConfigError if it is another kind of address."""
    if not ADDRESS.fullmatch(url):
        raise ConfigError(f"repository: url: is {url!r}; expected https://github.com/OWNER/NAME, or nothing")
    return url.removeprefix("https://github.com/")


def report(url: str, page: str, built: str) -> str:
    """Where an error on a page is reported, with what the reader need not look up."""
    body = f"Page: {page}\n{built}\n\nWhat is wrong:\n"
    return f"https://github.com/{name_of(url)}/issues/new?title={quote(f'Error in {page}')}&body={quote(body)}"


def launches(url: str, branch: str, page: str) -> dict[str, str]:
    """Where a chapter runs in the reader's browser."""
    name = name_of(url)
    return {"Binder": f"{BINDER}/{name}/{branch}?urlpath=lab/tree/{page}.ipynb",
            "Colab": f"{COLAB}/{name}/blob/colab/{page}.ipynb"}


def add_buttons(app: Sphinx, page: str, template: str, context: dict, doctree) -> None:
    options = app.config.html_theme_options
    url = (options.get("repository_url") or "").strip("/")
    if not url or doctree is None or "header_buttons" not in context:
        return
    if page.startswith("chapters/"):
        links = launches(url, options.get("repository_branch") or "main", page)
        buttons = [button(name, f"Run this chapter on {name}", address, f"_static/images/logo_{name.lower()}.{kind}")
                   for (name, address), kind in zip(links.items(), ("svg", "png"))]
        context["header_buttons"].append({"type": "group", "tooltip": "Run this chapter", "icon": "fas fa-rocket",
                                          "buttons": buttons, "label": "launch-buttons"})
    address = report(url, page, built_from(Path(app.srcdir)))
    context["header_buttons"].append(button("", "Report an error", address, "fas fa-bug"))


def button(text: str, tooltip: str, address: str, icon: str) -> dict[str, str]:
    return {"type": "link", "text": text, "tooltip": tooltip, "icon": icon, "url": address}


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("html-page-context", add_buttons, priority=900)  # once the theme has its own buttons
    return {"parallel_read_safe": True, "parallel_write_safe": True}
