"""Settings of every test run: one thread, the package on the kernels' path, no chapter that passes unexecuted."""

from __future__ import annotations

import os
import sys
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT))

from tools.notebook import is_stripped, kernel_environment  # noqa: E402

os.environ.update(kernel_environment())  # before anything imports torch; the kernels of the chapters inherit it
os.environ.pop("TUTORLIB_DEVICE", None)

seconds_by_chapter: dict[str, float] = defaultdict(float)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Only the chapters are notebooks to test."""
    if collection_path.suffix == ".ipynb" and ROOT / "chapters" not in collection_path.parents:
        return True
    return None


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Refuse what nbval lets pass: a code cell without count and outputs would run and be compared with nothing."""
    cell = getattr(item, "cell", None)
    if cell is not None and is_stripped(cell):
        pytest.fail("this cell was committed without its execution; run tools/notebook.py run", pytrace=False)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    path = report.nodeid.split("::")[0]
    if path.endswith(".ipynb"):
        seconds_by_chapter[path] += report.duration


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not seconds_by_chapter:
        return
    terminalreporter.section("seconds per chapter")
    for path, seconds in sorted(seconds_by_chapter.items()):
        terminalreporter.write_line(f"{seconds:7.1f}  {path}")
    terminalreporter.write_line(f"{sum(seconds_by_chapter.values()):7.1f}  all")
