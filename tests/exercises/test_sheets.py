"""Every chapter's sheet: references pass, mistakes fail with their hints, and the chapter's page follows the sheet."""
import ast
import builtins
import importlib
import json
import pkgutil
import re
from pathlib import Path

import pytest

import tutorlib.exercises
from tutorlib.exercises.solution import Solution

ROOT = Path(__file__).resolve().parents[2]
CHAPTERS = sorted(path for path in (ROOT / "chapters").glob("*/*.ipynb"))
FRAMEWORK = "sheet", "solution"
SHEETS = sorted(module.name for module in pkgutil.iter_modules(tutorlib.exercises.__path__)
                if module.name not in FRAMEWORK)
PAGE_WIDTH = 88  # columns of a chapter's code
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


def solutions_of(module):
    return {number: sheet_of(module).solution(number) for number in sorted(sheet_of(module).exercises)}


@pytest.mark.parametrize("name", SHEETS)
def test_the_solutions_fit_the_page(name):
    wide = [line for solution in solutions_of(name).values() for line in solution.source.splitlines()
            if len(line) > PAGE_WIDTH]
    assert wide == [], f"wider than {PAGE_WIDTH} columns"


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_follows_its_sheet(chapter):
    assert module_of(chapter) in SHEETS, f"{chapter.name} has no sheet: tutorlib/exercises/{module_of(chapter)}.py"
    cells = json.loads(chapter.read_text("utf8"))["cells"]
    faults = page_faults(cells, module_of(chapter), solutions_of(module_of(chapter)))
    assert not faults, f"{chapter.name}:\n" + "\n".join(faults)


def page_faults(cells, module, solutions):
    """What keeps a chapter's cells from following the sheet of that module with those solutions by number."""
    found = list(sections(cells))
    faults = []
    if [number for number, _ in found] != list(solutions):
        headed = [number for number, _ in found]
        faults.append(f"the headings '### Exercise n' have the numbers {headed}, the sheet has {list(solutions)}")
    imports = f"from tutorlib.exercises.{module} import check"
    if not any(imports in source(cell) for cell in cells if cell["cell_type"] == "code"):
        faults.append(f"no code cell says: {imports}")
    known = set().union(*(bound(source(cell)) for cell in cells if cell["cell_type"] == "code"))
    for number, solution in solutions.items():
        if unknown := read(solution.source) - bound(solution.source) - known - set(dir(builtins)):
            faults.append(f"exercise {number}: the solution uses what the page lacks: {', '.join(sorted(unknown))}")
    return faults + [fault for number, section in found if number in solutions
                     for fault in section_faults(number, section, solutions[number])]


def bound(code):
    """The names that a piece of code gives a meaning to, in whatever scope."""
    named = {node.name for node in ast.walk(ast.parse(code)) if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    named |= {(node.asname or node.name).split(".")[0] for node in ast.walk(ast.parse(code)) if isinstance(node, ast.alias)}
    named |= {node.arg for node in ast.walk(ast.parse(code)) if isinstance(node, ast.arg)}
    return named | {node.id for node in ast.walk(ast.parse(code))
                    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}


def read(code):
    return {node.id for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}


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


def section_faults(number, section, solution):
    faults = [f"exercise {number}: a cell checks exercise {other}" for cell in section
              for other in checked_numbers(source(cell)) if other != number]
    opened = [cell for cell in section if "hide-cell" not in tags(cell)]
    if not any(f"Exercise {number}: not attempted." in printed(cell) for cell in opened
               if number in checked_numbers(source(cell))):
        faults.append(f"exercise {number}: no open cell calls check({number}, ...) and prints 'not attempted.'")
    showing = [cell for cell in section if "hide-cell" in tags(cell)
               and source(cell).splitlines()[-1] == f"check.solution({number})"]
    if len(showing) != 1:
        faults.append(f"exercise {number}: not one cell, but {len(showing)} cells tagged hide-cell end with "
                      f"check.solution({number})")
    elif shown(showing[0]) != [{"text/plain": repr(solution), "text/markdown": solution._repr_markdown_()}]:
        faults.append(f"exercise {number}: the solution on the page is not that of the sheet; run the page again")
    return faults


def checked_numbers(code):
    """The numbers n of the calls check(n, ...) and check.solution(n) in a cell's code."""
    calls = (node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call))
    return [call.args[0].value for call in calls if ast.unparse(call.func) in ("check", "check.solution")
            and call.args and isinstance(call.args[0], ast.Constant)]


