"""Run chapters and training tests as other machines would, and say which assertions stand too close to their bounds.

    python tools/portable.py                                all chapters and the tests that train; takes hours
    python tools/portable.py networks tests                 chapters by name or path, and `tests`
    python tools/portable.py networks --conditions "jitter 0" "two threads"

Each condition moves roundings and nothing else. `jitter 0` is the run as it is; in `jitter 1` and `jitter 2` every gradient is
multiplied, entry by entry, by 1 + 1e-6 * noise; the others change the number of threads or the width of the vectors. In each
run, the compared cells must print what is committed, and every assert must hold; a chapter goes on after one that fails.

Every comparison in an assert is recorded with both sides. The report says FAIL where something is wrong under any condition,
and THIN where the smallest distance of the sides is less than 3 times its spread (largest minus smallest) over the conditions.
A run that is on record in _build/portable is not repeated, unless the chapter, tutorlib, torch, numpy or the processor changed.
The exit status is 1 where something fails (with --strict, also where a margin is thin), 2 for a name that is not known.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import math
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from itertools import product, zip_longest
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tools.notebook import NOT_COMPARED, NOT_RUN, NotebookError, chapters, kernel_environment, read, tags, write  # noqa: E402
from tools.watch import COMPARE, check  # noqa: E402

FOLDER = ROOT / "_build" / "portable"
TESTS = ROOT / "tests"
CONDITIONS = {
    "jitter 0": {},
    "jitter 1": {"PORTABLE_JITTER": "1"},
    "jitter 2": {"PORTABLE_JITTER": "2"},
    "two threads": {"COURSE_THREADS": "2"},
    "narrow vectors": {"ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "COMPATIBLE", "ONEDNN_MAX_CPU_ISA": "AVX2"},
}
THIN, FORMAT = 3.0, 1  # raise FORMAT when a record means something else than before
RAISES = "raises-exception"
TRAINS = re.compile(r"\.step\(|\btrain\(|\brun_path\(")


# ---------------------------------------------------------------------------------------------------------------------
# A run


def environment(condition: str) -> dict[str, str]:
    """The variables of a process under a condition, which are set before it imports torch."""
    ours = {"TUTORLIB_DEVICE", *(name for settings in CONDITIONS.values() for name in settings)}
    inherited = {name: value for name, value in os.environ.items() if name not in ours}
    settings = CONDITIONS[condition]
    return {**inherited, **kernel_environment(settings.get("COURSE_THREADS", "1")), **settings}


def numbered_cells(notebook) -> list[tuple[int, dict]]:
    """The code cells that are run, with nbval's numbers."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [(number, cell) for number, cell in enumerate(code) if not tags(cell) & NOT_RUN and cell.source.strip()]


def run_chapter(chapter: Path, condition: str, timeout: int) -> list[dict]:
    """Execute a copy of the chapter in a kernel of its own."""
    from nbclient import NotebookClient
    from nbformat.v4 import new_code_cell, new_notebook

    cells = numbered_cells(read(chapter))
    order = [(number, RAISES in tags(cell)) for number, cell in cells]
    first = new_code_cell(f"from tools.watch import watch\nwatch(get_ipython(), {order})\ndel watch")
    last = new_code_cell("from IPython.display import display\ndisplay({'application/json': __asserts__.checks}, raw=True)")
    copy = new_notebook(cells=[first, *(new_code_cell(cell.source) for _, cell in cells), last])
    NotebookClient(
        copy, timeout=timeout, startup_timeout=300, iopub_timeout=60, allow_errors=True, kernel_name="python3",
        extra_arguments=["--log-level=ERROR"], resources={"metadata": {"path": str(chapter.parent.resolve())}},
    ).execute(env=environment(condition))
    asserts = [output.data["application/json"] for output in last.outputs if output.output_type == "display_data"]
    if not asserts:
        raise NotebookError(f"the asserts were not recorded: {first.outputs + last.outputs}")
    outputs = [done.outputs for done in copy.cells[1:-1]]
    return asserts[0] + [problem for one, new in zip(cells, outputs) for problem in cell_problems(*one, new)]


