"""The exercise framework: what ``check`` prints, and that it never raises."""
import inspect
import re
import textwrap
import warnings

import numpy as np
import pytest
import torch

from tutorlib.exercises import sheet
from tutorlib.exercises.sheet import ExerciseSheet, Wrong, difference


def double(x):
    return 2 * x


def square(x):
    return x * x


def transpose(x):
    return (2 * x).T


@pytest.fixture
def check():
    sheet = ExerciseSheet()

    @sheet.exercise(1, "Double", reference=double, mistakes=[
        (square, "Doubling is not squaring."),
        (transpose, "Keep the shape."),
        (lambda x: x @ x, "The product of two (2, 3) matrices does not exist."),
    ])
    def doubled(answer):
        return answer(torch.arange(6.0).reshape(2, 3))

    @sheet.exercise(2, "Rows that sum to one", reference=lambda x: x.softmax(-1), mistakes=[(double, "sum to one")])
    def rows(answer):
        if not torch.allclose(answer(torch.ones(2, 3)).sum(-1), torch.ones(2)):
            raise Wrong("Each row must sum to one.")

    @sheet.exercise(3, "A number", reference=0.6667, tolerance=0.01, mistakes=[(0.3333, "That is the other share.")])
    def number(answer):
        return answer

    @sheet.exercise(4, "A word", reference="Query", mistakes=[("key", "The key is what is compared with.")])
    def word(answer):
        return answer

    @sheet.exercise(5, "A layer", reference=torch.nn.Linear, mistakes=[(torch.nn.Bilinear, "One input.")])
    def layer(answer):
        return answer(3, 2)(torch.randn(4, 3))

    return sheet


def printed(capsys, check, *arguments):
    assert check(*arguments) is None
    captured = capsys.readouterr()
    assert captured.err == ""
    assert captured.out.count("\n") == 1, "one line"
    return captured.out.strip()


@pytest.mark.parametrize("number, answer", [
    (1, double), (2, torch.nn.Softmax(-1)), (3, 0.67), (3, 2 / 3), (3, torch.tensor(0.667)), (3, np.float32(0.667)),
    (4, " query "), (5, torch.nn.Linear),
])
def test_a_right_answer_passes(check, capsys, number, answer):
    assert printed(capsys, check, number, answer) == f"Exercise {number}: passed."


@pytest.mark.parametrize("number, answer, hint", [
    (1, lambda x: x ** 2, "Doubling is not squaring."),
    (1, lambda x: x.T + x.T, "Keep the shape."),
    (1, lambda x: torch.matmul(x, x), "The product of two (2, 3) matrices does not exist."),
    (2, double, "Each row must sum to one."),
    (3, 1 / 3, "That is the other share."),
    (4, "KEY", "The key is what is compared with."),
])
def test_a_usual_mistake_gets_its_hint(check, capsys, number, answer, hint):
    assert printed(capsys, check, number, answer) == f"Exercise {number}: not yet. {hint}"


@pytest.mark.parametrize("number, answer, message", [
    (1, lambda x: x + 3, "The shape is right, but 5 of 6 values are not."),
    (1, lambda x: 2 * x[:1], "Expected the shape (2, 3), got (1, 3)."),
    (1, lambda x: None, "The result is None. Is a return missing?"),
    (1, lambda x: 2 * x / 0 * 0, "The result has NaN where it should be finite."),
    (1, lambda x: x > 1, "Expected values of torch.float32, got torch.bool."),
    (1, lambda x: "2x", "Expected a Tensor, got a str."),
    (3, 0.9, "0.9 is not the value expected."),
    (3, "two thirds", "Expected a float, got a str."),
    (4, 7, "Expected a string, got an int."),
    (1, 7, "Your code raised TypeError: 'int' object is not callable"),
])
def test_an_unforeseen_answer_is_described(check, capsys, number, answer, message):
    assert printed(capsys, check, number, answer) == f"Exercise {number}: not yet. {message}"


def stub(x):
    raise NotImplementedError


def stub_with_a_word(x):
    raise NotImplementedError("your turn")


