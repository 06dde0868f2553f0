"""Exercises that check themselves: one module a chapter, one sheet a module.

In a chapter the reader writes::

    from tutorlib.exercises.multi_head import check

    check(3, my_attention)

and reads one line: ``Exercise 3: passed.``, ``Exercise 3: not attempted.``, or ``Exercise 3: not yet.`` with a hint.
Whatever the answer does, ``check`` prints a sentence and never raises. ``check.solution(3)`` shows the sheet's answer.

How to write a sheet
--------------------
The sheet of ``chapters/attention/scaled-dot-product.ipynb`` is ``tutorlib/exercises/scaled_dot_product.py``: dashes
become underscores. It holds an ``ExerciseSheet`` named ``check``. An exercise has a number, a title, a reference
answer, the usual mistakes with the hint that each deserves, and a *checker*. A complete sheet::

    \"\"\"Exercises of the chapter on scaled dot-product attention.\"\"\"
    import torch

    from tutorlib.exercises.sheet import ExerciseSheet, Wrong

    check = ExerciseSheet()


    def softmax(scores):
        return scores.softmax(-1)  # (T, S)


    def over_queries(scores):
        return scores.softmax(-2)


    def unnormalized(scores):
        return scores.exp()


    @check.exercise(1, "Softmax over the keys", reference=softmax, mistakes=[
        (over_queries, "You normalized over the queries; each row, over its keys, must sum to one."),
        (unnormalized, "sum to one"),
    ])
    def check_softmax(answer):
        scores = torch.tensor([[1.0, 2.0, 3.0], [0.0, 5.0, 0.0]])  # (T, S)
        weights = answer(scores)
        if weights.max() > 1:
            raise Wrong("A weight is a share of one, so none exceeds one: each row must sum to one.")
        return weights


    NUM_SCORES = 512 * 512  # every query meets every key


    @check.exercise(2, "Count the scores", reference=NUM_SCORES, mistakes=[
        (512, "Every query meets every key: T times S scores, not T."),
    ])
    def check_count(answer):
        return answer

The checker receives an answer (a function, class, module, number, tensor or string), puts it to work, and

- returns what it observed: a tensor, array, number, bool, string, or a list, tuple or dict of these. The sheet runs
  the same checker on the reference and compares. Where they differ it runs the checker on each mistake; the first one
  with the same outcome (the same values, or the same error) gives the hint. Otherwise it says what differs.
- or raises ``Wrong("hint")``, or fails an ``assert condition, "hint"``: then that hint is printed, and the mistake's
  text in the list need only be a fragment of it (``"sum to one"`` above). Return ``None`` when assertions say it all.

Rules that keep it honest:

- Make the inputs inside the checker, so that an answer which writes into them spoils nothing. Every run of a checker
  starts from the same seed, so ``torch.randn`` and freshly made modules agree between answer, reference and mistakes.
- Choose inputs on which the mistakes differ from the reference: T, S, K and D all different, no symmetric matrices.
- Floats agree within ``tolerance`` (default 1e-4) of the expected tensor's largest magnitude; say
  ``check.exercise(..., tolerance=0.01)`` for numbers that are worked out by hand. Where the reference is an integer,
  as a count is, the answer must be exact. Strings agree up to case and surrounding spaces.
- Shapes must agree, and a mask must be boolean where the reference's is.
- Numbers run from 1, each exercise lists at least one mistake, and a hint says what to look at, not the answer.

In the chapter, after the text under ``### Exercise 1``, come two cells. The stub, which the reader edits::

    def my_softmax(scores):
        raise NotImplementedError

    check(1, my_softmax)            # Exercise 1: not attempted.

and, tagged ``hide-cell`` and executed, the solution, which is nowhere but in the sheet::

    check.solution(1)

Its output is the source of the reference, with the functions and values of the sheet that it needs and the comments
directly above them. So write a reference to be read: shapes in comments, lines of at most 88 columns, no name that the
page lacks. A value gets a name too, and a comment that says how it comes about. What the page has to prove about its
solution may stand in the same cell, above that line.

The stub of an exercise whose answer is a value is ``my_count = ...``. ``tests/exercises/test_sheets.py`` holds each
sheet to these rules: references pass, mistakes fail with their hints, and the chapter has the sheet's exercises and
shows its solutions as they are now.
"""
import re
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from tutorlib.exercises.solution import Solution, reference_source

__all__ = ["Exercise", "ExerciseSheet", "Wrong", "difference"]

NOT_ATTEMPTED = "not attempted."
PASSED = "passed."


class Wrong(AssertionError):
    """What a checker raises to tell the learner, in its message, what is wrong with the answer."""


