"""Write a chapter as text, execute it, and keep its notebook clean.

A chapter is committed as an executed notebook, chapters/<part>/<name>.ipynb, and edited as MyST text,
text/<part>/<name>.md, which git ignores. The verbs go from one to the other:

    python tools/notebook.py md       chapters/attention/position.ipynb     notebook -> text
    python tools/notebook.py from-md  text/attention/position.md            text -> executed notebook
    python tools/notebook.py run      chapters/attention/position.ipynb     execute again, in place
    python tools/notebook.py norm     chapters/attention/position.ipynb     normalize only
    python tools/notebook.py check                                          refuse what must not be committed

`run` and `check` without files take every chapter. When a cell fails, the old notebook stays, and the text stays.

An execution keeps old outputs that say the same as the new ones, so that a diff shows what changed and no chance of this
machine. For `from-md`, pictures and outputs that are not compared are kept down to the first changed code cell, and below
it they are new. For `run` no code cell has changed: it keeps them too, down to the first cell that prints something else.
A change of tutorlib that alters figures alone is thus not seen; --fresh takes every new output.
"""

from __future__ import annotations

import argparse
import ast
import copy
import difflib
import functools
import hashlib
import io
import json
import os
import re
import sys
import time
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SANITIZE = ROOT / "tests" / "nbval_sanitize.cfg"
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")

KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
LANGUAGE = {"name": "python", "pygments_lexer": "ipython3"}
CELL_METADATA = ("tags", "mystnb")
HIDDEN = {"remove-cell", "remove-output"}
NOT_COMPARED = {"nbval-ignore-output", "nbval-skip"}
NOT_RUN = {"nbval-skip", "skip-execution"}
NOT_COMPARED_DATA = {"image/png", "image/jpeg", "application/vnd.jupyter.widget-view+json"}

LONGEST_CELL = 30
LARGEST_FILE = 2_000_000
LEAST_COMPARED = 0.70

LOCAL_PATH = re.compile(
    r"(?<![\w.:/<-])/(?:home|root|Users|tmp|var|private|mnt|opt|srv|usr)/[\w.-]+|\b[A-Z]:\\\w+|site-packages|ipykernel_\d+"
)
ADDRESS = re.compile(r"(?<![\w+/])0x[0-9a-fA-F]{6,}(?![\w+/])")  # not inside base64
PROGRESS = re.compile(r"\r(?!\n)|\d+%\||\d(?:it/s|s/it)\b")
TRACEBACK = "Traceback (most recent call last)"
MAGIC = re.compile(r"^\s*(?:%|!|\?|.*\?\s*$)")
FILE_NAME = re.compile(r"^\S+\.(?:png|svg|jpe?g|gif|webp)$", re.IGNORECASE)


class NotebookError(Exception):
    """Something is wrong with a file; the message names it, and the cell."""


# ---------------------------------------------------------------------------------------------------------------------
# Files


def counterpart(path: Path) -> Path:
    """text/<part>/<name>.md for chapters/<part>/<name>.ipynb, and the reverse."""
    swap = {".ipynb": ("chapters", "text", ".md"), ".md": ("text", "chapters", ".ipynb")}
    if path.suffix not in swap:
        raise NotebookError(f"{path}: expected a .ipynb or a .md file")
    here, there, suffix = swap[path.suffix]
    parts = list(path.resolve().parts)
    if here not in parts:
        raise NotebookError(f"{path}: not under {here}/, so its counterpart is unknown; give it with -o")
    position = len(parts) - 1 - parts[::-1].index(here)
    parts[position] = there
    return Path(*parts).with_suffix(suffix)


def chapters() -> list[Path]:
    """Every committed chapter."""
    return sorted(p for p in (ROOT / "chapters").rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts)


def shown(path: Path) -> str:
    """The path as a reader would type it."""
    path = path.resolve()
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def read(path: Path):
    """The notebook in a file, checked against the format."""
    import nbformat

    try:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
    except FileNotFoundError:
        raise NotebookError(f"{shown(path)}: no such file") from None
    except (json.JSONDecodeError, nbformat.ValidationError, nbformat.reader.NotJSONError) as error:
        raise NotebookError(f"{shown(path)}: not a valid notebook: {str(error).splitlines()[0]}") from None
    return notebook