class StubLayer(torch.nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()

    def forward(self, x):
        raise NotImplementedError


@pytest.mark.parametrize("number, answer", [(1, stub), (1, stub_with_a_word), (5, StubLayer), (3, ...), (3, None)])
def test_a_stub_is_not_attempted(check, capsys, number, answer):
    assert printed(capsys, check, number, answer) == f"Exercise {number}: not attempted."


def test_no_answer_is_not_attempted(check, capsys):
    assert printed(capsys, check, 1) == "Exercise 1: not attempted."


class NoForward(torch.nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()


@pytest.mark.parametrize("number, answer", [(5, NoForward), (1, lambda x: torch.ops.aten.softmax(x.long(), 0, False))])
def test_torch_saying_not_implemented_is_an_error_and_no_stub(check, capsys, number, answer):
    assert "not yet. Your code raised" in printed(capsys, check, number, answer)


class Hostile(Exception):
    def __str__(self):
        raise RuntimeError("no words")


class Unrepresentable:
    def __repr__(self):
        raise RuntimeError("no face")

    __eq__ = __float__ = __array__ = __len__ = __repr__


def raising(error):
    def answer(x):
        raise error
    return answer


def endless(x):
    return endless(x)


@pytest.mark.parametrize("answer, start", [
    (raising(ValueError("width must be\n  even")), "Your code raised ValueError: width must be even"),
    (raising(KeyError("q")), "Your code raised KeyError: 'q'"),
    (raising(ZeroDivisionError()), "Your code raised ZeroDivisionError."),
    (raising(AssertionError()), "Your code raised AssertionError."),
    (raising(SystemExit(1)), "Your code raised SystemExit: 1"),
    (raising(Hostile()), "Your code raised Hostile."),
    (raising(StopIteration()), "Your code raised StopIteration."),
    (raising(TypeError("<function f at 0x7f31c0ffee> is bad")), "Your code raised TypeError: <function f> is bad"),
    (endless, "Your code raised RecursionError: maximum recursion depth exceeded"),
    (lambda x: Unrepresentable(), "Expected a Tensor, got an Unrepresentable."),
    (lambda x: [[1, 2], [3]], "Expected a Tensor, got a list."),
    (lambda x: lambda: 0, "Expected a Tensor, got a function."),
    (Unrepresentable(), "Your code raised TypeError: 'Unrepresentable' object is not callable"),
    (lambda x: torch.ones(2, 3, device="meta"), ""),
])
def test_check_never_raises(check, capsys, answer, start):
    line = printed(capsys, check, 1, answer)
    assert line.startswith(f"Exercise 1: not yet. {start}")
    assert "0x" not in line and "Traceback" not in line and "\n" not in line


def test_a_long_message_is_cut(check, capsys):
    line = printed(capsys, check, 1, raising(ValueError("long " * 500)))
    assert len(line) < 300 and line.endswith("…")


def test_an_error_names_the_line_of_the_learners_cell(check, capsys):
    cell = {"__name__": "__main__"}
    exec("def answer(x):\n    y = 2 * x\n    return y + z\n", cell)
    expected = "Exercise 1: not yet. Your code raised NameError (line 3 of its cell): name 'z' is not defined"
    assert printed(capsys, check, 1, cell["answer"]) == expected


@pytest.mark.parametrize("number", [0, 6, "1", 1.5, None, [1], double, Unrepresentable()])
def test_an_unknown_number_says_which_exist(check, capsys, number):
    expected = "There is no such exercise. Call check(number, answer) with one of the numbers 1, 2, 3, 4, 5."
    assert printed(capsys, check, number, double) == expected


def test_a_keyboard_interrupt_still_interrupts(check):
    with pytest.raises(KeyboardInterrupt):
        check(1, raising(KeyboardInterrupt()))


def test_a_number_is_taken_once(check):
    with pytest.raises(ValueError, match="number must be new to the sheet, but 1 is 'Double'"):
        check.exercise(1, "Again", reference=0, mistakes=[])


def test_checking_leaves_the_readers_random_numbers_alone(check):
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    check(5, torch.nn.Linear)
    assert torch.equal(torch.rand(2), expected)


def test_a_mistakes_warnings_are_not_the_readers(capsys):
    sheet = ExerciseSheet()

    def careless(x):
        warnings.warn("careless", stacklevel=1)
        return 0

    @sheet.exercise(1, "Quiet", reference=lambda x: 1, mistakes=[(careless, "Careless.")])
    def quiet(answer):
        return answer(0)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert printed(capsys, sheet, 1, lambda x: 0) == "Exercise 1: not yet. Careless."


@pytest.mark.parametrize("got, expected", [
    (1, 1.0), (True, True), ([1, 2.0], [1.0, 2]), ((1,), [1]), ({"a": 1}, {"a": 1.00001}), (None, None), ("A ", "a"),
    (torch.tensor([1.0, float("nan")]), torch.tensor([1.0, float("nan")])),
    (torch.tensor([1.0, -float("inf")]), torch.tensor([1.0, -float("inf")])),
    (torch.ones(2, dtype=torch.bfloat16), torch.ones(2)), (np.ones((2, 3)), torch.ones(2, 3)),
    (torch.ones(2, requires_grad=True), torch.ones(2)), (torch.empty(0, 3), torch.empty(0, 3)),
    (0, 0), (1 + 2j, 1 + 2j), (3e23, 3 * 10**23), (421_642.0, 421_642),
    (torch.tensor([1.0, 2.0]), [1.0, 2.0]),
])
def test_equal_values_have_no_difference(got, expected):
    assert difference(got, expected) == ""


@pytest.mark.parametrize("got, expected, message", [
    (1, None, "Expected None, got an int."),
    ([1], [1, 2], "Expected 2 results, got 1."),
    ([1, 3], [1, 2], "Result 2: 3 is not the value expected."),
    (5, [1, 2], "Expected 2 results, got an int."),
    (torch.tensor(5), [1, 2], "Expected 2 results, got a Tensor."),
    ({"a": 1}, {"a": 2}, "At a: 1 is not the value expected."),
    ({"b": 1}, {"a": 2}, "Expected the keys a."),
    (3, {"a": 2}, "Expected a dictionary, got an int."),
    (421_643, 421_642, "421643 is not the value expected."),
    (3e23, 4 * 10**23, "3e+23 is not the value expected."),
    (1e-3, 0.0, "0.001 is not the value expected."),
    (torch.ones(2, 3), torch.zeros(2, 3), "The shape is right, but 6 of 6 values are not."),
    (torch.tensor(1.0), True, "Expected values of torch.bool, got torch.float32."),
])
def test_a_difference_is_described(got, expected, message):
    assert difference(got, expected) == message


def test_the_guides_example_works(capsys):
    """The sheet printed in the module's docstring is run as it stands: chapter authors copy it."""
    guide = inspect.getdoc(sheet)
    blocks = [textwrap.dedent(block) for block in re.findall(r"::\n\n((?:    .*\n|\n)+)", guide)]
    complete = next(block for block in blocks if "ExerciseSheet()" in block)
    namespace = {"__name__": "tutorlib.exercises.guide"}
    exec(complete, namespace)
    check = namespace["check"]
    assert sorted(check.exercises) == [1, 2]
    for exercise in check.exercises.values():
        assert exercise.judge(exercise.reference) == "passed."
        for mistake, hint in exercise.mistakes:
            verdict = exercise.judge(mistake)
            assert verdict.startswith("not yet.") and hint in verdict
    stub, solution = (block for block in blocks if "def my_softmax" in block or "check.solution(1)" in block)
    exec(stub, namespace)
    assert capsys.readouterr().out == "Exercise 1: not attempted.\n"
    assert solution.strip() == "check.solution(1)"


@pytest.mark.parametrize("number", [0, 6, "1", None, [1]])
def test_there_is_no_solution_of_an_unknown_exercise(check, number):
    with pytest.raises(ValueError, match=re.escape(f"one of 1, 2, 3, 4, 5, but is {number!r}")):
        check.solution(number)


def test_a_solution_shows_what_the_reference_is(check):
    assert repr(check.solution(1)) == "def double(x):\n    return 2 * x"
    assert repr(check.solution(3)) == "answer = 0.6667"
