"""A term's first use in a chapter leads to the glossary, and says its definition when the pointer rests on it: no script.

Only the prose of paragraphs is looked at, not headings, captions, tables, code or what is a link already. Of two terms that
begin at one place the longer counts: "attention weight" before "attention".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from back_links import spelled
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform

GLOSSARY = "book/glossary"
NOT_IN = (nodes.reference, nodes.title, nodes.caption, nodes.table, nodes.literal, nodes.literal_block, nodes.math)

# Words of the glossary that mean something else as often as not: a kernel of PyTorch, the path of a loop, what a change gains.
HOMONYMS = frozenset({"buffer", "cell", "channel", "drift", "gain", "gate", "kernel", "memory", "merge", "parity", "passage",
                      "patch", "path", "penalty", "policy", "power", "rank", "replay", "row", "sensitivity", "shot", "state",
                      "sweep", "value"})


@cache
def definitions(text: str) -> dict[str, str]:
    """The English terms of the glossary's source and what a tooltip says of each: its sentences without a formula."""
    found = {}
    for entry in re.finditer(r"^(?P<term>[\x21-\x7e].*)\n(?:\S.*\n)*(?P<body>(?:  \S.*(?:\n|\Z))+)", text, re.M):
        body = " ".join(entry["body"].split())
        plain = [sentence for sentence in re.split(r"(?<=[.!?]) +", body) if not re.search(r"[$`{\[]", sentence)]
        found[entry["term"].strip()] = re.sub(r"[*_]", "", " ".join(plain))
    return found


def is_plain(term: str) -> bool:
    """Whether the word alone says that the term is meant."""
    return term.partition(" (")[0] not in HOMONYMS


def matches(term: str) -> str:
    """The pattern of a term that is no part of a longer word; an s may follow."""
    return rf"(?<![\w-]){spelled(term)}s?(?![\w-])"


def first_uses(text: str, terms: dict[str, str]) -> Iterator[tuple[int, int, str]]:
    """(begin, end, term) for each term's first place in a text, from left to right; `terms` are names and patterns."""
    found = []
    for term, pattern in terms.items():
        if match := re.search(pattern, text, 0 if term.isupper() else re.I):
            found.append((match.start(), -match.end(), term))
    end = 0
    for begin, negative, term in sorted(found):
        if begin >= end:
            end = -negative
            yield begin, end, term


class LinkTerms(SphinxPostTransform):
    """Works on the pages of chapters, once all other links are resolved; the anchors are those of Sphinx's own glossary."""

    default_priority = 50
    formats = ("html",)

    def run(self, **kwargs) -> None:
        page = self.env.docname
        if not page.startswith("chapters/"):
            return
        meanings = definitions(Path(self.env.srcdir, f"{GLOSSARY}.md").read_text("utf8"))
        objects = self.env.get_domain("std").objects
        left = {term: matches(term) for term in meanings if ("term", term) in objects and is_plain(term)}
        for place in list(self.document.findall(nodes.Text)):
            around = tuple(above(place))
            if not any(isinstance(up, nodes.paragraph) for up in around) or any(isinstance(up, NOT_IN) for up in around):
                continue
            uses = list(first_uses(place.astext(), left))
            for _, _, term in uses:
                del left[term]
            if uses:
                place.parent.replace(place, list(self.linked(place.astext(), uses, page, meanings)))

    def linked(self, text: str, uses: list, page: str, meanings: dict[str, str]) -> Iterator[nodes.Node]:
        done = 0
        for begin, end, term in uses:
            target, anchor = self.env.get_domain("std").objects["term", term]
            address = self.app.builder.get_relative_uri(page, target) + f"#{anchor}"
            if begin > done:
                yield nodes.Text(text[done:begin])
            title = {"reftitle": meanings[term]} if meanings[term] else {}
            yield nodes.reference("", text[begin:end], internal=True, refuri=address, classes=["term"], **title)
            done = end
        if done < len(text):
            yield nodes.Text(text[done:])


def above(node: nodes.Node) -> Iterator[nodes.Node]:
    while node := node.parent:
        yield node


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_post_transform(LinkTerms)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
