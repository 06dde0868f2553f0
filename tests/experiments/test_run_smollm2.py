"""The record of SmolLM2 at work: rounding is that of llama.cpp, shaking is as large, and its first numbers come out again."""

import json
import runpy
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from torch import nn

ROOT = Path(__file__).parents[2] / "experiments"
TOOL = ROOT / "run_smollm2.py"
RECORD = ROOT / "records" / "smollm2.json"


def test_blocks_are_rounded_as_gguf_rounds_them(program):
    quants, gguf = pytest.importorskip("gguf.quants"), pytest.importorskip("gguf")
    weight = torch.randn(6, 96, generator=torch.Generator().manual_seed(0))
    values, step = program["round_in_blocks"](weight)
    kind = gguf.GGMLQuantizationType.Q4_1
    expected = torch.tensor(quants.dequantize(quants.quantize(weight.numpy(), kind), kind))
    torch.testing.assert_close(values, expected, atol=1e-6, rtol=1e-5)
    spread = weight.view(6, 3, 32).amax(-1) - weight.view(6, 3, 32).amin(-1)
    torch.testing.assert_close(step.view(6, 3, 32)[..., 0], spread / 15)


def test_a_block_of_equal_weights_stays(program):
    values, step = program["round_in_blocks"](torch.full((1, 32), 0.5))
    assert (values == 0.5).all() and (step == 0).all()


def test_shaking_moves_by_half_a_step_at_most_and_leaves_the_model(program):
    model = nn.Linear(64, 64)
    before, steps = model.weight.clone(), {"weight": torch.full((64, 64), 0.1)}
    first, again, other = (program["shaken"](model, steps, seed) for seed in (0, 0, 1))
    moved = first.weight - before
    assert moved.abs().max() <= 0.0501 and abs(moved.std().item() - 0.1 / 12**0.5) < 0.002
    assert torch.equal(first.weight, again.weight) and not torch.equal(first.weight, other.weight)
    assert torch.equal(model.weight, before) and torch.equal(first.bias, model.bias)


def test_runs_that_came_before(program):
    assert program["repeated_share"]([1, 2, 3, 4, 5]) == 0
    assert program["repeated_share"]([1, 2, 3, 4, 1, 2, 3, 4]) == pytest.approx(1 / 5)


def test_the_record_is_whole(program, record):
    assert set(record["times"]["formats"]) == {"float32", "bfloat16", "int8"}
    for found in record["times"]["formats"].values():
        assert all(len(found[f"step {batch}"]) == program["ROUNDS"] for batch in program["BATCHES"])
    assert {len(values) for values in record["losses"].values()} == {program["PASSAGES"]}
    assert len(record["questions"]) == 1 + program["DRAWS"]
    for kind in ("greedy", "drawn"):
        assert len(record["texts"][kind]["text"]) == len(program["SUBJECTS"])
    original = json.loads((ROOT / "records" / "gpt.json").read_text())["scores"]["gpt"]
    assert record["rounded_gpt"]["bits"]["as it is"][0] == pytest.approx(original, abs=0.001)


def test_the_drawing_shows_the_record(program, record):
    drawing = ElementTree.parse(ROOT.parent / "book" / "drawings" / "real-two.svg")
    lines = [line.text for line in drawing.iter() if line.get("data-of") == "text"]
    assert " ".join(lines) == record["texts"]["greedy"]["text"][program["SUBJECTS"].index("bees")]
    steps = record["times"]["formats"]["float32"]
    rates = [batch / min(steps[f"step {batch}"]) for batch in (1, 32)]
    assert [line.text for line in drawing.iter() if line.get("data-of") == "rate"] == [f"{rate:.0f}" for rate in rates]


@pytest.mark.slow
@torch.no_grad()
def test_first_numbers_are_those_of_the_record(program, record):
    reader = program["open_smollm2"]()
    model, tokenizer = program["llama_from_gguf"](reader), program["tokenizer_from_gguf"](reader)
    given = program["passages"](tokenizer)[:1]
    steps = program["steps_of_file"](reader, model)
    assert sum(step.numel() for step in steps.values()) == 134_479_872  # all but the norms
    others = {"float32": model, "int8": program["quantize"](model), "shaken 0": program["shaken"](model, steps, 0)}
    for name, other in others.items():
        assert program["losses"](other, given)[0] == pytest.approx(record["losses"][name][0], abs=0.005)


def test_refuses_unknown_arguments(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(TOOL), "record.json", "--color", "blue"])
    with pytest.raises(SystemExit):
        runpy.run_path(str(TOOL), run_name="__main__")
    assert "--color" in capsys.readouterr().err