def cell_problems(number: int, committed, outputs: list) -> Iterator[dict]:
    """An exception that the cell must not raise, or an output that is not the committed one."""
    raised = [f"{output.ename}: {output.evalue}" for output in outputs if output.output_type == "error"]
    if raised and RAISES not in tags(committed):
        yield check(number, 0, "the cell runs", raised[0])
    elif is_compared(committed) and (problem := difference(compared(committed.outputs), compared(outputs))):
        yield check(number, 0, "the output is the committed one", problem)


def is_compared(cell) -> bool:
    return cell.execution_count is not None and not tags(cell) & NOT_COMPARED


def compared(outputs: list) -> dict[str, list]:
    """What nbval compares of a cell's outputs: the values of each kind in their order, sanitized."""
    from nbval.plugin import coalesce_streams, get_sanitize_patterns, transform_streams_for_comparison

    patterns = get_sanitize_patterns((ROOT / "tests" / "nbval_sanitize.cfg").read_text(encoding="utf-8"))
    skipped = {"data", "metadata", "traceback", "output_type", "name", "execution_count", "image/png", "image/jpeg"}
    kinds = defaultdict(list)
    for output in transform_streams_for_comparison(coalesce_streams(outputs)):
        for kind, value in {**output, **output.get("data", {})}.items():
            if kind in skipped:
                continue
            for pattern, replacement in patterns if isinstance(value, str) else ():
                value = re.sub(pattern, replacement, value)
            kinds[kind].append(value)
    return dict(kinds)


def difference(committed: dict[str, list], new: dict[str, list]) -> str | None:
    """The first line that differs."""
    for kind in sorted(committed.keys() | new.keys()):
        before, after = ("\n".join(map(str, outputs.get(kind, []))).split("\n") for outputs in (committed, new))
        for old, line in zip_longest(before, after):
            if old != line:
                return f"{kind}: committed {old!r}, now {line!r}"
    return None if committed == new else "the number of outputs differs"


def run_tests(condition: str, timeout: int) -> list[dict]:
    """The tests of every module that trains, in one process; each as a check without sides."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "tests.xml")
        options = ["-p", "tools.watch", "-q", f"--timeout={timeout}", f"--junitxml={report}"]
        command = [sys.executable, "-m", "pytest", *options, *map(str, training_tests())]
        done = subprocess.run(command, cwd=ROOT, env=environment(condition), capture_output=True, text=True)
        if not report.exists():
            raise NotebookError(f"pytest wrote no report: {(done.stdout + done.stderr)[-1000:]}")
        return [test_check(case) for case in ElementTree.parse(report).iter("testcase")]


def training_tests() -> list[Path]:
    modules = sorted(path for path in TESTS.rglob("test_*.py") if path.stem != "test_portable")
    return [path for path in modules if TRAINS.search(path.read_text(encoding="utf-8"))]


def test_check(case: ElementTree.Element) -> dict:
    wrong = next((child for child in case if child.tag in ("failure", "error")), None)
    name = f"{case.get('classname')}.{case.get('name')}"
    return check(-1, 0, name, None if wrong is None else wrong.get("message", wrong.tag).split("\n")[0])


# ---------------------------------------------------------------------------------------------------------------------
# Records


def without_comments(source: str) -> str:
    """The code alone: a docstring or a comment changes no result."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        match node:
            case ast.Module(body=[ast.Expr(ast.Constant(str())), *rest]):
                node.body = rest
            case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef() if ast.get_docstring(node) is not None:
                del node.body[0]
    return ast.dump(tree)


@lru_cache
def code_of(folder: Path) -> str:
    """The hash of a folder's modules, this one excepted."""
    modules = [path for path in sorted(folder.rglob("*.py")) if path != Path(__file__).resolve()]
    return digest([(str(path.relative_to(folder)), without_comments(path.read_text(encoding="utf-8"))) for path in modules])


