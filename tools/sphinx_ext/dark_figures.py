"""Plots in the dark: one that is lines and letters alone gets the class `ink`, whose lightness the style turns round.

A figure with a picture in it, a photograph or a map of numbers, keeps its colors on a light ground: a negative would mislead.
"""

from __future__ import annotations

from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform


def is_ink(svg: str) -> bool:
    return "<image" not in svg


class MarkInk(SphinxPostTransform):
    """Runs when the outputs of the cells are in the page; the drawings, which have their own styles, are no pictures then."""

    default_priority = 600
    formats = ("html",)

    def run(self, **kwargs) -> None:
        for node in self.document.findall(nodes.image):
            path = Path(self.env.srcdir, node["uri"])
            if path.suffix == ".svg" and path.is_file() and is_ink(path.read_text("utf8")):
                node["classes"].append("ink")


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_post_transform(MarkInk)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
