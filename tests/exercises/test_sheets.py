"""Every chapter's sheet: references pass, mistakes fail with their hints, and the chapter's page follows the sheet."""
import ast
import importlib
import json
import pkgutil
import re
from pathlib import Path

import pytest

import tutorlib.exercises

ROOT = Path(__file__).resolve().parents[2]
CHAPTERS = sorted(path for path in (ROOT / "chapters").glob("*/*.ipynb"))
SHEETS = sorted(module.name for module in pkgutil.iter_modules(tutorlib.exercises.__path__) if module.name != "sheet")
HEADING = re.compile(r"^### Exercise (\d+)\b", re.MULTILINE)


def sheet_of(module):
    return importlib.import_module(f"tutorlib.exercises.{module}").check


def module_of(chapter):
    return Path(chapter).stem.replace("-", "_")


KNOWN = [exercise for name in SHEETS for _, exercise in sorted(sheet_of(name).exercises.items())]
NAMES = [f"{name}-{number}" for name in SHEETS for number in sorted(sheet_of(name).exercises)]
MISTAKES = [(exercise, *pair) for exercise in KNOWN for pair in exercise.mistakes]
MISTAKE_NAMES = [f"{name}-{n}" for name, exercise in zip(NAMES, KNOWN, strict=True)
                 for n in range(1, len(exercise.mistakes) + 1)]


@pytest.mark.parametrize("exercise", KNOWN, ids=NAMES)
def test_the_reference_passes(exercise):
    assert exercise.judge(exercise.reference) == "passed."


@pytest.mark.parametrize("exercise, mistake, hint", MISTAKES, ids=MISTAKE_NAMES)
def test_a_listed_mistake_fails_with_its_hint(exercise, mistake, hint):
    verdict = exercise.judge(mistake)
    assert verdict.startswith("not yet."), f"the mistake is not recognized as wrong: {verdict}"
    assert hint and hint in verdict, f"expected the hint {hint!r}, but the verdict is {verdict!r}"


@pytest.mark.parametrize("name", SHEETS)
def test_a_sheet_is_numbered_from_one_and_each_exercise_lists_a_mistake(name):
    exercises = sheet_of(name).exercises
    assert sorted(exercises) == list(range(1, len(exercises) + 1))
    assert [n for n, exercise in exercises.items() if not exercise.mistakes] == [], "exercises without a mistake"
    assert [n for n, exercise in exercises.items() if not exercise.title] == [], "exercises without a title"


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_follows_its_sheet(chapter):
    assert module_of(chapter) in SHEETS, f"{chapter.name} has no sheet: tutorlib/exercises/{module_of(chapter)}.py"
    cells = json.loads(chapter.read_text("utf8"))["cells"]
    faults = page_faults(cells, module_of(chapter), sorted(sheet_of(module_of(chapter)).exercises))
    assert not faults, f"{chapter.name}:\n" + "\n".join(faults)


def page_faults(cells, module, numbers):
    """What keeps a chapter's cells from following the sheet of that module with those exercise numbers."""
    found = list(sections(cells))
    faults = []
    if [number for number, _ in found] != numbers:
        headed = [number for number, _ in found]
        faults.append(f"the headings '### Exercise n' have the numbers {headed}, the sheet has {numbers}")
    imports = f"from tutorlib.exercises.{module} import check"
    if not any(imports in source(cell) for cell in cells if cell["cell_type"] == "code"):
        faults.append(f"no code cell says: {imports}")
    return faults + [fault for number, section in found for fault in section_faults(number, section)]


def sections(cells):
    """The exercises: the number of each heading, and the code cells up to the next heading of any kind."""
    number, section = None, []
    for cell in cells:
        if cell["cell_type"] == "code":
            section.append(cell)
        elif re.search(r"^#{1,3} ", source(cell), re.MULTILINE):
            if number is not None:
                yield number, section
            headings = HEADING.findall(source(cell))
            number, section = (int(headings[-1]) if headings else None), []
    if number is not None:
        yield number, section


def section_faults(number, section):
    checking = [cell for cell in section if number in checked_numbers(source(cell))]
    folded = [cell for cell in checking if "hide-cell" in tags(cell)]
    opened = [cell for cell in checking if "hide-cell" not in tags(cell)]
    faults = [f"exercise {number}: a cell checks exercise {other}" for cell in section
              for other in checked_numbers(source(cell)) if other != number]
    if not any(f"Exercise {number}: not attempted." in printed(cell) for cell in opened):
        faults.append(f"exercise {number}: no open cell calls check({number}, ...) and prints 'not attempted.'")
    if not any(f"Exercise {number}: passed." in printed(cell) for cell in folded):
        faults.append(f"exercise {number}: no cell tagged hide-cell calls check({number}, ...) and prints 'passed.'")
    return faults


def checked_numbers(code):
    """The numbers n of the calls check(n, ...) in a cell's code."""
    calls = (node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call))
    return [call.args[0].value for call in calls
            if isinstance(call.func, ast.Name) and call.func.id == "check"
            and call.args and isinstance(call.args[0], ast.Constant)]


def source(cell):
    return "".join(cell["source"])


def tags(cell):
    return cell["metadata"].get("tags", [])


def printed(cell):
    return "".join("".join(output.get("text", "")) for output in cell.get("outputs", []))


# The page rules themselves, proven on small pages.

IMPORT = "from tutorlib.exercises.a_page import check"


def markdown(text):
    return {"cell_type": "markdown", "metadata": {}, "source": text}


def code(text, output="", tags=()):
    outputs = [{"output_type": "stream", "name": "stdout", "text": output}] if output else []
    return {"cell_type": "code", "metadata": {"tags": list(tags)}, "source": text, "outputs": outputs}


def exercise_cells(number):
    stub, solution = f"def f(x):\n    ...\n\ncheck({number}, f)", f"def f(x):\n    return x\n\ncheck({number}, f)"
    return [markdown(f"### Exercise {number}\nDo this."),
            code(stub, f"Exercise {number}: not attempted.\n"),
            code(solution, f"Exercise {number}: passed.\n", ["hide-cell"])]


def good_page():
    return [markdown("## Exercises"), code(IMPORT), *exercise_cells(1), *exercise_cells(2), markdown("## References")]


def test_a_good_page_has_no_faults():
    assert page_faults(good_page(), "a_page", [1, 2]) == []


@pytest.mark.parametrize("spoil, fault", [
    (lambda page: page[2].update(source="### Exercise 3"), "have the numbers [3, 2], the sheet has [1, 2]"),
    (lambda page: page[5].update(source="## Exercise 2"), "have the numbers [1], the sheet has [1, 2]"),
    (lambda page: page[1].update(source="check = print"), f"no code cell says: {IMPORT}"),
    (lambda page: page.pop(3), "exercise 1: no open cell calls check(1, ...)"),
    (lambda page: page.pop(7), "exercise 2: no cell tagged hide-cell calls check(2, ...)"),
    (lambda page: page[7].update(metadata={}), "exercise 2: no cell tagged hide-cell calls check(2, ...)"),
    (lambda page: page[7].update(outputs=[]), "exercise 2: no cell tagged hide-cell calls check(2, ...)"),
    (lambda page: page[3].update(source="check(2, f)"), "exercise 1: a cell checks exercise 2"),
    (lambda page: page.insert(3, markdown("## Solutions")), "exercise 1: no open cell calls check(1, ...)"),
])
def test_a_spoilt_page_is_told_what_is_wrong(spoil, fault):
    page = good_page()
    spoil(page)
    assert any(fault in said for said in page_faults(page, "a_page", [1, 2]))
