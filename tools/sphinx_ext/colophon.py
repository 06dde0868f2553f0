"""At the foot of every page: the version of the package and the commit that the book was built from."""

from __future__ import annotations

import subprocess
import tomllib
from functools import cache
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.config import Config


@cache
def built_from(root: Path) -> str:
    """'Version 0.1.0, commit 3c5de8f'; without git, or outside a checkout, the version alone."""
    version = tomllib.loads((root / "pyproject.toml").read_text("utf8"))["project"]["version"]
    asked = ["git", "-C", str(root), "describe", "--always", "--dirty", "--exclude=*", "--abbrev=10"]
    try:
        found = subprocess.run(asked, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return f"Version {version}"
    return f"Version {version}, commit {found.stdout.strip()}" if found.returncode == 0 else f"Version {version}"


def add(app: Sphinx, config: Config) -> None:
    config.html_theme_options["extra_footer"] = f'<p class="built-from">{built_from(Path(app.srcdir))}.</p>'


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("config-inited", add)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
