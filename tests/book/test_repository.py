"""Links to the repository, to Binder and to Colab: by one setting, right when it is given, absent when it is not."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit

import pytest
from sphinx.errors import ConfigError

from tools.colab import CELL, for_colab, main, others

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools" / "sphinx_ext"))
from repository import add_buttons, launches, report  # noqa: E402

URL = "https://github.com/someone/large-models"
PAGE = "chapters/code/gpt"


def shown(url: str, page: str = PAGE) -> list[dict]:
    config = SimpleNamespace(html_theme_options={"repository_url": url, "repository_branch": "main"})
    context = {"header_buttons": []}
    add_buttons(SimpleNamespace(config=config, srcdir=ROOT), page, "page.html", context, doctree=object())
    return context["header_buttons"]


def test_without_the_setting_there_is_no_link():
    assert shown("") == []


def test_with_it_a_chapter_can_be_run_and_every_page_reported():
    launch, error = shown(URL)
    assert [button["text"] for button in launch["buttons"]] == ["Binder", "Colab"]
    assert error["tooltip"] == "Report an error"
    assert len(shown(URL, "book/glossary")) == 1


def test_a_report_names_page_and_version():
    address = urlsplit(report(URL, PAGE, "Version 0.1.0, commit abc"))
    asked = parse_qs(address.query)
    assert address.path == "/someone/large-models/issues/new"
    assert asked["title"] == ["Error in chapters/code/gpt"] and "commit abc" in asked["body"][0]


def test_the_addresses_name_files_that_are_there():
    links = launches(URL, "main", PAGE)
    assert links["Binder"] == f"https://mybinder.org/v2/gh/someone/large-models/main?urlpath=lab/tree/{PAGE}.ipynb"
    assert links["Colab"] == f"https://colab.research.google.com/github/someone/large-models/blob/colab/{PAGE}.ipynb"
    assert (ROOT / f"{PAGE}.ipynb").exists()


@pytest.mark.parametrize("url", ["https://example.org/a/b", "github.com/a/b", "https://github.com/a"])
def test_another_kind_of_address_is_refused(url):
    with pytest.raises(ConfigError, match="expected https://github.com/OWNER/NAME"):
        shown(url)


def test_the_built_pages_have_none_of_them(site):
    page = (site / f"{PAGE}.html").read_text("utf8")
    assert "mybinder" not in page and "colab" not in page and "issues/new" not in page


def test_the_first_cell_on_colab_installs_package_data_and_what_the_chapter_imports(monkeypatch):
    notebook = json.loads((ROOT / "chapters/applications/recommendation.ipynb").read_text("utf8"))
    first, *rest = for_colab(notebook, URL, "chapters/applications")["cells"]
    assert rest == notebook["cells"]
    ran, stood = [], []
    monkeypatch.setattr(subprocess, "run", lambda command, check: ran.append(" ".join(command)))
    monkeypatch.setattr("os.chdir", stood.append)
    exec(compile(first["source"], "first cell", "exec"), {})
    assert ran[0].startswith("git clone") and URL in ran[0]
    assert "scikit-learn==" in ran[1] and "torch" not in ran[1]
    assert "--no-deps -r /content/course/requirements-data.txt" in ran[2] and "requirements-archives.txt" in ran[3]
    assert stood == ["/content/course/chapters/applications"]


def test_colab_keeps_its_torch_and_gets_the_locks_versions():
    assert others({"torch", "numpy", "math", "faster_coco_eval"})[0].startswith("faster-coco-eval==")
    assert "{url!r}" in CELL and main(["https://example.org"]) == 2


def test_binder_does_what_the_environment_does():
    made, recipe = (ROOT / "binder" / "postBuild").read_text("utf8"), (ROOT / "Makefile").read_text("utf8")
    for words in ("--no-deps --requirement requirements-data.txt", "--no-binary :all: --no-build-isolation",
                  "--requirement requirements-archives.txt", "--no-deps --no-build-isolation --editable ."):
        assert words in made and words in recipe
    assert "--requirement ../requirements.txt" in (ROOT / "binder" / "requirements.txt").read_text("utf8")