def write(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8", newline="\n")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def serialize(notebook) -> str:
    import nbformat

    return nbformat.writes(notebook, version=4).rstrip("\n") + "\n"


# ---------------------------------------------------------------------------------------------------------------------
# The one form in which a notebook is committed


def normalize(notebook):
    """The notebook without anything that depends on who ran it, when, or with which editor. Works in place."""
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    notebook.metadata.clear()
    notebook.metadata.update(kernelspec=dict(KERNEL), language_info=dict(LANGUAGE))
    count, identifiers = 0, set()
    for cell in notebook.cells:
        cell.metadata = {key: cell.metadata[key] for key in CELL_METADATA if cell.metadata.get(key)}
        cell.source = clean_source(cell.source)
        cell.id = new_identifier(cell, identifiers) if cell.get("id") in identifiers | {None} else cell.id
        identifiers.add(cell.id)
        if cell.cell_type != "code":
            continue
        if cell.execution_count is not None:
            cell.execution_count = count = count + 1
        cell.outputs = [clean_output(output, cell.execution_count) for output in merge_streams(cell.outputs)]
    return notebook


def clean_source(source: str) -> str:
    """The source without blank lines at its ends and without trailing spaces: the text form keeps neither."""
    return "\n".join(line.rstrip() for line in source.strip("\n").split("\n"))


def merge_streams(outputs: list) -> list:
    """Neighbouring streams joined, standard output first: how they were cut into pieces is chance."""
    merged: list = []
    run: dict = {}
    for output in outputs:
        if output.output_type != "stream":
            merged, run = [*merged, output], {}
        elif output.name in run:
            run[output.name].text += output.text
        else:
            run[output.name] = output
            at = len(merged) - (1 if output.name == "stdout" and "stderr" in run else 0)
            merged.insert(at, output)
    return merged


def clean_output(output, count: int | None):
    """One output without metadata. Of a traceback its last line is kept: the rest is full of paths and colors."""
    if "metadata" in output:
        output.metadata = {}
    if output.output_type == "execute_result":
        output.execution_count = count
    if output.output_type == "error":
        output.traceback = [f"{output.ename}: {output.evalue}"]
    return output


def new_identifier(cell, taken: set[str]) -> str:
    """An id made from the cell's content, so that making a notebook twice gives the same file."""
    digest = hashlib.sha256(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()
    candidates = (digest[start : start + 8] for start in range(57))
    return next(candidate for candidate in candidates if candidate not in taken)


# ---------------------------------------------------------------------------------------------------------------------
# Text and notebook


def to_text(notebook) -> str:
    """The notebook as MyST text, without outputs."""
    import jupytext

    bare = notebook.copy()
    bare.metadata = type(notebook.metadata)(kernelspec=dict(KERNEL))
    text = jupytext.writes(bare, fmt="md:myst")
    return re.sub(r"(?m)\A---\njupytext:\n(?:  .*\n)+", "---\n", text)


def from_text(text: str, old=None):
    """A notebook from MyST text. Cells that `old` has keep their id; those with the same source keep their outputs."""
    import jupytext

    notebook = jupytext.reads(text, fmt="md:myst")
    for cell in notebook.cells:
        cell.pop("id", None)
        cell.source = clean_source(cell.source)
    if old is not None:
        adopt(notebook, old)
    taken = {cell.id for cell in notebook.cells if "id" in cell}
    for cell in notebook.cells:
        if "id" not in cell:
            cell.id = new_identifier(cell, taken)
            taken.add(cell.id)
    return normalize(notebook)


def adopt(notebook, old) -> None:
    """Match cells by content and, between matches, by order."""
    new_keys = [(cell.cell_type, cell.source) for cell in notebook.cells]
    old_keys = [(cell.cell_type, cell.source) for cell in old.cells]
    matcher = difflib.SequenceMatcher(a=old_keys, b=new_keys, autojunk=False)
    for kind, a, a_end, b, b_end in matcher.get_opcodes():
        if kind not in ("equal", "replace"):
            continue
        for before, after in zip(old.cells[a:a_end], notebook.cells[b:b_end]):
            if before.cell_type != after.cell_type:
                break
            after.id = before.id
            if kind == "equal" and after.cell_type == "code":
                after.outputs, after.execution_count = before.outputs, before.execution_count


# ---------------------------------------------------------------------------------------------------------------------
# Execution


def kernel_environment(threads: str | None = None) -> dict[str, str]:
    """What a kernel is started with: one thread, the package on the path, the CPU, and no network.

    Another number of threads is given here or, to what imports conftest.py, in the variable COURSE_THREADS.
    """
    threads = threads or os.environ.get("COURSE_THREADS", "1")
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    quiet = {"PYDEVD_DISABLE_FILE_VALIDATION": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    return {**dict.fromkeys(THREADS, threads), **quiet, "PYTHONPATH": path}


def execute(notebook, path: Path, timeout: int) -> None:
    """Run every cell in place, in the notebook's own folder, and print how long the slowest took."""
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    os.environ.update(kernel_environment())
    os.environ.pop("TUTORLIB_DEVICE", None)
    started: dict[int, float] = {}
    seconds: dict[int, float] = {}

    def begin(cell, cell_index):
        started[cell_index] = time.perf_counter()
        if sys.stderr.isatty():
            print(f"\r{shown(path)}: cell {cell_index + 1} of {len(notebook.cells)}", end="", file=sys.stderr)

    def end(cell, cell_index, **_):
        seconds[cell_index] = time.perf_counter() - started[cell_index]

    path.parent.mkdir(parents=True, exist_ok=True)
    client = NotebookClient(
        notebook,
        timeout=timeout,
        kernel_name="python3",
        extra_arguments=["--log-level=ERROR"],
        resources={"metadata": {"path": str(path.parent.resolve())}},
        on_cell_execute=begin,
        on_cell_executed=end,
    )
    try:
        client.execute()
    except CellExecutionError as error:
        raise NotebookError(f"{place(path, notebook, max(started))} failed\n{error}") from None
    except (CellTimeoutError, DeadKernelError) as error:
        raise NotebookError(f"{place(path, notebook, max(started, default=0))}: {error}") from None
    slowest = max(seconds, key=seconds.get, default=0)
    print(
        f"{shown(path)}: {len(seconds)} code cells in {sum(seconds.values()):.1f} s; "
        f"the slowest, cell {slowest + 1}, took {seconds.get(slowest, 0):.1f} s"
    )


def keep_outputs(notebook, old) -> list[int]:
    """Put old outputs back where the new ones say the same. Returns the numbers of the cells whose outputs are new.

    A cell of the old notebook, by id, source and having run, says the same if nbval would find its outputs equal or is told
    not to compare them. As long as every code cell down to it is in its old place and says the same, all its outputs are
    kept. Below the first that does not, pictures and outputs that are not compared may show the change: a cell is kept there
    only if it is compared and its pictures are equal to the byte.
    """
    before = [cell for cell in old.cells if cell.cell_type == "code"]
    after = [(number, cell) for number, cell in enumerate(notebook.cells, 1) if cell.cell_type == "code"]
    by_id = {cell.id: cell for cell in before}
    unchanged, new = True, []
    for position, (number, cell) in enumerate(after):
        former = by_id.get(cell.id)
        compare = not tags(cell) & NOT_COMPARED
        same = (
            former is not None
            and former.source == cell.source
            and (former.execution_count is None) == (cell.execution_count is None)
            and not (compare and compared(former.outputs) != compared(cell.outputs))
        )
        unchanged = unchanged and same and former is before[position]
        if unchanged or (same and compare and pictures(former.outputs) == pictures(cell.outputs)):
            cell.outputs = copy.deepcopy(former.outputs)
        elif former is None or former.outputs != cell.outputs:
            new.append(number)
    return new


def compared(outputs: list) -> dict[str, list]:
    """What nbval compares: by stream, by field of an error and by kind of data, the sanitized values in their order."""
    values: dict[str, list] = {}
    for output in outputs:
        if output.output_type == "stream":
            values[output.name] = ["".join([*values.get(output.name, ()), output.text])]
            continue
        fields = output.data if "data" in output else {"ename": output.ename, "evalue": output.evalue}
        for kind in fields.keys() - NOT_COMPARED_DATA:
            values.setdefault(kind, []).append(fields[kind])
    return {kind: [sanitized(value) for value in entries] for kind, entries in values.items()}


def sanitized(value):
    """A value after the replacements of tests/nbval_sanitize.cfg, which nbval makes in text alone."""
    for pattern, replacement in sanitizers() if isinstance(value, str) else ():
        value = re.sub(pattern, replacement, value)
    return value


@functools.cache
def sanitizers() -> list[tuple[str, str]]:
    return re.findall(r"(?m)^regex: (.*)$\n^replace: (.*)$", SANITIZE.read_text(encoding="utf-8"))


def pictures(outputs: list) -> list[tuple[str, str]]:
    """The kind and the bytes of every picture among the outputs."""
    return [item for output in outputs for item in output.get("data", {}).items() if item[0].startswith("image/")]


def place(path: Path, notebook, index: int) -> str:
    """A cell by file, number (counted from 1 over all cells) and first line."""
    first = next((line for line in notebook.cells[index].source.split("\n") if line.strip()), "empty")
    return f"{shown(path)}, cell {index + 1} ({first.strip()[:50]})"


# ---------------------------------------------------------------------------------------------------------------------
# What must not be committed


def findings(path: Path) -> list[str]:
    """Everything that keeps a notebook from being committed, one line each."""
    notebook = read(path)
    found = []
    if path.stat().st_size > LARGEST_FILE:
        found.append(f"{shown(path)}: {path.stat().st_size / 1e6:.1f} MB, over {LARGEST_FILE / 1e6:.1f} MB")
    for index, cell in enumerate(notebook.cells):
        found += [f"{place(path, notebook, index)}: {problem}" for problem in cell_findings(cell)]
    printing = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.outputs]
    compared = [cell for cell in printing if not tags(cell) & NOT_COMPARED]
    if len(compared) < LEAST_COMPARED * len(printing):
        share = f"{len(compared)} of {len(printing)}"
        found.append(f"{shown(path)}: only {share} printing cells are compared; at least {LEAST_COMPARED:.0%} must be")
    sources = [(cell.cell_type, cell.source) for cell in notebook.cells]
    if path.read_text(encoding="utf-8") != serialize(normalize(notebook)):
        found.append(f"{shown(path)}: not normalized; run: python tools/notebook.py norm {shown(path)}")
    elif sources != [(cell.cell_type, cell.source) for cell in from_text(to_text(notebook)).cells]:
        found.append(f"{shown(path)}: its cells change when it is written as text and read back")
    return found


def tags(cell) -> set[str]:
    return set(cell.metadata.get("tags", ()))


def is_stripped(cell) -> bool:
    """A code cell without its count: nbval would run it and compare nothing."""
    return cell.cell_type == "code" and cell.execution_count is None and not tags(cell) & NOT_RUN


def cell_findings(cell) -> Iterator[str]:
    if not cell.source.strip():
        yield "an empty cell"
    if match := LOCAL_PATH.search(cell.source):
        yield f"a local path in the source: {match[0]}"
    if cell.cell_type == "code":
        yield from source_findings(cell)
        yield from output_findings(cell)


def source_findings(cell) -> Iterator[str]:
    if is_stripped(cell):
        yield "no execution count: the cell was not executed, and nbval would compare nothing"
    lines = cell.source.count("\n") + 1
    if lines > LONGEST_CELL:
        yield f"{lines} lines of code; at most {LONGEST_CELL}"
    try:
        compile(cell.source, "cell", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    except SyntaxError as error:
        magic = next((line.strip() for line in cell.source.split("\n") if MAGIC.match(line)), None)
        if magic:
            yield f"a magic or a shell command: {magic}"
        elif "raises-exception" not in tags(cell):
            yield f"a syntax error: {error.msg}, line {error.lineno}"
    else:
        if ends_with_semicolon(cell.source):
            yield "a trailing ';' hides nothing from nbval; write `_ = ...` or plt.show()"


def ends_with_semicolon(source: str) -> bool:
    blank = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.ENDMARKER, tokenize.INDENT, tokenize.DEDENT}
    tokens = [t for t in tokenize.generate_tokens(io.StringIO(source).readline) if t.type not in blank]
    return bool(tokens) and tokens[-1].string == ";"


def output_findings(cell) -> Iterator[str]:
    visible = not tags(cell) & HIDDEN
    for output in cell.outputs:
        text = output_text(output)
        if output.output_type == "error" and "raises-exception" not in tags(cell):
            yield f"an error without the tag raises-exception: {output.ename}: {output.evalue}"
        if visible and (TRACEBACK in text or (output.output_type == "error" and len(output.traceback) > 1)):
            yield "a traceback in a visible output"
        if visible and any(kind.startswith("image/") for kind in output.get("data", {})):
            alternative = str(cell.metadata.get("mystnb", {}).get("image", {}).get("alt") or "").strip()
            if not alternative or FILE_NAME.match(alternative):
                yield "a figure without alternative text; give it as mystnb: image: alt in the cell's metadata"
        if match := LOCAL_PATH.search(text):
            yield f"a local path in the output: {match[0]}"
        if match := ADDRESS.search(text):
            yield f"a memory address in the output: {match[0]}"
        if not tags(cell) & NOT_COMPARED and PROGRESS.search(text):
            yield "a progress bar in a compared cell"


def output_text(output) -> str:
    """What an output says in words: streams, errors and the textual forms of a result."""
    if output.output_type == "stream":
        return output.text
    if output.output_type == "error":
        return f"{output.ename}: {output.evalue}"
    return "\n".join(str(value) for kind, value in output.data.items() if kind.startswith("text/"))


# ---------------------------------------------------------------------------------------------------------------------
# The command line


def convert_to_text(path: Path, options: argparse.Namespace) -> None:
    target = options.output or counterpart(path)
    write(target, to_text(normalize(read(path))))
    print(f"{shown(path)} -> {shown(target)}")


def convert_from_text(path: Path, options: argparse.Namespace) -> None:
    target = options.output or counterpart(path)
    if not path.exists():
        raise NotebookError(f"{shown(path)}: no such file")
    old = normalize(read(target)) if target.exists() else None
    notebook = from_text(path.read_text(encoding="utf-8"), copy.deepcopy(old))
    if not options.no_run:
        refresh(notebook, old, target, options)
    write(target, serialize(normalize(notebook)))
    print(f"{shown(path)} -> {shown(target)}")


def run_again(path: Path, options: argparse.Namespace) -> None:
    notebook = normalize(read(path))
    refresh(notebook, copy.deepcopy(notebook), path, options)
    write(path, serialize(normalize(notebook)))


def refresh(notebook, old, path: Path, options: argparse.Namespace) -> None:
    """Execute, then put back what the old notebook already said, and name the cells with new outputs."""
    execute(notebook, path, options.timeout)
    normalize(notebook)
    if old is not None and not options.fresh:
        new = keep_outputs(notebook, old)
        print(f"{shown(path)}: new outputs in {f'cells {str(new)[1:-1]}' if new else 'no cell'}; the others are kept")


def normalize_file(path: Path, options: argparse.Namespace) -> None:
    write(path, serialize(normalize(read(path))))


def check_file(path: Path, options: argparse.Namespace) -> None:
    if found := findings(path):
        raise NotebookError("\n".join(found))


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = top.add_subparsers(dest="verb", required=True, metavar="verb")

    def verb(name: str, action, help: str, files: str = "+") -> argparse.ArgumentParser:
        child = verbs.add_parser(name, help=help, description=help)
        child.add_argument("files", nargs=files, type=Path, metavar="FILE")
        child.set_defaults(action=action, output=None)
        return child

    md = verb("md", convert_to_text, "write a notebook as MyST text, to edit")
    md.add_argument("-o", "--output", type=Path, help="the text file, where it is not text/<part>/<name>.md")
    from_md = verb("from-md", convert_from_text, "make or update a notebook from MyST text, and execute it")
    from_md.add_argument("-o", "--output", type=Path, help="the notebook, where it is not chapters/<part>/<name>.ipynb")
    from_md.add_argument("--no-run", action="store_true", help="do not execute; unchanged cells keep their outputs")
    run = verb("run", run_again, "execute notebooks again, in place (all chapters without files)", files="*")
    for child in (from_md, run):
        child.add_argument("--fresh", action="store_true", help="take every new output, also where the old one says the same")
        child.add_argument("--timeout", type=int, default=600, help="seconds that one cell may take (%(default)s)")
    verb("norm", normalize_file, "normalize notebooks without executing them", files="+")
    verb("check", check_file, "refuse notebooks that must not be committed (all chapters without files)", files="*")
    return top


def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    files = options.files or chapters()
    if options.output and len(files) > 1:
        print("-o names one file; give one notebook at a time", file=sys.stderr)
        return 2
    failed = 0
    for path in files:
        try:
            options.action(path, options)
        except NotebookError as error:
            failed += 1
            print(error, file=sys.stderr)
    if options.verb == "check":
        print(f"{len(files) - failed} of {len(files)} notebooks are fit to commit")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
