"""The harness for other machines: what it changes, what it records, what it calls FAIL and THIN."""

from __future__ import annotations

import ast
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
import torch
from nbformat.v4 import new_code_cell, new_notebook, new_output

from tools import portable
from tools.notebook import kernel_environment
from tools.portable import findings, main
from tools.watch import check, install_jitter, watch
from tutorlib.autograd import Variable
from tutorlib.training.optimizers import SGD

# The gradient is 1, so that the weight is -1 exactly, and -(1 + 6.6e-7) with the noise of seed 1.
TRAINING = """import torch
weight = torch.nn.Parameter(torch.zeros(1))
weight.sum().backward()
torch.optim.SGD([weight], lr=1.0).step()
size = -weight.item()
print("trained")"""


def cell(source: str, *outputs, tags: tuple[str, ...] = ()):
    streams = [new_output("stream", text=text) if isinstance(text, str) else text for text in outputs]
    return new_code_cell(source, outputs=streams, execution_count=1, metadata={"tags": list(tags)} if tags else {})


def write_notebook(path: Path, *cells) -> Path:
    nbformat.write(new_notebook(cells=list(cells)), path)
    return path


@pytest.fixture
def records(tmp_path, monkeypatch) -> Path:
    """The folder of records, empty."""
    monkeypatch.setattr(portable, "FOLDER", tmp_path / "records")
    return tmp_path / "records"


@pytest.fixture
def chapter(tmp_path) -> Path:
    return write_notebook(tmp_path / "small.ipynb", cell("print(1)", "1\n"))


def run_as(monkeypatch, checks: list[dict] | Exception) -> list[str]:
    """Chapters are no longer executed: every run gives these checks. Returns the list of conditions that were run."""
    ran: list[str] = []

    def run_chapter(path, condition, timeout):
        ran.append(condition)
        if isinstance(checks, Exception):
            raise checks
        return [{**one, "sides": one["sides"].get(condition, [])} if isinstance(one["sides"], dict) else one for one in checks]

    monkeypatch.setattr(portable, "run_chapter", run_chapter)
    return ran


# ---------------------------------------------------------------------------------------------------------------------
# A notebook in kernels


