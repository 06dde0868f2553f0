"""What a newcomer meets first is true: the links, the table of chapters, and the examples of README and CONTRIBUTING."""

import json
import re
from pathlib import Path

import pytest
import torch

from tools.build_book import toc_pages
from tools.notebook import findings, main

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_local_links_lead_somewhere(page):
    text = re.sub(r"(?s)(`{3,}).*?\1", "", (ROOT / page).read_text(encoding="utf-8"))
    links = re.findall(r"\]\(([^)#\s]+)", text)
    missing = [link for link in links if not re.match(r"[a-z]+:", link) and not (ROOT / link).exists()]
    assert missing == []


def test_the_table_of_chapters_is_the_table_of_contents():
    listed = re.findall(r"^\| \[[^\]]+\]\((chapters/[^)]+)\.ipynb\) \|", README, flags=re.M)
    assert listed == [page for page in toc_pages() if page.startswith("chapters/")]


def test_the_readme_example_runs():
    torch.manual_seed(0)
    example = re.search(r"```python\n(.*?)```", README, flags=re.S)
    exec(compile(example[1], "README.md", "exec"), {})


@pytest.mark.slow
def test_the_chapter_in_contributing_can_be_made_as_described(tmp_path):
    text = tmp_path / "text" / "attention" / "softmax.md"
    text.parent.mkdir(parents=True)
    text.write_text(re.search(r"(?s)````markdown\n(.*?)````", CONTRIBUTING)[1], encoding="utf-8")
    notebook = tmp_path / "chapters" / "attention" / "softmax.ipynb"
    assert main(["from-md", str(text)]) == 0
    assert findings(notebook) == []
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    assert any("image/svg+xml" in output.get("data", {}) for cell in cells for output in cell.get("outputs", []))


def test_the_drawing_of_the_front_page_shows_what_the_chapter_says():
    drawing = (ROOT / "book" / "drawings" / "front.svg").read_text(encoding="utf-8")
    cells = json.loads((ROOT / "chapters/attention/the-transformer.ipynb").read_text(encoding="utf-8"))["cells"]
    outputs = ["".join(output.get("text", output.get("data", {}).get("text/plain", ""))) for cell in cells
               for output in cell.get("outputs", [])]
    printed = [line.split() for output in outputs for line in output.splitlines()]
    rows = drawing.split('<text class="bold" x="4"')[1:]
    assert len(rows) == 3
    for row in rows:
        word = re.search(r">(\w+)<", row)[1]
        said = [word, *re.findall(r'class="middle"[^>]*>(\w+)<', row)]
        assert any(line[: len(said)] == said for line in printed)  # the first column of what the page's own model says
    rates = re.findall(r"^(\w.*?)  +[\d.]+\s±\s[\d.]+ +([\d.]+)\s±\s[\d.]+$", "\n".join(outputs), flags=re.M)
    errors = {name: float(words_wrong) for name, words_wrong in rates}
    shares = [int(share) for share in re.findall(r">(\d+) %<", drawing)]
    assert shares == [round(100 - errors[name]) for name in ("model, 3 beams", "window table")]


def test_the_recipe_to_fix_a_formula_comes_first_and_names_what_exists():
    recipe = re.search(r"## Fix one formula\n(.*?)\n## ", CONTRIBUTING, flags=re.S)[1]
    assert CONTRIBUTING.index("## Fix one formula") < CONTRIBUTING.index("## A chapter in ten minutes")
    named = re.findall(r"\b(?:tools|chapters|tests)/[\w/.-]+", recipe)
    assert len(named) > 3 and all((ROOT / name).exists() for name in named)