@lru_cache
def processor() -> str:
    try:
        return re.search(r"(?m)^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text())[1]
    except (OSError, TypeError):
        return platform.processor() or platform.machine()


def content(target: Path) -> list:
    """What a run executes and compares, besides the package."""
    if target == TESTS:
        return [code_of(TESTS), code_of(ROOT / "tools")]
    matters = NOT_COMPARED | {RAISES}
    return [
        (number, cell.source, sorted(tags(cell) & matters), compared(cell.outputs) if is_compared(cell) else None)
        for number, cell in numbered_cells(read(target))
    ]


def digest(value) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:12]


def record_of(target: Path, condition: str) -> Path:
    """Where a run is kept. Another name means another run."""
    package = [code_of(ROOT / "tutorlib"), version("torch"), version("numpy"), processor()]
    harness = [FORMAT, without_comments((ROOT / "tools" / "watch.py").read_text(encoding="utf-8"))]
    identity = digest([*harness, CONDITIONS[condition], *package, content(target)])
    return FOLDER / f"{target.stem}-{condition.replace(' ', '-')}-{identity}.json"


def run(target: Path, condition: str, record: Path, timeout: int) -> list[dict]:
    """The checks of one run, from its record if there is one. A run that breaks off is a problem, and is not kept."""
    start = time.perf_counter()
    if record.exists():
        print(f"{target.stem}, {condition}: on record", flush=True)
        return json.loads(record.read_text(encoding="utf-8"))
    try:
        checks = run_tests(condition, timeout) if target == TESTS else run_chapter(target, condition, timeout)
        write(record, json.dumps(checks))
    except (NotebookError, RuntimeError, TimeoutError) as error:
        checks = [check(-1, 0, "the run ends", f"{type(error).__name__}: {error}")]
    problems = sum(found["problem"] is not None for found in checks)
    print(f"{target.stem}, {condition}: {time.perf_counter() - start:.0f} s, {problems} problems", flush=True)
    return checks


# ---------------------------------------------------------------------------------------------------------------------
# The report


@dataclass
class Finding:
    """One assert, output or test under every condition: its problems, and the comparison with the smallest margin."""

    place: str
    what: str
    line: int
    problems: dict[str, str]
    sides: dict[str, list]
    margin: float
    thin: int

    @property
    def verdict(self) -> str:
        return "FAIL" if self.problems else "THIN" if self.thin else ""


def findings(target: str, runs: dict[str, list[dict]]) -> list[Finding]:
    """The runs' checks brought together: an assert that runs several times is one finding."""
    places: dict = defaultdict(lambda: defaultdict(list))
    for condition, checks in runs.items():
        for found in checks:
            places[found["cell"], found["line"], found["what"]][condition].append(found)
    return [finding(target, key, places[key]) for key in sorted(places)]


def finding(target: str, key: tuple[int, int, str], times: dict[str, list[dict]]) -> Finding:
    cell, line, what = key
    problems = {}
    for condition, checks in times.items():
        wrong = [found["problem"] for found in checks if found["problem"] is not None]
        problems |= {condition: wrong[0]} if wrong else {}
    several = sorted(((*rank(sides), sides) for sides in comparisons(times)), key=lambda one: one[:2])
    place = target + (f", cell {cell}" if cell >= 0 else "") + (f", line {line}" if line else "")
    sides = several[0][2] if several else {}
    thin = sum(margin < THIN for _, margin, _ in several)
    return Finding(place, what, line, problems, sides, min((one[1] for one in several), default=math.inf), thin)


def comparisons(times: dict[str, list[dict]]) -> Iterator[dict[str, list]]:
    """Each comparison of an assert, each time that it ran: its sides by condition."""
    for checks in zip_longest(*times.values()):
        reached = {condition: found["sides"] for condition, found in zip(times, checks) if found}
        for sides in zip_longest(*reached.values()):
            yield {condition: one for condition, one in zip(reached, sides) if one}


def rank(sides: dict[str, list]) -> tuple[bool, float]:
    """(whether the comparison holds everywhere, its margin): the distance of the sides in units of its spread."""
    holds = all(COMPARE[sign](left, right) for left, sign, right in sides.values())
    differences = [left - right for left, sign, right in sides.values() if sign != "=="]
    spread = max(differences, default=0) - min(differences, default=0)
    return holds, min(map(abs, differences)) / spread if spread else math.inf