@pytest.fixture(scope="module")
def executed(tmp_path_factory) -> SimpleNamespace:
    """The status, the report and the findings by cell of a notebook that was run with and without jitter."""
    folder = tmp_path_factory.mktemp("portable")
    error = new_output("error", ename="AssertionError", evalue="meant", traceback=["AssertionError: meant"])
    path = write_notebook(
        folder / "small.ipynb",
        cell(TRAINING, "trained\n"),
        cell("assert size < 1.0000005, 'too large'\nprint('went on')", "went on\n"),
        cell("assert size < 1.000001"),
        cell("# a comment\nassert size < 2"),
        cell("print(size > 1.0000003)", "False\n"),
        cell("print(size > 1.0000003)", "False\n", tags=("nbval-ignore-output",)),
        cell("assert size > 5, 'meant'", error, tags=("raises-exception",)),
        cell("raise RuntimeError", tags=("skip-execution",)),
        cell("[size][1]"),
        cell("0.5", new_output("execute_result", {"text/plain": "0.5"}, execution_count=1)),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(portable, "FOLDER", folder)
        status = main([str(path), "--conditions", "jitter 0", "jitter 1", "--report", str(folder / "report.md")])
        runs = {condition: portable.run(path, condition, portable.record_of(path, condition), 1)
                for condition in ("jitter 0", "jitter 1")}
    found = {one.place.removeprefix("small, "): one for one in findings("small", runs)}
    return SimpleNamespace(status=status, report=(folder / "report.md").read_text(), found=found)


@pytest.mark.slow
def test_an_assert_that_fails_under_one_condition_is_found_and_the_chapter_goes_on(executed) -> None:
    one = executed.found["cell 1, line 1"]
    assert one.verdict == "FAIL" and one.problems == {"jitter 1": "AssertionError: too large"}
    assert "cell 1" not in executed.found  # it printed what it should, after the assert
    assert executed.found["cell 3, line 2"].sides["jitter 0"] == [1.0, "<", 2.0]


@pytest.mark.slow
def test_a_thin_margin_is_found_and_a_wide_one_is_not(executed) -> None:
    thin, wide = executed.found["cell 2, line 1"], executed.found["cell 3, line 2"]
    assert (thin.verdict, wide.verdict) == ("THIN", "")
    assert 0 < thin.margin < 3 and wide.margin > 1e5


@pytest.mark.slow
def test_a_changed_output_is_found_where_it_is_compared(executed) -> None:
    assert executed.found["cell 4"].problems == {"jitter 1": "stdout: committed 'False', now 'True'"}
    assert "cell 5" not in executed.found and "cell 9" not in executed.found


@pytest.mark.slow
def test_only_a_cell_that_may_raises(executed) -> None:
    assert set(executed.found["cell 8"].problems) == {"jitter 0", "jitter 1"}
    assert "IndexError" in executed.found["cell 8"].problems["jitter 0"]
    assert not executed.found["cell 6, line 1"].problems and not {"cell 6", "cell 7"} & executed.found.keys()


@pytest.mark.slow
def test_the_report_counts_and_shows_values(executed) -> None:
    assert executed.status == 1
    assert "| small | 4 | 3 | 1 | 0." in executed.report
    assert "## THIN small, cell 2, line 1\n\n`size < 1.000001`" in executed.report
    assert "| jitter 0 | 1 < 1.000001 |  |" in executed.report
    assert " < 1.0000005 | AssertionError: too large |" in executed.report
    assert executed.report.index("FAIL small, cell 8") < executed.report.index("THIN")


@pytest.mark.slow
@pytest.mark.parametrize(("condition", "code"), [
    ("two threads", "torch.get_num_threads() == 2"),
    ("narrow vectors", "torch.backends.cpu.get_cpu_capability() == 'DEFAULT'"),
])
def test_the_condition_reaches_the_kernel(records, tmp_path, condition, code) -> None:
    path = write_notebook(tmp_path / "small.ipynb", cell(f"import torch\nassert {code}"))
    assert [one["problem"] for one in portable.run(path, condition, portable.record_of(path, condition), 60)] == [None]


# ---------------------------------------------------------------------------------------------------------------------
# Asserts taken apart


def recorded(source: str, may_raise: bool = False, **names) -> list[dict]:
    """The checks of a cell, executed here."""
    shell = SimpleNamespace(execution_count=1, user_ns=names, ast_transformers=[])
    watch(shell, [(7, may_raise)])
    shell.execution_count += 1
    exec(compile(shell.ast_transformers[0].visit(ast.parse(source)), "cell", "exec"), names)
    return names["__asserts__"].checks


@pytest.mark.parametrize(("test", "sides"), [
    ("a < 2", [[1, "<", 2]]),
    ("0 < a <= 2 != 3", [[0, "<", 1], [1, "<=", 2]]),
    ("a == 1 and a != 2", [[1, "==", 1]]),
    ("(t - 1 == torch.tensor([0.0, 1.0])).all() and t is t", [[0, "==", 0]]),
    ("abs(a - 3) < 4 and not a > 5 or a < 0", [[2, "<", 4], [1, ">", 5]]),
    ("all(x < b for x, b in ((1, 4), (2, 5)))", [[1, "<", 4], [2, "<", 5]]),
    ("any([x > 1 for x in (1, 2)])", [[1, ">", 1], [2, ">", 1]]),
    ("(t < 3).all()", [[2, "<", 3]]),
    ("torch.all(t > 0)", [[1, ">", 0]]),
    ("t.sum() > 2.5", [[3, ">", 2.5]]),
    ("a < 5 if a > 0 else a > -5", [[1, "<", 5]]),
    ("[1, 2] < [1, 3] and 'a' < 'b' and {1} <= {1, 2}", []),
    ("a < float('inf') and float('inf') <= float('inf') and (t[:0] < 1).all()", []),
    ("(twice := 2 * a) < 4", []),
])
@pytest.mark.filterwarnings("error")
def test_both_sides_of_each_comparison_are_recorded(test, sides) -> None:
    found = recorded(f"assert {test}", a=1, t=torch.tensor([1.0, 2.0]), torch=torch)
    assert [(one["cell"], one["line"], one["problem"], one["sides"]) for one in found] == [(7, 1, None, sides)]


@pytest.mark.parametrize(("test", "order"), [
    ("f(1) < f(2) < f(3)", "123"),
    ("f(2) < f(1) < f(3)", "21"),
    ("f(2) < f(1) and f(3) > 0", "21"),
    ("all(f(x) < 2 for x in (1, 2, 3))", "12"),
    ("any(f(x) < 2 for x in (3, 1, 0))", "31"),
    ("(g := f(1)) < f(g + 1)", "12"),
])
def test_operands_are_evaluated_once_in_order_and_no_further_than_python_goes(test, order) -> None:
    called: list[str] = []

    def f(x):
        called.append(str(x))
        return x

    recorded(f"assert {test}", f=f)
    assert "".join(called) == order


def test_the_assert_keeps_its_message_and_its_exception() -> None:
    found = recorded("assert 2 < 1, f'{1 + 1} is more'\nassert 1 / 0 < 1\nassert 3 > 2, 1 / 0\nx = 1\nassert not x\n")
    problems = [one["problem"] for one in found]
    assert problems == ["AssertionError: 2 is more", "ZeroDivisionError: division by zero", None, "AssertionError"]
    assert [one["line"] for one in found] == [1, 2, 3, 5]


@pytest.mark.parametrize("source", [
    "try:\n    assert 2 < 1\nexcept AssertionError:\n    reached = True",
    "def f(x):\n    assert x < 1\ntry:\n    f(2)\nexcept AssertionError:\n    reached = True",
    "class C:\n    x = 1\n    assert 0 < x\nreached = True",
])
def test_an_exception_that_may_be_meant_passes(source) -> None:
    names: dict = {}
    assert all(one["problem"] is None for one in recorded(source + "\nseen.append(reached)", seen=names.setdefault("seen", [])))
    assert names["seen"] == [True]


def test_a_cell_that_may_raise_raises() -> None:
    with pytest.raises(AssertionError, match="meant"):
        recorded("assert 2 < 1, 'meant'", may_raise=True)


# ---------------------------------------------------------------------------------------------------------------------
# Jitter


def trained(optimizer: type, seed: int | None) -> torch.Tensor:
    """The weights after three steps under a jitter, or without any."""
    weight = torch.nn.Parameter(torch.linspace(-1, 1, 12).reshape(3, 4))
    remove = install_jitter(seed) if seed is not None else lambda: None
    try:
        steps = optimizer([weight], lr=0.1)
        for _ in range(3):
            steps.zero_grad()
            (weight.tanh() ** 2).sum().backward()
            steps.step()
    finally:
        remove()
    return weight.detach()


def differentiated(seed: int, dtype: torch.dtype = torch.float32, *shape: int) -> torch.Tensor:
    leaf = Variable(torch.ones(shape or (2, 3), dtype=dtype))
    remove = install_jitter(seed)
    try:
        (leaf * 3.0).sum().backward()
    finally:
        remove()
    return leaf.grad


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, SGD, torch.optim.Adam])
def test_jitter_0_leaves_every_bit_and_the_others_move_roundings_always_alike(optimizer) -> None:
    plain = trained(optimizer, None)
    one, two = trained(optimizer, 1), trained(optimizer, 2)
    assert torch.equal(plain, trained(optimizer, 0)) and torch.equal(one, trained(optimizer, 1))
    assert not torch.equal(plain, one) and not torch.equal(one, two)
    assert torch.allclose(plain, one, rtol=0, atol=1e-5)


