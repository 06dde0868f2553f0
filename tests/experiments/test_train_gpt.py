"""The record of the GPT: its first losses come out again, and it holds what the chapter reads."""

import json
import math
import runpy
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch

from tutorlib.baselines.ngram import KneserNey
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


def test_means_and_differences_by_hand():
    program = runpy.run_path(str(TOOL))
    sure, unsure = torch.tensor([[0.5, 0.25], [0.5, 0.5]]).log(), torch.full((2, 2), 0.25).log()  # (W, T/2)
    assert torch.allclose(program["mean_of"](sure, unsure).exp(), torch.tensor([[0.375, 0.25], [0.375, 0.375]]))
    assert torch.allclose(program["mean_of"](sure, unsure, unsure).exp()[0, 0], torch.tensor(1 / 3))
    # 5 bits in 8 characters against 8 bits; the two windows lead by 1 and by 2, of 4 characters each
    assert program["against"](sure, unsure, 8) == pytest.approx([0.625, -0.375, 0.125])


@pytest.mark.parametrize("order", [1, 2, 4])
def test_counting_with_tuples_is_counting_with_numbers(order):
    program = runpy.run_path(str(TOOL))
    text, asked = ([*word.encode()] for word in ("abracadabra, a banana", "a cabana, abra xyz"))
    expected = KneserNey(torch.tensor(text), 128, order).score(torch.tensor(asked))
    torch.testing.assert_close(program["count_with_tuples"](text, asked, 128, order), expected)


def test_pairs_are_of_two_seeds_and_agree_with_the_scores():
    record = json.loads(RECORD.read_text())
    pairs, scores = record["pairs"], record["scores"]
    assert len(set(pairs["seeds"])) == 2 and set(pairs["steps"]) == {record["step"]}
    found = [pairs["bits"][name][0] for name in ("gpt", "counting", "half of gpt and counting")]
    expected = scores["gpt"], scores["ngram_tokens"]["5"], scores["mixture"]
    assert found == pytest.approx(expected, abs=0.003)  # one byte a weight, and float32 for bfloat16


def test_weights_are_small_and_of_the_recorded_model():
    load_file = pytest.importorskip("safetensors.torch").load_file
    weights = load_file(RECORD.with_suffix(".safetensors"))
    assert RECORD.with_suffix(".safetensors").stat().st_size < 4_000_000
    record = json.loads(RECORD.read_text())
    stored = sum(w.numel() for name, w in weights.items() if not name.endswith(".scale"))
    assert stored == record["parameters"]


@pytest.mark.slow
def test_weights_give_the_recorded_bits():
    pytest.importorskip("safetensors.torch")
    program, record = runpy.run_path(str(TOOL)), json.loads(RECORD.read_text())
    text, held_out = program["texts"]()
    tokenizer = BytePairTokenizer.train(text, record["settings"]["vocabulary"])
    model = program["load_weights"](RECORD.with_suffix(".safetensors"))
    unseen = torch.tensor(tokenizer.encode(held_out))
    bits, _ = program["bits_a_character"](model, unseen, tokenizer, every=8)  # the windows of the curve
    assert bits == pytest.approx(record["curve"][-1]["held_out_bits"], abs=0.005)  # rounding of weights and of bfloat16


def test_loaded_weights_are_the_saved_ones_within_half_a_step(tmp_path):
    pytest.importorskip("safetensors.torch")
    program = runpy.run_path(str(TOOL))
    model = program["new_model"](3)
    program["save_weights"](model, tmp_path / "gpt.safetensors")
    loaded = program["load_weights"](tmp_path / "gpt.safetensors").state_dict()
    for name, weight in model.state_dict().items():
        step = weight.abs().amax(-1, keepdim=True) / 127 if weight.dim() == 2 else 1e-3
        assert ((loaded[name] - weight).abs() <= 0.501 * step).all(), name


def test_the_drawing_shows_samples_of_the_record():
    record = json.loads(RECORD.read_text())
    drawing = ElementTree.parse(ROOT.parent / "book" / "drawings" / "gpt-two.svg")
    lines = {kind: " ".join(line.text for line in drawing.iter() if line.get("data-of") == kind)
             for kind in ("counting", "gpt")}
    for kind, sample in {"counting": record["ngram_sample"], "gpt": record["samples"][-1]["text"]}.items():
        assert len(lines[kind]) > 100 and " ".join(sample.split()).startswith(lines[kind].removesuffix(" ..."))
    bits = [line.text for line in drawing.iter() if line.get("data-of") == "bits"]
    scores = record["scores"]
    assert bits == [f"{score:.2f}" for score in (scores["ngram_tokens"]["5"], scores["gpt"], scores["mixture"])]


def test_rate_falls_over_the_last_seven_tenths():
    factor = runpy.run_path(str(TOOL))["factor"]
    assert [factor(step, 1000) for step in (29, 299, 300, 650)] == pytest.approx([1, 1, 1, 0.5])
    assert factor(0, 1000) == pytest.approx(1 / 30)


def test_refuses_unknown_arguments(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(TOOL), "record.json", "--color", "blue"])
    with pytest.raises(SystemExit):
        runpy.run_path(str(TOOL), run_name="__main__")
    assert "--color" in capsys.readouterr().err