def report(results: dict[str, list[Finding]], conditions: list[str]) -> str:
    """The table of chapters, then every FAIL and THIN with its values."""
    lines = ["# Portability", "", f"{processor()}, torch {version('torch')}, numpy {version('numpy')}. Conditions: "
             f"{', '.join(conditions)}. A margin is the smallest distance of two sides in units of its spread.", ""]
    lines += ["| chapter | asserts | fails | thin | smallest margin |", "|---|---|---|---|---|"]
    for target, found in results.items():
        asserts = sum(one.line > 0 for one in found)
        fails, thin = (sum(one.verdict == verdict for one in found) for verdict in ("FAIL", "THIN"))
        margin = min((one.margin for one in found), default=math.inf)
        lines.append(f"| {target} | {asserts} | {fails} | {thin} | {'' if margin == math.inf else f'{margin:.1f}'} |")
    worst = sorted((one for found in results.values() for one in found if one.verdict), key=lambda one: one.verdict)
    return "\n".join(lines + [line for one in worst for line in details(one, conditions)]) + "\n"


def details(one: Finding, conditions: list[str]) -> Iterator[str]:
    yield from ("", f"## {one.verdict} {one.place}", "", f"`{one.what}`", "")
    if one.thin:
        yield from (f"{one.thin} thin; the smallest margin is {one.margin:.1f}.", "")
    yield from ("| condition | values | problem |", "|---|---|---|")
    for condition in conditions:
        left, sign, right = one.sides.get(condition, ("", "", ""))
        values = f"{left:.9g} {sign} {right:.9g}" if sign else ""
        problem = " ".join(one.problems.get(condition, "").split())[:300].replace("|", "\\|")
        yield f"| {condition} | {values} | {problem} |"


# ---------------------------------------------------------------------------------------------------------------------
# The command line


def named(name: str) -> Path:
    """A chapter by path or name, or the folder of tests."""
    known = {path.stem: path for path in chapters()} | {TESTS.stem: TESTS}
    if name in known:
        return known[name]
    if Path(name).suffix == ".ipynb" and Path(name).exists():
        return Path(name).resolve()
    raise NotebookError(f"no chapter {name!r}; the names are: {', '.join(known)}")


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    top.add_argument("names", nargs="*", metavar="NAME", help="a chapter, by name or path, or tests (all without names)")
    top.add_argument("--conditions", nargs="+", choices=CONDITIONS, default=list(CONDITIONS), metavar="CONDITION",
                     help=", ".join(CONDITIONS) + " (all without this option)")
    top.add_argument("--report", type=Path, default=FOLDER / "report.md", help="where the report is written")
    top.add_argument("--jobs", type=int, default=2, help="runs at once (%(default)s)")
    top.add_argument("--timeout", type=int, default=5400, help="seconds that one cell or test may take (%(default)s)")
    top.add_argument("--strict", action="store_true", help="a thin margin fails, too")
    return top


def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    try:
        targets = dict.fromkeys(map(named, options.names)) or [*chapters(), TESTS]
        runs = list(product(targets, options.conditions))
        records = [record_of(*one) for one in runs]  # before the threads: Python 3.11 parses in one at a time only
        with ThreadPoolExecutor(options.jobs) as pool:
            found = pool.map(lambda one, record: run(*one, record, options.timeout), runs, records)
            checks = dict(zip(runs, found))
    except NotebookError as error:
        print(error, file=sys.stderr)
        return 2
    results = {}
    for target in targets:
        found = {condition: checks[target, condition] for condition in options.conditions}
        results[target.stem] = findings(target.stem, found)
    text = report(results, options.conditions)
    write(options.report, text)
    print(f"\n{text}")
    verdicts = {one.verdict for found in results.values() for one in found}
    return 1 if "FAIL" in verdicts or (options.strict and "THIN" in verdicts) else 0


if __name__ == "__main__":
    sys.exit(main())