def test_the_noise_turns_from_step_to_step() -> None:
    """Adam would divide a constant factor away: what is left of it after thirty steps would be nothing."""
    weight = torch.nn.Parameter(torch.zeros(64))
    shaken, remove = [], install_jitter(1)
    try:
        steps = torch.optim.SGD([weight], lr=0.0)
        for step in range(3):
            weight.grad = torch.full((64,), 1.0 + step)
            steps.step()
            shaken.append(weight.grad / (1 + step))
    finally:
        remove()
    assert not torch.equal(shaken[0], shaken[1]) and not torch.equal(shaken[1], shaken[2])


def test_jitter_reaches_our_differentiation_but_for_exact_things() -> None:
    assert torch.equal(differentiated(0), torch.full((2, 3), 3.0))
    assert 0 < (differentiated(1) - 3).abs().max() < 3e-5
    assert torch.equal(differentiated(1), differentiated(1)) and not torch.equal(differentiated(1), differentiated(2))
    assert torch.equal(differentiated(1, torch.float64), torch.full((2, 3), 3.0, dtype=torch.float64))
    assert torch.equal(differentiated(1, torch.float32, 6), torch.full((6,), 3.0))


@pytest.mark.slow
def test_the_tests_that_train_run_under_a_condition(tmp_path, monkeypatch) -> None:
    module = tmp_path / "test_small.py"
    tests = ("size != 1", "torch.get_num_threads() == 2", "size == 1")
    module.write_text(TRAINING + "".join(f"\ndef test_{i}(): assert {code}\n" for i, code in enumerate(tests)))
    monkeypatch.setattr(portable, "training_tests", lambda: [module])
    monkeypatch.setitem(portable.CONDITIONS, "both", {"PORTABLE_JITTER": "1", "COURSE_THREADS": "2"})
    found = portable.run_tests("both", 60)
    assert [one["what"].split(".")[-1] for one in found] == ["test_0", "test_1", "test_2"]
    assert [one["problem"] is None for one in found] == [True, True, False]
    assert found[2]["problem"].startswith("assert 1.0000")


