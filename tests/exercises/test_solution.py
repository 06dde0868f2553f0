"""What a solution shows: the reference's source, with what it needs of its sheet, and no more."""
import inspect

import pytest
from IPython.core.formatters import format_display_data

from tutorlib.exercises.sheet import ExerciseSheet
from tutorlib.exercises.solution import Solution, reference_source

check = ExerciseSheet()

RATE = 3  # a comment on its line


# Directly above, and so shown.
def triple(x):
    return RATE * x


def nothing_needs_this(x):
    return x


# A remark on the section, and so not shown.

class Ninefold:
    def __call__(self, x):
        return triple(triple(x))


def shadows(triple):
    RATE = 2
    return RATE * triple


LONG = [
    triple(1),
    4,
]
FIRST, LAST = LONG


@check.exercise(1, "A function", reference=triple, mistakes=[(nothing_needs_this, "Three times.")])
def check_function(answer):
    return answer(2)


@check.exercise(2, "A class", reference=Ninefold, mistakes=[(lambda: triple, "Nine times.")])
def check_class(answer):
    return answer()(2)


@check.exercise(3, "Own names hide those of the sheet", reference=shadows, mistakes=[(triple, "Twice.")])
def check_shadows(answer):
    return answer(2)


@check.exercise(4, "A value in a row", reference=LAST, mistakes=[(FIRST, "The other.")])
def check_value(answer):
    return answer


@check.exercise(5, "A pair", reference=(triple, shadows),
                mistakes=[((shadows, triple), "The other way.")])
def check_pair(answer):
    return [part(2) for part in answer]


@check.exercise(6, "An expression", reference=RATE**2, mistakes=[(RATE, "The square.")])
def check_expression(answer):
    return answer


@check.exercise(7, "A name from elsewhere", reference=inspect.getdoc, mistakes=[(repr, "The documentation.")])
def check_imported(answer):
    return answer(int)


TRIPLE = """RATE = 3  # a comment on its line

# Directly above, and so shown.
def triple(x):
    return RATE * x"""
NINEFOLD = """class Ninefold:
    def __call__(self, x):
        return triple(triple(x))"""
SHADOWS = """def shadows(triple):
    RATE = 2
    return RATE * triple"""
LIST = """LONG = [
    triple(1),
    4,
]
FIRST, LAST = LONG"""


@pytest.mark.parametrize("number, source", [
    (1, TRIPLE),
    (2, f"{TRIPLE}\n\n\n{NINEFOLD}"),
    (3, SHADOWS),
    (4, f"{TRIPLE}\n\n{LIST}"),
    (5, f"{TRIPLE}\n\n\n{SHADOWS}\n\nanswer = (triple, shadows)"),
    (6, "RATE = 3  # a comment on its line\nanswer = RATE**2"),
    (7, "answer = inspect.getdoc"),
])
def test_a_solution_is_the_reference_and_what_it_needs(number, source):
    assert repr(check.solution(number)) == source


@pytest.mark.parametrize("number, name", [(1, "triple"), (2, "Ninefold"), (3, "shadows"), (4, "LAST"), (5, "answer"),
                                          (6, "answer")])
def test_what_is_shown_runs_and_passes(number, name):
    namespace = {}
    exec(check.solution(number).source, namespace)
    assert check.exercises[number].judge(namespace[name]) == "passed."


def test_a_sheet_declared_in_a_function_is_read_as_well():
    sheet = ExerciseSheet()

    @sheet.exercise(1, "Inside", reference=triple(RATE), mistakes=[(1, "Nine.")])
    def inside(answer):
        return answer

    assert reference_source(inside) == f"{TRIPLE}\n\nanswer = triple(RATE)"


def test_a_notebook_gets_code_and_plain_text():
    data, metadata = format_display_data(Solution("def f(x):\n    return x\n\n\nanswer = (f, f)"))
    assert data == {"text/plain": "def f(x):\n    return x\n\n\nanswer = (f, f)",
                    "text/markdown": "```python\ndef f(x):\n    return x\n\n\nanswer = (f, f)\n```"}
    assert metadata == {}
