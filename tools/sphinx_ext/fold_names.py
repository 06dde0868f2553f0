"""A folded cell says what is in it: the bar bears the comment of the cell's first line.

`# check`, `# plot` and `# data` become "Check", "Plot" and "Data", the solution of an exercise "Solution"; any other cell
without such a line keeps the words of MyST-NB.
"""

from __future__ import annotations

import re

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform


def name_of(code: str) -> str | None:
    """What the first line of a cell says, as a title; None if it is neither a comment nor the call for a solution."""
    if code.startswith("check.solution("):
        return "Solution"
    found = re.match(r"# +(\S.*)", code)
    return found[1][0].upper() + found[1][1:].rstrip() if found else None


class NameFolds(SphinxPostTransform):
    """Runs just before MyST-NB folds its cells (priority 199)."""

    default_priority = 198
    formats = ("html",)

    def run(self, **kwargs) -> None:
        for cell in self.document.findall(nodes.container):
            if cell.get("nb_element") == "cell_code" and cell.get("hide_mode") and cell.children:
                name = name_of(cell.children[0].astext())
                if name:
                    cell["prompt_show"] = cell["prompt_hide"] = name


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_post_transform(NameFolds)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