def test_the_tests_that_train_are_found() -> None:
    names = {path.name for path in portable.training_tests()}
    assert {"test_loop.py", "test_classifiers.py", "test_train_pronunciation.py"} <= names
    assert not {"test_check_site.py", "test_portable.py"} & names


def test_a_condition_sets_its_variables_and_those_alone(monkeypatch) -> None:
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "avx2")
    monkeypatch.setenv("PORTABLE_JITTER", "5")
    assert not {"ATEN_CPU_CAPABILITY", "PORTABLE_JITTER"} & portable.environment("jitter 0").keys()
    assert portable.environment("narrow vectors")["ATEN_CPU_CAPABILITY"] == "default"
    assert [portable.environment(c)["OMP_NUM_THREADS"] for c in ("jitter 0", "two threads")] == ["1", "2"]
    monkeypatch.setenv("COURSE_THREADS", "2")  # what conftest.py sees
    assert kernel_environment()["MKL_NUM_THREADS"] == "2"


# ---------------------------------------------------------------------------------------------------------------------
# Verdicts


def verdict(*values: float, bound: float = 1.0):
    runs = {f"condition {i}": [{**check(0, 1, "x < bound"), "sides": [[x, "<", bound]]}] for i, x in enumerate(values)}
    return findings("small", runs)[0]


@pytest.mark.parametrize(("values", "expected"), [
    ((0.5, 0.6), ""),  # 0.4 / 0.1
    ((0.5, 0.65), "THIN"),  # 0.35 / 0.15
    ((0.5, 0.625), ""),  # 0.375 / 0.125, which is 3 to the last bit and so not below it
    ((0.999, 0.999), ""),  # the same under all conditions: no margin is needed
    ((0.999,), ""),
    ((0.5, 0.65, 2), "THIN"),
])
def test_thin_is_below_three_spreads(values, expected) -> None:
    assert verdict(*values).verdict == expected


def test_an_equality_has_no_margin_but_is_shown() -> None:
    runs = {name: [{**check(0, 1, "rank == 1", problem), "sides": [[rank, "==", 1]]}]
            for name, rank, problem in (("a", 1, None), ("b", 2, "AssertionError"))}
    one, = findings("small", runs)
    assert one.verdict == "FAIL" and one.margin == float("inf") and not one.thin
    assert "| b | 2 == 1 | AssertionError |" in portable.report({"small": [one]}, ["a", "b"])


def test_the_margin_is_in_units_of_the_spread_of_the_difference() -> None:
    assert verdict(0.5, 0.6).margin == pytest.approx(4) and verdict(0.25, 0.5).margin == pytest.approx(2)


def test_a_time_that_one_condition_did_not_reach_counts_among_the_others() -> None:
    runs = {name: [{**check(0, 1, "x < 1"), "sides": [[x, "<", 1.0]]} for x in values]
            for name, values in {"a": (0.5, 0.9), "b": (0.5,), "c": (0.5, 0.95)}.items()}
    assert findings("small", runs)[0].verdict == "THIN"  # the second time: 0.05 / 0.05


def test_of_many_comparisons_the_broken_one_is_shown_else_the_thinnest() -> None:
    def repeated(condition: float) -> list[dict]:
        sides = [[0.1 + condition, "<", 1.0], [0.8 + condition, "<", 1.0]]
        return [{**check(0, 1, "loop"), "sides": [one]} for one in sides]

    one, = findings("small", {"a": repeated(0), "b": repeated(0.1)})
    assert one.sides == {"a": [0.8, "<", 1.0], "b": [0.9, "<", 1.0]} and one.thin == 1
    one, = findings("small", {"a": repeated(0.3), "b": repeated(0.3)})
    assert one.sides["a"][0] == 1.1


# ---------------------------------------------------------------------------------------------------------------------
# Records


