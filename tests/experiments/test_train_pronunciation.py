"""The command that trains the speller: it runs, writes what it promises, and a resumed run gives the same result."""

import json
import runpy
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / "experiments" / "train_pronunciation.py"


def command(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", [str(TOOL), *map(str, arguments)])
    runpy.run_path(str(TOOL), run_name="__main__")


@pytest.mark.slow
def test_writes_one_result_a_seed_and_resumes(tmp_path, monkeypatch):
    small = "--no-baselines --steps 6 --warmup 2 --width 16 --hidden 16 --layers 1 --heads 2 --seeds 0 1".split()
    command(monkeypatch, tmp_path / "first.json", *small, "--checkpoint-folder", tmp_path)
    first = json.loads((tmp_path / "first.json").read_text())
    assert [result["seed"] for result in first["results"]] == [0, 1]
    assert first["settings"]["steps"] == 6
    assert all(0 < result["word_error"] <= 1 and result["phoneme_error"] > 0 for result in first["results"])
    command(monkeypatch, tmp_path / "second.json", *small, "--checkpoint-folder", tmp_path)
    second = json.loads((tmp_path / "second.json").read_text())
    for a, b in zip(first["results"], second["results"], strict=True):
        assert (a["phoneme_error"], a["word_error"], a["loss"]) == (b["phoneme_error"], b["word_error"], b["loss"])


def test_refuses_unknown_arguments(monkeypatch, capsys):
    with pytest.raises(SystemExit):
        command(monkeypatch, "results.json", "--color", "blue")
    assert "--color" in capsys.readouterr().err
