"""The round trip of a chapter, and each thing that its check refuses."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tools import notebook as tool

TEXT = """# A chapter

Words with $x^2$.

+++

A second cell of words.

```{code-cell}
:tags: [remove-cell]

import sys
```

```{code-cell}
print("one")
print("warning", file=sys.stderr)
print("two")
[1, 2]
```

```{code-cell}
:tags: [raises-exception]

int("three")
```

```python
not_executed()
```
"""


@pytest.fixture
def chapter(tmp_path: Path) -> tuple[Path, Path]:
    """(text, notebook) of a chapter that does not exist yet."""
    text = tmp_path / "text" / "part" / "name.md"
    text.parent.mkdir(parents=True)
    text.write_text(TEXT)
    return text, tmp_path / "chapters" / "part" / "name.ipynb"


@pytest.fixture(scope="module")
def executed(tmp_path_factory) -> Path:
    """The chapter, executed once for all tests that only read it."""
    folder = tmp_path_factory.mktemp("book")
    text = folder / "text" / "part" / "name.md"
    text.parent.mkdir(parents=True)
    text.write_text(TEXT)
    assert tool.main(["from-md", str(text)]) == 0
    return folder / "chapters" / "part" / "name.ipynb"


def test_counterparts(tmp_path: Path) -> None:
    text, notebook = tmp_path / "text/a/b.md", tmp_path / "chapters/a/b.ipynb"
    assert tool.counterpart(text) == notebook.resolve()
    assert tool.counterpart(notebook) == text.resolve()
    with pytest.raises(tool.NotebookError, match="not under text/"):
        tool.counterpart(tmp_path / "elsewhere" / "b.md")


def test_text_becomes_an_executed_normalized_notebook(executed: Path) -> None:
    notebook = nbformat.read(executed, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == [1, 2, 3]
    assert [(o.output_type, o.get("name")) for o in code[1].outputs] == [
        ("stream", "stdout"),
        ("stream", "stderr"),
        ("execute_result", None),
    ]
    assert code[1].outputs[0].text == "one\ntwo\n"
    assert len(code[2].outputs[0].traceback) == 1
    assert notebook.metadata == {"kernelspec": tool.KERNEL, "language_info": tool.LANGUAGE}
    assert code[0].metadata == {"tags": ["remove-cell"]}
    assert tool.findings(executed) == []


def test_round_trip_is_identical_to_the_byte(executed: Path) -> None:
    before = executed.read_bytes()
    assert tool.main(["md", str(executed)]) == 0
    assert tool.main(["from-md", "--no-run", str(tool.counterpart(executed))]) == 0
    assert executed.read_bytes() == before
    assert tool.main(["norm", str(executed)]) == 0
    assert executed.read_bytes() == before


def test_execution_twice_gives_the_same_file(executed: Path) -> None:
    before = executed.read_bytes()
    assert tool.main(["run", str(executed)]) == 0
    assert executed.read_bytes() == before


def test_an_edit_keeps_ids_and_the_outputs_of_other_cells(executed: Path, tmp_path: Path) -> None:
    old = nbformat.read(executed, as_version=4)
    new = tool.from_text(
        TEXT.replace('print("two")', 'print("three")').replace("A second cell", "New\n\n+++\n\nA"), old
    )
    ids = [cell.id for cell in old.cells]
    new_ids = [cell.id for cell in new.cells]
    assert len(new_ids) == len(ids) + 1 == len(set(new_ids))
    assert set(ids) <= set(new_ids)
    edited = next(cell for cell in new.cells if "three" in cell.source and cell.cell_type == "code")
    assert edited.id == next(cell.id for cell in old.cells if 'print("two")' in cell.source)
    assert edited.execution_count is None and edited.outputs == []
    assert next(cell for cell in new.cells if cell.source.startswith("int(")).outputs != []


def test_ids_of_a_new_notebook_depend_on_its_content_only() -> None:
    first, second = (tool.serialize(tool.from_text(TEXT)) for _ in range(2))
    assert first == second


def test_kernel_has_one_thread_the_package_and_the_folder(chapter, capsys) -> None:
    text, notebook = chapter
    text.write_text(
        "```{code-cell}\nimport os, pathlib, tutorlib\n"
        "print(os.environ['OMP_NUM_THREADS'], pathlib.Path.cwd().name, 'TUTORLIB_DEVICE' in os.environ)\n```\n"
    )
    assert tool.main(["from-md", str(text)]) == 0
    assert nbformat.read(notebook, as_version=4).cells[0].outputs[0].text == "1 part False\n"
    assert "1 code cells in" in capsys.readouterr().out


def test_a_failing_cell_is_named_and_the_old_notebook_stays(chapter, capsys) -> None:
    text, notebook = chapter
    text.write_text("```{code-cell}\n1 + 1\n```\n")
    assert tool.main(["from-md", str(text)]) == 0
    before = notebook.read_bytes()
    text.write_text("Words\n\n```{code-cell}\nraise RuntimeError('no')\n```\n")
    assert tool.main(["from-md", str(text)]) == 1
    assert "name.ipynb, cell 2 (raise RuntimeError('no')) failed" in capsys.readouterr().err
    assert notebook.read_bytes() == before
    assert [path.name for path in notebook.parent.iterdir()] == ["name.ipynb"]


def test_a_file_is_whole_or_as_it_was_where_writing_breaks_off(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "a.ipynb"
    path.write_text("hours of work")

    def full(self: Path, text: str, **_) -> None:
        self.write_bytes(text[: len(text) // 2].encode())
        raise OSError("No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space left"):
        tool.write(path, "a new notebook")
    assert path.read_text() == "hours of work" and list(tmp_path.iterdir()) == [path]


def test_a_missing_or_broken_file_is_one_line(tmp_path: Path, capsys) -> None:
    broken = tmp_path / "broken.ipynb"
    broken.write_text("{")
    assert tool.main(["check", str(broken), str(tmp_path / "gone.ipynb")]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and "not a valid notebook" in lines[0] and "no such file" in lines[1]


# ---------------------------------------------------------------------------------------------------------------------
# The check


def write(path: Path, *cells, normalize: bool = True) -> Path:
    notebook = new_notebook(cells=list(cells))
    path.write_text(tool.serialize(tool.normalize(notebook) if normalize else notebook))
    return path


def code(source: str, *outputs, count: int | None = 1, **metadata):
    return new_code_cell(source, execution_count=count, outputs=list(outputs), metadata=metadata)


def stream(text: str, name: str = "stdout"):
    return new_output("stream", name=name, text=text)


def result(text: str):
    return new_output("execute_result", data={"text/plain": text}, execution_count=1)


FIGURE = new_output("display_data", data={"image/svg+xml": "<svg/>", "text/plain": "<Figure size 640x480 with 1 Axes>"})
ERROR = new_output("error", ename="ValueError", evalue="bad", traceback=["ValueError: bad"])
LONG = "\n".join(f"x{i} = {i}" for i in range(31))
TRACE = 'Traceback (most recent call last):\n  File "<cell>", line 1\nValueError: bad\n'

REFUSED = [
    (code("print(1)", stream("1\n"), count=None), "no execution count"),
    (code("x = 1", count=None), "no execution count"),
    (code("x;"), "trailing ';'"),
    (code("x;  # shown"), "trailing ';'"),
    (code("%timeit x"), "a magic or a shell command: %timeit x"),
    (code("!ls"), "a magic or a shell command: !ls"),
    (code("x = !ls\n!pwd"), "a magic or a shell command: !pwd"),
    (code("print?"), "a magic or a shell command: print?"),
    (code("x = = 1"), "a syntax error"),
    (code("f()", ERROR), "an error without the tag raises-exception: ValueError: bad"),
    (code("f()", stream(TRACE)), "a traceback in a visible output"),
    (code("plot()", FIGURE), "a figure without alternative text"),
    (code("plot()", FIGURE, mystnb={"image": {"alt": " "}}), "a figure without alternative text"),
    (code("plot()", FIGURE, mystnb={"image": {"alt": "plot.svg"}}), "a figure without alternative text"),
    (code("open('/home/ada/data.txt')"), "a local path in the source: /home/ada"),
    (
        code("f()", stream("/tmp/ipykernel_12/34.py:1: UserWarning: x\n", "stderr")),
        "a local path in the output: /tmp/ipy",
    ),
    (code("f()", result("PosixPath('/Users/ada/book')")), "a local path in the output: /Users/ada"),
    (code("f()", result(r"'C:\Users'")), "a local path in the output"),
    (new_markdown_cell("See /home/ada/notes."), "a local path in the source"),
    (code("f", result("<function f at 0x7f3a2c1b5d30>")), "a memory address in the output: 0x7f3a2c1b5d30"),
    (
        code("f()", stream(" 50%|#####     | 5/10 [00:01<00:01, 4.9it/s]", "stderr")),
        "a progress bar in a compared cell",
    ),
    (code("f()", stream("step 1\rstep 2")), "a progress bar in a compared cell"),
    (code(LONG), "31 lines of code; at most 30"),
    (code(""), "an empty cell"),
]


@pytest.mark.parametrize(("cell", "message"), REFUSED)
def test_each_fault_is_refused(tmp_path: Path, cell, message: str) -> None:
    path = write(tmp_path / "chapter.ipynb", new_markdown_cell("# Title"), cell)
    found = [line for line in tool.findings(path) if message in line]
    assert len(found) == 1
    assert "chapter.ipynb, cell 2" in found[0]


ACCEPTED = [
    code("x = 1; y = 2"),
    code("x = (5\n% 3)"),
    code('text = ";"'),
    code("f()", ERROR, tags=["raises-exception"]),
    code("f()", stream(TRACE), tags=["remove-output"]),
    code("plot()", FIGURE, mystnb={"image": {"alt": "A line that falls"}}),
    code("plot()", FIGURE, tags=["remove-cell"]),
    code("mask = 0x7fffffff"),
    code("ratio", result("a/b and 1/2, see https://example.org/home/x and <p></p>")),
    code("never_run()", count=None, tags=["nbval-skip", "skip-execution"]),
    code("await f()"),
    new_markdown_cell("Open chapters/attention/position.ipynb."),
]


@pytest.mark.parametrize("cell", ACCEPTED)
def test_what_is_right_is_accepted(tmp_path: Path, cell) -> None:
    assert tool.findings(write(tmp_path / "chapter.ipynb", cell)) == []


def test_most_printing_cells_must_be_compared(tmp_path: Path) -> None:
    ignored = [code(f"print({i})", stream(f"{i}\n"), tags=["nbval-ignore-output"]) for i in range(4)]
    compared = [code(f"print({i})", stream(f"{i}\n")) for i in range(4, 10)]
    found = tool.findings(write(tmp_path / "chapter.ipynb", *ignored, *compared))
    assert len(found) == 1 and "only 6 of 10 printing cells are compared; at least 70%" in found[0]
    assert tool.findings(write(tmp_path / "chapter.ipynb", *ignored[1:], *compared, code("7", result("7")))) == []


def test_a_progress_bar_may_stand_in_a_cell_that_is_not_compared(tmp_path: Path) -> None:
    bar = code("f()", stream("100%|##| 2/2 [00:01<00:00, 1.9it/s]\n"), tags=["nbval-ignore-output"])
    others = [code(f"print({i})", stream(f"{i}\n")) for i in range(3)]
    assert tool.findings(write(tmp_path / "chapter.ipynb", bar, *others)) == []


def test_a_large_file_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "chapter.ipynb", code("f()", result("x" * 2_100_000)))
    assert any("2.1 MB, over 2.0 MB" in line for line in tool.findings(path))


def test_what_an_editor_leaves_is_refused(tmp_path: Path) -> None:
    cell = code("x", result("1"), count=7, collapsed=True)
    found = tool.findings(write(tmp_path / "chapter.ipynb", cell, normalize=False))
    assert len(found) == 1 and "not normalized; run: python tools/notebook.py norm" in found[0]


def test_words_that_do_not_survive_the_text_form_are_refused(tmp_path: Path) -> None:
    found = tool.findings(write(tmp_path / "chapter.ipynb", new_markdown_cell("Above\n\n+++\n\nbelow")))
    assert len(found) == 1 and "change when it is written as text" in found[0]


@pytest.mark.parametrize("order", [[0, 1, 2], [1, 0, 2], [0, 2, 1]])
def test_standard_output_comes_first_whichever_stream_was_faster(order: list[int]) -> None:
    pieces = [stream("one\n"), stream("warning\n", "stderr"), stream("two\n")]
    merged = tool.merge_streams([copy.deepcopy(pieces[i]) for i in order])
    assert [(o.name, o.text) for o in merged] == [("stdout", "one\ntwo\n"), ("stderr", "warning\n")]


def test_normal_form_drops_what_depends_on_who_ran_it() -> None:
    cell = code("x", result("1"), count=9, execution={"iopub.execute_input": "2026-01-01"}, tags=["hide-input"])
    cell.outputs[0].metadata = {"needs_background": "light"}
    kernel = {"kernelspec": {"name": "mine", "display_name": "Mine"}}
    notebook = new_notebook(cells=[cell, code("y", count=12)], metadata=kernel)
    done = json.loads(tool.serialize(tool.normalize(notebook)))
    assert [c["execution_count"] for c in done["cells"]] == [1, 2]
    assert done["cells"][0]["metadata"] == {"tags": ["hide-input"]}
    assert done["cells"][0]["outputs"][0]["metadata"] == {}
    assert done["cells"][0]["outputs"][0]["execution_count"] == 1
    assert done["metadata"]["kernelspec"]["name"] == "python3"


# ---------------------------------------------------------------------------------------------------------------------
# Outputs that are kept

# Each picture and each tick differs in every execution, as a figure's last digits do between machines.
CHANCE = """# Outputs by chance

