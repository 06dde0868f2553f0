"""The record of the GPT: its first losses come out again, and it holds what the chapter reads."""

import json
import math
import runpy
import sys
from pathlib import Path

import pytest
import torch

from tutorlib.text.bpe import BytePairTokenizer

ROOT = Path(__file__).parents[2] / "experiments"
TOOL = ROOT / "train_gpt.py"
RECORD = ROOT / "records" / "gpt.json"
TOLERANCE = 0.02  # nats: float32 sums in another order, and Muon's bfloat16, after four steps


@pytest.mark.slow
def test_first_losses_are_those_of_the_record():
    program = runpy.run_path(str(TOOL))
    record = json.loads(RECORD.read_text())
    text, _ = program["texts"]()
    tokens = torch.tensor(BytePairTokenizer.train(text, record["settings"]["vocabulary"]).encode(text))
    assert (len(tokens), len(text)) == (record["tokens"], record["characters"])
    losses = program["first_losses"](tokens, record["seed"])
    assert losses == pytest.approx(record["first_losses"], abs=TOLERANCE)
    assert losses[0] == pytest.approx(math.log(record["settings"]["vocabulary"]), abs=0.3)  # a uniform guess


def test_record_is_whole():
    record = json.loads(RECORD.read_text())
    assert record["step"] == record["settings"]["steps"] == record["curve"][-1]["step"]
    assert len(record["samples"]) == 4
    assert set(record["scores"]) == {"gpt", "mixture", "ngram_characters", "ngram_tokens"}


def test_weights_are_small_and_of_the_recorded_model():
    load_file = pytest.importorskip("safetensors.torch").load_file
    weights = load_file(RECORD.with_suffix(".safetensors"))
    assert RECORD.with_suffix(".safetensors").stat().st_size < 4_000_000
    record = json.loads(RECORD.read_text())
    stored = sum(w.numel() for name, w in weights.items() if not name.endswith(".scale"))
    assert stored == record["parameters"]


def test_rate_falls_over_the_last_seven_tenths():
    factor = runpy.run_path(str(TOOL))["factor"]
    assert [factor(step, 1000) for step in (29, 299, 300, 650)] == pytest.approx([1, 1, 1, 0.5])
    assert factor(0, 1000) == pytest.approx(1 / 30)


def test_refuses_unknown_arguments(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(TOOL), "record.json", "--color", "blue"])
    with pytest.raises(SystemExit):
        runpy.run_path(str(TOOL), run_name="__main__")
    assert "--color" in capsys.readouterr().err