def source(cell):
    return "".join(cell["source"])


def tags(cell):
    return cell["metadata"].get("tags", [])


def printed(cell):
    return "".join("".join(output.get("text", "")) for output in cell.get("outputs", []))


def shown(cell):
    """The results that a cell shows: of each, the text by its kind."""
    return [{kind: "".join(text) for kind, text in output["data"].items()} for output in cell["outputs"]
            if output["output_type"] == "execute_result"]


# The page rules themselves, proven on small pages.

IMPORT = "from tutorlib.exercises.a_page import check"
SOLUTIONS = {1: Solution("import math\n\ndef solution(x):\n    return math.sin(x)"), 2: Solution("ANSWER = size + 2")}


def markdown(text):
    return {"cell_type": "markdown", "metadata": {}, "source": text}


def code(text, output="", tags=()):
    outputs = [{"output_type": "stream", "name": "stdout", "text": output}] if output else []
    return {"cell_type": "code", "metadata": {"tags": list(tags)}, "source": text, "outputs": outputs}


def result(solution):
    data = {"text/markdown": [f"```python\n{solution.source}\n", "```"], "text/plain": [solution.source]}
    return {"output_type": "execute_result", "execution_count": 1, "metadata": {}, "data": data}


def exercise_cells(number):
    solution = code(f"check.solution({number})", tags=["hide-cell"]) | {"outputs": [result(SOLUTIONS[number])]}
    return [markdown(f"### Exercise {number}\nDo this."),
            code(f"def f(x):\n    ...\n\ncheck({number}, f)", f"Exercise {number}: not attempted.\n"), solution]


def good_page():
    start = code(f"{IMPORT}\n\nsize = 3")
    return [markdown("## Exercises"), start, *exercise_cells(1), *exercise_cells(2), markdown("## References")]


def test_a_good_page_has_no_faults():
    assert page_faults(good_page(), "a_page", SOLUTIONS) == []


def test_a_page_may_prove_something_above_its_solution():
    page = good_page()
    page[4]["source"] = "check(1, math.sin)\ncheck.solution(1)"
    page[4]["outputs"].insert(0, {"output_type": "stream", "name": "stdout", "text": "Exercise 1: passed.\n"})
    assert page_faults(page, "a_page", SOLUTIONS) == []


@pytest.mark.parametrize("spoil, fault", [
    (lambda page: page[2].update(source="### Exercise 3"), "have the numbers [3, 2], the sheet has [1, 2]"),
    (lambda page: page[5].update(source="## Exercise 2"), "have the numbers [1], the sheet has [1, 2]"),
    (lambda page: page[1].update(source="check = print"), f"no code cell says: {IMPORT}"),
    (lambda page: page.pop(3), "exercise 1: no open cell calls check(1, ...)"),
    (lambda page: page.pop(7), "exercise 2: not one cell, but 0 cells tagged hide-cell end with check.solution(2)"),
    (lambda page: page[7].update(metadata={}), "exercise 2: not one cell, but 0 cells tagged hide-cell"),
    (lambda page: page[7].update(source="check(2, 5)"), "exercise 2: not one cell, but 0 cells tagged hide-cell"),
    (lambda page: page[7].update(source="check.solution(2);"), "exercise 2: not one cell, but 0 cells tagged hide-cell"),
    (lambda page: page.insert(7, page[7]), "exercise 2: not one cell, but 2 cells tagged hide-cell"),
    (lambda page: page[7].update(outputs=[]), "exercise 2: the solution on the page is not that of the sheet"),
    (lambda page: page[7].update(outputs=[result(Solution("ANSWER = 4"))]), "exercise 2: the solution on the page is not"),
    (lambda page: page[7]["outputs"][0]["data"].pop("text/markdown"), "exercise 2: the solution on the page is not"),
    (lambda page: page[3].update(source="check(2, f)"), "exercise 1: a cell checks exercise 2"),
    (lambda page: page[4].update(source="check.solution(2)"), "exercise 1: a cell checks exercise 2"),
    (lambda page: page[1].update(source=IMPORT), "exercise 2: the solution uses what the page lacks: size"),
    (lambda page: page.insert(3, markdown("## Solutions")), "exercise 1: no open cell calls check(1, ...)"),
])
def test_a_spoilt_page_is_told_what_is_wrong(spoil, fault):
    page = good_page()
    spoil(page)
    assert any(fault in said for said in page_faults(page, "a_page", SOLUTIONS))
