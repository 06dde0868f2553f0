"""The directive `explorer` puts a model that runs into a page: the one of `experiments/records/page_gpt`, with a prompt.

    ```{explorer} The king said to
    ```

Its script, with the weights, is a file of its own that a page loads once it can be read (`defer`), so that the page shows
before the model is there.
"""

from __future__ import annotations

import runpy
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from tutorlib.explorer import Explorer

TARGET, SCRIPT = "gpt-in-the-page", "_static/gpt-in-the-page.js"


def explorer(root: Path, prompt: str):
    """The explorer of the record."""
    load = runpy.run_path(str(root / "experiments" / "train_page_gpt.py"))["load"]
    return Explorer(*load(root / "experiments" / "records" / "page_gpt.json"), prompt, inside=False)


class ExplorerDirective(SphinxDirective):
    required_arguments, final_argument_whitespace = 1, True

    def run(self) -> list[nodes.Node]:
        made = explorer(Path(self.env.srcdir), self.arguments[0])
        path = Path(self.env.app.outdir, SCRIPT)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(made.script(TARGET), "utf8")
        address = "../" * self.env.docname.count("/") + SCRIPT
        return [nodes.raw("", f'{made.html(TARGET)}\n<script defer src="{address}"></script>', format="html")]


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("explorer", ExplorerDirective)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
