"""What the ePub needs, whose readers run no script: formulas as MathML, folds as <details>, HTML that is also XML.

Nothing here touches the pages of the other builders.
"""

from __future__ import annotations

import re
from html import escape
from xml.etree import ElementTree

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform

LEFT_OUT = ("custom.css", "mystnb.")  # the theme's colors with a font that the ePub lacks; MyST-NB's come too late for it
RUNS = '<p class="runs"><em>Here a small program runs in the web edition of this book.</em></p>'


def mathml(tex: str, *, block: bool = False) -> str:
    """A formula in MathML. Labels and numbers are left to the page."""
    from latex2mathml.converter import convert  # here, for the other builders do without it

    source = re.sub(r"\\(?:tag|label)\{.*?\}", "", tex).strip()
    source = re.sub(r"\\(begin|end)\{(?:align|gather)(?:ed)?\*?\}", r"\\\1{split}", source)  # the one that latex2mathml knows
    source = re.sub(r"\\(?:begin|end)\{equation\*?\}", "", source)
    if re.search(r"\\\\|(?<!\\)&", source) and r"\begin" not in source:
        source = rf"\begin{{split}}{source}\end{{split}}"
    return as_xml(convert(source, display="block" if block else "inline"))


def as_xml(made: str) -> str:
    """The characters & and < that stand for themselves, escaped."""
    made = re.sub(r"&(?!#\w+;|lt;|gt;|amp;|quot;)", "&amp;", made)
    return re.sub(r"<(?![/?!a-zA-Z])", "&lt;", made)


def visit_inline(translator, node: nodes.math) -> None:
    translator.body.append(mathml(node.astext()))
    raise nodes.SkipNode


def visit_block(translator, node: nodes.math_block) -> None:
    anchor = f' id="{node["ids"][0]}"' if node.get("ids") else ""
    number = f' <span class="eqno">({node["number"]})</span>' if node.get("number") else ""
    translator.body.append(f'<div class="math"{anchor}>{mathml(node.astext(), block=True)}{number}</div>\n')
    raise nodes.SkipNode


def well_formed(html: str) -> str:
    """The same elements as XML, without scripts; what runs in the web edition is replaced by a sentence."""
    if "gpt-explorer" in html:
        return RUNS
    html = re.sub(r"(?s)<script\b.*?</script>", "", html)
    try:
        ElementTree.fromstring(f"<div>{html}</div>")
    except ElementTree.ParseError:
        from bs4 import BeautifulSoup

        return str(BeautifulSoup(html, "html.parser"))
    return html


class ForReaders(SphinxPostTransform):
    """Runs before the drawings become part of the page, whose text is XML already."""

    default_priority = 4
    formats = ("html",)

    def run(self, **kwargs) -> None:
        if self.app.builder.name != "epub":
            return
        for node in list(self.document.findall(nodes.raw)):
            if "html" in node.get("format", "").split():
                node.replace_self(nodes.raw("", well_formed(node.astext()), format="html"))
        for node in list(self.document.findall(nodes.admonition)):
            if "dropdown" in node["classes"]:
                place = node.parent.index(node)
                node.parent[place : place + 1] = folded(node)


def folded(node: nodes.admonition) -> list[nodes.Node]:
    """An admonition that the web edition folds by a script, folded without one."""
    title, *body = node.children
    anchors = "".join(f'<span id="{escape(anchor)}"></span>' for anchor in node["ids"])
    opening = f'{anchors}<details class="{escape(" ".join(node["classes"]))}"><summary>'
    return [nodes.raw("", opening, format="html"), *title.children, nodes.raw("", "</summary>", format="html"), *body,
            nodes.raw("", "</details>", format="html")]


def begin(app: Sphinx) -> None:
    if app.builder.name == "epub":
        app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
        app.config.html_math_renderer = "mathml"
        app.config.html_permalinks = False


def leave_out(app: Sphinx, page: str, template: str, context: dict, doctree) -> None:
    if app.builder.name == "epub":
        context["css_files"] = [file for file in context["css_files"]
                                if not any(name in str(file.filename) for name in LEFT_OUT)]


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_post_transform(ForReaders)
    app.connect("builder-inited", begin)
    app.connect("html-page-context", leave_out)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