```{code-cell}
:tags: [nbval-ignore-output]

import time
from IPython.display import display
tick = lambda: time.perf_counter_ns()
picture = lambda: display({"image/svg+xml": f"<?xml version='1.0'?><svg>{tick()}</svg>"}, raw=True)
print(tick())
```

```{code-cell}
picture()
```

```{code-cell}
number = 1
print("first")
```

```{code-cell}
print(number > 0)
```

```{code-cell}
print(number)
```

```{code-cell}
picture()
```

```{code-cell}
:tags: [nbval-ignore-output]

print(tick())
```
"""


@pytest.fixture(scope="module")
def by_chance(tmp_path_factory) -> Path:
    """A notebook of CHANCE, executed once; each test works on its copy."""
    folder = tmp_path_factory.mktemp("chance")
    text = folder / "text" / "name.md"
    text.parent.mkdir(parents=True)
    text.write_text(CHANCE)
    assert tool.main(["from-md", str(text)]) == 0
    return folder / "chapters" / "name.ipynb"


@pytest.fixture
def again(by_chance: Path, tmp_path: Path, capsys):
    """(how to execute a text again, over a copy of the executed notebook): the code cells whose outputs are new."""

    def execute_again(text: str | None, *options: str) -> list[int]:
        notebook, source = tmp_path / "chapters" / "name.ipynb", tmp_path / "text" / "name.md"
        for path in (notebook, source):
            path.parent.mkdir(exist_ok=True)
        notebook.write_bytes(by_chance.read_bytes())
        source.write_text(text or "")
        verb = ["run", str(notebook)] if text is None else ["from-md", str(source)]
        assert tool.main([*verb, *options]) == 0
        before, after = code_outputs(by_chance), code_outputs(notebook)
        new = [number for number, (a, b) in enumerate(zip(before, after, strict=True), 1) if a != b]
        told = [number + 1 for number in new]  # the title is cell 1
        if "--fresh" not in options:
            assert f"new outputs in {f'cells {str(told)[1:-1]}' if told else 'no cell'};" in capsys.readouterr().out
        return new

    return execute_again


def code_outputs(path: Path) -> list[str]:
    cells = json.loads(path.read_text())["cells"]
    return [json.dumps(cell["outputs"]) for cell in cells if cell["cell_type"] == "code"]


def test_changed_words_leave_every_output_as_it_is(again) -> None:
    assert again(CHANCE.replace("by chance", "by chance, and other words")) == []
    assert again(None) == []


def test_a_changed_code_cell_renews_itself_and_what_differs_below(again) -> None:
    """The third cell's own words, the fifth's number, and below them the picture and the tick, which may show it."""
    assert again(CHANCE.replace("number = 1", "number = 2").replace("first", "second")) == [3, 5, 6, 7]
    assert again(CHANCE.replace("number = 1", "number = 3 - 2")) == [6, 7]


def test_a_removed_code_cell_renews_the_pictures_below_it(by_chance: Path) -> None:
    old, new = (nbformat.read(by_chance, as_version=4) for _ in range(2))
    del new.cells[4]  # print(number > 0)
    for cell in (new.cells[2], new.cells[5]):
        cell.outputs[0].data["image/svg+xml"] = SVG_FIGURE.format("new")
    assert tool.keep_outputs(new, old) == [6]


def test_fresh_takes_every_new_output(again) -> None:
    assert again(None, "--fresh") == [1, 2, 6, 7]
    assert again(CHANCE, "--fresh") == [1, 2, 6, 7]


def test_a_cell_that_prints_something_else_is_replaced_and_so_are_the_pictures_below(by_chance: Path) -> None:
    """As when tutorlib has changed, and no cell."""
    old, new = (nbformat.read(by_chance, as_version=4) for _ in range(2))
    for cell in (new.cells[2], new.cells[6]):
        cell.outputs[0].data["image/svg+xml"] = SVG_FIGURE.format("new")
    new.cells[5].outputs[0].text = "2\n"
    assert tool.keep_outputs(new, old) == [6, 7]
    assert new.cells[2].outputs == old.cells[2].outputs and new.cells[5].outputs[0].text == "2\n"


def test_a_cell_that_had_not_run_gets_its_outputs() -> None:
    old = new_notebook(cells=[code("print(1)", count=None), code("f()", count=None, tags=["skip-execution"])])
    new = new_notebook(cells=[code("print(1)", stream("1\n")), code("f()", count=None, tags=["skip-execution"])])
    for before, after in zip(old.cells, new.cells):
        after.id = before.id
    assert tool.keep_outputs(new, old) == [1]
    assert new.cells[0].outputs == [stream("1\n")]


def png(data: str, **others: str):
    return new_output("display_data", data={"image/png": data, "text/plain": "<Figure>", **others})


SVG_FIGURE = "<?xml version='1.0'?><svg>{}</svg>\n"
WARNING = "{}/34.py:1: UserWarning: at 0x7f3a2c1b5d30\n"

PAIRS = [
    ([], []),
    ([], [stream("1\n")]),
    ([stream("1\n")], [stream("2\n")]),
    ([stream("1\n")], [stream("1\n", "stderr")]),
    ([stream("1\n"), result("x"), stream("2\n")], [stream("1\n2\n"), result("x")]),
    ([stream("1\n"), result("x")], [result("x"), stream("1\n")]),
    ([result("x")], [new_output("display_data", data={"text/plain": "x"})]),
    ([result("x"), result("y")], [result("y"), result("x")]),
    ([result("x")], [result("x"), result("x")]),
    ([png("AAAA")], [png("BBBB")]),
    ([png("AAAA")], [new_output("display_data", data={"text/plain": "<Figure>"})]),
    ([png("AAAA", **{"text/html": "<b>1</b>"})], [png("AAAA", **{"text/html": "<b>2</b>"})]),
    ([png("A", **{"image/svg+xml": SVG_FIGURE.format(1)})], [png("A", **{"image/svg+xml": SVG_FIGURE.format(2)})]),
    ([stream(WARNING.format("/tmp/ipykernel_12"), "stderr")], [stream(WARNING.format("/tmp/ipykernel_3"), "stderr")]),
    ([ERROR], [new_output("error", ename="ValueError", evalue="bad", traceback=["other"])]),
    ([ERROR], [new_output("error", ename="ValueError", evalue="worse", traceback=["ValueError: bad"])]),
    ([new_output("display_data", data={"text/latex": "$1$"})], [new_output("display_data", data={"text/latex": "$2$"})]),
]


@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_what_says_the_same_is_what_nbval_finds_equal(old: list, new: list, request, tmp_path: Path) -> None:
    from nbval.plugin import IPyNbCell, IPyNbFile, coalesce_streams, get_sanitize_patterns

    path = write(tmp_path / "chapter.ipynb", code("x"))
    file = IPyNbFile.from_parent(request.session, path=path)
    file.sanitize_patterns.update(get_sanitize_patterns(tool.SANITIZE.read_text()))
    cell = IPyNbCell.from_parent(file, name="cell", cell_num=0, cell=code("x"), options={})
    expected = cell.compare_outputs(coalesce_streams(copy.deepcopy(new)), coalesce_streams(copy.deepcopy(old)))
    assert (tool.compared(old) == tool.compared(new)) is expected


def test_help_names_every_verb(capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        tool.main(["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert all(verb in text for verb in ("md", "from-md", "run", "norm", "check"))
