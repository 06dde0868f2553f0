"""The command that trains the speller: it runs, writes what it promises, and a resumed run gives the same result."""

import json
import runpy
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

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
    weights = tmp_path / "weights.safetensors"
    command(monkeypatch, tmp_path / "second.json", *small, "--checkpoint-folder", tmp_path, "--weights", weights)
    assert {weight.dtype for weight in load_file(weights).values()} == {torch.float16}
    second = json.loads((tmp_path / "second.json").read_text())
    for a, b in zip(first["results"], second["results"], strict=True):
        assert a["loss"] == b["loss"]
        assert b["word_error"] == pytest.approx(a["word_error"], abs=0.01)  # the first model is judged in half precision
    assert a["phoneme_error"] == b["phoneme_error"]  # of the second seed, whose weights are as they were


def test_refuses_unknown_arguments(monkeypatch, capsys):
    with pytest.raises(SystemExit):
        command(monkeypatch, "results.json", "--color", "blue")
    assert "--color" in capsys.readouterr().err


def test_a_random_split_keeps_every_entry_and_the_sizes():
    mixed = runpy.run_path(str(TOOL))["mixed"]
    learned, asked = mixed(range(90), range(90, 100), seed=0)
    assert len(asked) == 10
    assert sorted(learned + asked) == list(range(100))
    assert asked != list(range(90, 100))
    assert mixed(range(90), range(90, 100), seed=1) != (learned, asked)