def test_a_run_on_record_is_not_repeated_and_a_changed_cell_is_run_again(records, chapter, monkeypatch, capsys) -> None:
    ran = run_as(monkeypatch, [])
    arguments = [str(chapter), "--conditions", "jitter 0", "two threads"]
    assert (main(arguments), main(arguments)) == (0, 0) and sorted(ran) == ["jitter 0", "two threads"]
    assert capsys.readouterr().out.count("on record") == 2
    write_notebook(chapter, cell("print(1 + 0)", "1\n"))
    assert main(arguments) == 0 and len(ran) == 4
    write_notebook(chapter, cell("print(1 + 0)", "2\n"))
    assert main(arguments) == 0 and len(ran) == 6


def test_output_that_is_not_compared_and_tags_of_the_page_change_no_record(chapter) -> None:
    def name(*outputs, **options):
        return portable.record_of(write_notebook(chapter, cell("print(1)", *outputs, **options)), "jitter 0").name

    ignored, plain = ("nbval-ignore-output",), name("1\n")
    assert name("1\n", tags=("hide-input",)) == plain != name("1\n", tags=ignored)
    assert name("2\n", tags=ignored) == name("1\n", tags=ignored)
    assert portable.record_of(chapter, "jitter 1").name != portable.record_of(chapter, "jitter 0").name


def test_a_run_that_breaks_off_fails_and_is_not_kept(records, chapter, monkeypatch) -> None:
    run_as(monkeypatch, RuntimeError("the kernel died"))
    assert main([str(chapter), "--conditions", "jitter 0"]) == 1
    assert "## FAIL small\n\n`the run ends`" in (text := (records / "report.md").read_text()) and "the kernel died" in text
    assert not list(records.glob("*.json"))


def test_comments_and_docstrings_change_no_record_but_code_does(tmp_path) -> None:
    module = tmp_path / "module.py"

    def code(source: str) -> str:
        module.write_text(source)
        portable.code_of.cache_clear()
        return portable.code_of(tmp_path)

    plain = code('"""One."""\ndef f(x):\n    """Two."""\n    return x + 1\n')
    assert code('"""Uno."""\n# why\ndef f(x):\n    """Due."""\n    return  x + 1  # so\n') == plain
    assert code('"""One."""\ndef f(x):\n    """Two."""\n    return x + 2\n') != plain
    assert code('"""One."""\ndef f(x):\n    "kept"[0]\n    return x + 1\n') != plain
    portable.code_of.cache_clear()


# ---------------------------------------------------------------------------------------------------------------------
# The command line


@pytest.mark.parametrize(("checks", "options", "status"), [
    ([], [], 0),
    ([check(0, 1, "x")], [], 0),
    ([check(0, 1, "x", "AssertionError")], [], 1),
    ([{**check(0, 1, "x"), "sides": {"jitter 0": [[0, "<", 1]], "jitter 1": [[0.5, "<", 1]]}}], [], 0),
    ([{**check(0, 1, "x"), "sides": {"jitter 0": [[0, "<", 1]], "jitter 1": [[0.5, "<", 1]]}}], ["--strict"], 1),
])
def test_the_exit_status(records, chapter, monkeypatch, checks, options, status) -> None:
    run_as(monkeypatch, checks)
    assert main([str(chapter), "--conditions", "jitter 0", "jitter 1", *options]) == status
    assert ("THIN" in (records / "report.md").read_text()) == bool(checks and isinstance(checks[0]["sides"], dict))


def test_an_unknown_name_is_refused_with_those_that_exist(capsys) -> None:
    assert main(["netwroks"]) == 2
    assert "no chapter 'netwroks'; the names are: " in (message := capsys.readouterr().err)
    assert "networks" in message and "tests" in message


def test_chapters_are_found_by_name_and_by_path() -> None:
    path = portable.ROOT / "chapters" / "concepts" / "networks.ipynb"
    assert portable.named("networks") == portable.named(str(path)) == path
    assert portable.named("tests") == portable.ROOT / "tests"


def test_without_names_all_chapters_and_the_tests_are_run(records, monkeypatch) -> None:
    ran = run_as(monkeypatch, [])
    monkeypatch.setattr(portable, "run_tests", lambda condition, timeout: ran.append("tests") or [])
    assert main(["--conditions", "jitter 0", "--jobs", "1"]) == 0
    assert ran == ["jitter 0"] * len(portable.chapters()) + ["tests"]