@dataclass(frozen=True)
class Exercise:
    """One exercise: how an answer is put to work, and the answers that are known.

    ``mistakes`` are pairs of a wrong answer and its hint. ``tolerance`` is relative to the largest magnitude expected.
    """

    number: int
    title: str
    checker: Callable[[Any], Any]
    reference: Any
    mistakes: Sequence[tuple[Any, str]]
    tolerance: float = 1e-4

    def judge(self, answer: Any) -> str:
        """The verdict on an answer: ``"passed."``, ``"not attempted."`` or ``"not yet."`` and a hint."""
        if answer is None or answer is ...:
            return NOT_ATTEMPTED
        outcome = _observe(self.checker, answer)
        if _is_stub(outcome.error):
            return NOT_ATTEMPTED
        if isinstance(outcome.error, AssertionError) and _text(outcome.error):
            return f"not yet. {_text(outcome.error)}"
        complaint = self._complaint(outcome)
        return f"not yet. {self._hint(outcome) or complaint}" if complaint else PASSED

    def _complaint(self, outcome: "_Outcome") -> str:
        if outcome.error:
            return _exception_message(outcome.error)
        return difference(outcome.value, self._quietly(self.reference).value, self.tolerance)

    def _hint(self, outcome: "_Outcome") -> str:
        """The hint of the first mistake that has the same outcome, or nothing."""
        for mistake, hint in self.mistakes:
            if _same(outcome, self._quietly(mistake), self.tolerance):
                return hint
        return ""

    def _quietly(self, answer: Any) -> "_Outcome":
        # A mistake may well divide by zero; its warning is no business of the learner's.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _observe(self.checker, answer)


class ExerciseSheet:
    """A chapter's exercises.

    ``sheet(number, answer)`` prints the verdict, ``sheet.solution(number)`` shows the reference, and
    ``@sheet.exercise(...)`` adds one.
    """

    def __init__(self) -> None:
        self.exercises: dict[int, Exercise] = {}

    def exercise(self, number: int, title: str, *, reference: Any, mistakes: Sequence[tuple[Any, str]],
                 tolerance: float = 1e-4) -> Callable[[Callable], Callable]:
        """Declare an exercise by decorating its checker, which maps an answer to what is compared.

        Raises ``ValueError`` for a number that is taken.
        """
        if number in self.exercises:
            raise ValueError(f"number must be new to the sheet, but {number} is {self.exercises[number].title!r}")

        def declare(checker: Callable[[Any], Any]) -> Callable[[Any], Any]:
            self.exercises[number] = Exercise(number, title, checker, reference, tuple(mistakes), tolerance)
            return checker

        return declare

    def __call__(self, number: int, answer: Any = ...) -> None:
        """Check an answer and print one line. Never raises, whatever the answer does."""
        if not self._has(number):
            print(f"There is no such exercise. Call check(number, answer) with one of the numbers {self._numbers()}.")
            return
        try:
            verdict = self.exercises[number].judge(answer)
        except Exception as error:  # an answer can be stranger than the comparison foresaw
            verdict = f"not yet. {_exception_message(error)}"
        print(f"Exercise {number}: {verdict}")

    def solution(self, number: int) -> Solution:
        """The source of an exercise's reference, which a notebook shows as code.

        Raises ``ValueError`` for a number that is not on the sheet.
        """
        if not self._has(number):
            raise ValueError(f"number must be that of an exercise, one of {self._numbers()}, but is {number!r}")
        return Solution(reference_source(self.exercises[number].checker))

    def _has(self, number: Any) -> bool:
        return isinstance(number, int) and number in self.exercises

    def _numbers(self) -> str:
        return ", ".join(map(str, sorted(self.exercises)))


def difference(got: Any, expected: Any, tolerance: float = 1e-4) -> str:
    """Say how an observed value differs from the expected one; the empty string where they agree.

    Floats agree within ``tolerance`` of the expected one's largest magnitude (NaN equals NaN), integers exactly;
    strings up to case and surrounding spaces; sequences and mappings item by item.
    """
    if expected is None:
        return "" if got is None else f"Expected None, got {_kind(got)}."
    if got is None:
        return "The result is None. Is a return missing?"
    if isinstance(expected, str):
        return _string_difference(got, expected)
    if isinstance(expected, Mapping):
        return _mapping_difference(got, expected, tolerance)
    if isinstance(expected, (list, tuple)):
        return _sequence_difference(got, expected, tolerance)
    return _number_difference(got, expected, tolerance)


def _string_difference(got: Any, expected: str) -> str:
    if not isinstance(got, str):
        return f"Expected a string, got {_kind(got)}."
    return "" if got.strip().casefold() == expected.strip().casefold() else f"{got!r} is not the answer."


