"""Markup of docutils over which a screen reader stumbles, put right as a page is written.

A header without words names nothing, so the corner of a table becomes an empty cell. An entry of the bibliography bears the
role doc-biblioentry, which was withdrawn and is no item of the list around it; it becomes one.
"""

from __future__ import annotations

import re

from sphinx.application import Sphinx

EMPTY_HEADER = re.compile(r'<th class="head(?P<more>[^"]*)">\s*(?:<p[^>]*>\s*</p>)?\s*</th>')
WITHDRAWN = 'role="doc-biblioentry"'


def mended(html: str) -> str:
    return EMPTY_HEADER.sub(r'<td class="head\g<more>"></td>', html).replace(WITHDRAWN, 'role="listitem"')


def mend(app: Sphinx, page: str, template: str, context: dict, doctree) -> None:
    if "body" in context:
        context["body"] = mended(context["body"])


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("html-page-context", mend)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
