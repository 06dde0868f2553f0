"""The command that chooses strengths: every method runs, and its runs are those of the chapter."""

import json
import runpy
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / "experiments" / "sweep_regularization.py"


def command(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", [str(TOOL), *map(str, arguments)])
    runpy.run_path(str(TOOL), run_name="__main__")


@pytest.mark.slow
def test_every_method_and_strength_is_scored_and_compared_with_none(tmp_path, monkeypatch, capsys):
    command(monkeypatch, tmp_path / "results.json", "--runs", 2, "--steps", 2)
    results = json.loads((tmp_path / "results.json").read_text())["results"]
    assert len({(one["method"], one["strength"]) for one in results}) == len(results) == 28
    assert all(len(one[part]) == 2 and all(0 <= score <= 1 for score in one[part])
               for one in results for part in ("validation", "test"))
    plain = results[0]
    assert plain["method"] == "none"
    changed = {one["method"] for one in results if one["validation"] != plain["validation"]}
    assert changed == {one["method"] for one in results} - {"none"}  # each method changes something
    lines = capsys.readouterr().out.splitlines()
    assert "(+0.00 +- 0.00)" in lines[0] and len(lines) == 28


@pytest.mark.slow
def test_the_reference_is_none_whatever_is_asked_for(tmp_path, monkeypatch):
    command(monkeypatch, tmp_path / "results.json", "--runs", 1, "--steps", 1, "--methods", "L2")
    results = json.loads((tmp_path / "results.json").read_text())["results"]
    assert [one["method"] for one in results] == ["none", "L2", "L2", "L2"]


def test_refuses_an_unknown_method(monkeypatch, capsys):
    with pytest.raises(SystemExit):
        command(monkeypatch, "results.json", "--methods", "prayer")
    assert "prayer" in capsys.readouterr().err