def _mapping_difference(got: Any, expected: Mapping, tolerance: float) -> str:
    if not isinstance(got, Mapping):
        return f"Expected a dictionary, got {_kind(got)}."
    if set(got) != set(expected):
        return f"Expected the keys {', '.join(map(str, expected))}."
    found = ((key, difference(got[key], expected[key], tolerance)) for key in expected)
    return next((f"At {key}: {fault}" for key, fault in found if fault), "")


def _sequence_difference(got: Any, expected: Sequence, tolerance: float) -> str:
    if not isinstance(got, (list, tuple, torch.Tensor)) or getattr(got, "ndim", 1) == 0:
        return f"Expected {len(expected)} results, got {_kind(got)}."
    if len(got) != len(expected):
        return f"Expected {len(expected)} results, got {len(got)}."
    found = ((i, difference(*pair, tolerance)) for i, pair in enumerate(zip(got, expected, strict=True), start=1))
    return next((f"Result {i}: {fault}" for i, fault in found if fault), "")


def _number_difference(got: Any, expected: Any, tolerance: float) -> str:
    try:
        got, expected = _tensor(got), _tensor(expected)
    except (TypeError, ValueError, RuntimeError):
        return f"Expected {_kind(expected)}, got {_kind(got)}."
    if got.shape != expected.shape:
        return f"Expected the shape {tuple(expected.shape)}, got {tuple(got.shape)}."
    if (got.dtype == torch.bool) != (expected.dtype == torch.bool):
        return f"Expected values of {expected.dtype}, got {got.dtype}."
    inexact = expected.is_floating_point() or expected.is_complex()
    exact = torch.complex128 if got.is_complex() or expected.is_complex() else torch.float64
    got, expected = got.to(exact), expected.to(exact)
    if (got.isnan() & ~expected.isnan()).any():
        return "The result has NaN where it should be finite."
    finite = expected[expected.isfinite()].abs()
    allowed = tolerance * max(finite.max().item() if finite.numel() else 0.0, 1e-3) if inexact else 0.0
    if torch.allclose(got, expected, rtol=0.0, atol=allowed, equal_nan=True):
        return ""
    if got.ndim == 0:
        return f"{got.item():.6g} is not the value expected."
    wrong = ~torch.isclose(got, expected, rtol=0.0, atol=allowed, equal_nan=True)
    return f"The shape is right, but {wrong.sum()} of {got.numel()} values are not."


def _tensor(value: Any) -> torch.Tensor:
    if isinstance(value, int) and abs(value) >= 2**63:  # floating-point operations of a training run, say
        value = float(value)
    return torch.as_tensor(value).detach().cpu()


@dataclass(frozen=True)
class _Outcome:
    """What a checker made of an answer: a value, or the exception that stopped it."""

    value: Any = None
    error: BaseException | None = None


def _observe(checker: Callable[[Any], Any], answer: Any) -> _Outcome:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)  # the CPU's only: no other generator is restored afterwards
        try:
            return _Outcome(value=checker(answer))
        except (Exception, SystemExit) as error:  # exit() in an answer must not end the reader's session
            return _Outcome(error=error)


def _same(outcome: _Outcome, other: _Outcome, tolerance: float) -> bool:
    if outcome.error or other.error:
        return type(outcome.error) is type(other.error) and _text(outcome.error) == _text(other.error)
    return not difference(outcome.value, other.value, tolerance)


def _is_stub(error: BaseException | None) -> bool:
    """Whether a stub raised the error. Torch raises the same class for an unsupported dtype or a missing forward."""
    if not isinstance(error, NotImplementedError):
        return False
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    by_torch = frame.f_globals.get("__name__", "").startswith("torch.")
    source = traceback.extract_tb(error.__traceback__)[-1].line or ""
    return not by_torch and (not error.args or "raise NotImplementedError" in source)


def _exception_message(error: BaseException) -> str:
    frames = traceback.walk_tb(error.__traceback__)
    lines = [line for frame, line in frames if frame.f_globals.get("__name__") == "__main__"]
    where = f" (line {lines[-1]} of its cell)" if lines else ""
    message = _text(error)
    return f"Your code raised {type(error).__name__}{where}{': ' + message if message else '.'}"


def _text(error: BaseException | None, longest: int = 200) -> str:
    """An exception's message on one short line, without addresses, which differ from run to run."""
    try:
        text = " ".join(str(error).split())
    except Exception:
        return ""
    text = re.sub(r"( at)? 0x[0-9a-fA-F]+", "", text)
    return text if len(text) <= longest else text[:longest - 1] + "…"


def _kind(value: Any) -> str:
    name = "function" if callable(value) and not isinstance(value, type) else type(value).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"
