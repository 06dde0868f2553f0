"""The record of the GPT in the page: whole, small, its first losses come again, and its weights give its score."""

from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2] / "experiments"
TOOL = ROOT / "train_page_gpt.py"
RECORD = ROOT / "records" / "page_gpt.json"


@pytest.fixture(scope="module")
def prepared(program):
    return program["prepared"]()


def test_record_is_whole_and_small(program, record):
    assert record["settings"].items() >= program["SIZES"].items()
    assert record["step"] == record["settings"]["steps"] == record["curve"][-1]["step"]
    assert len(record["merges"]) == program["SIZES"]["vocabulary"] - 256
    assert RECORD.with_suffix(".safetensors").stat().st_size < 1_000_000


@pytest.mark.slow
def test_first_losses_come_again(program, record, prepared):
    _, tokens, _ = prepared
    assert len(tokens) == record["tokens"]
    assert program["first_losses"](tokens, record["seed"]) == pytest.approx(record["first_losses"], abs=2e-3)


@pytest.mark.slow
def test_the_weights_give_the_score(program, record, prepared):
    tokenizer, _, unseen = prepared
    model, same = program["load"](RECORD)
    assert same.merges == tokenizer.merges and sum(p.numel() for p in model.parameters()) == record["parameters"]
    with torch.no_grad():
        bits = program["bits_a_character"](model, unseen, tokenizer)
    assert bits == pytest.approx(record["curve"][-1]["held_out_bits"], abs=0.01)
