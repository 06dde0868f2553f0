"""The record of switched-off heads: heads are scored and drawn as it says, and its first numbers come out again."""

import json
import runpy
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from tutorlib.layers import MultiHeadAttention
from tutorlib.models import GPT, GPTConfig

ROOT = Path(__file__).parents[2] / "experiments"
TOOL = ROOT / "ablate_heads.py"
RECORD = ROOT / "records" / "heads.json"


class Fixed(MultiHeadAttention):
    """A layer with two heads: one looks behind the earlier copy of a period of 4, the other one place back."""

    def forward(self, query, *_, return_weights=False, **__):
        places = torch.arange(query.size(1))
        looks = torch.stack([(places - 3).clamp_min(0), (places - 1).clamp_min(0)])  # (H, T)
        weights = nn.functional.one_hot(looks, query.size(1)).float().expand(query.size(0), -1, -1, -1)
        return (query, weights) if return_weights else query


def test_scores_by_hand(program):
    model = GPT(GPTConfig(9, 8, 4, 2, 1))
    model.layers[0].attention = Fixed(4, 2)
    after, before = program["head_scores"](model, program["repeated"](2, 0, 4) % 9, 4)
    assert after.tolist() == [[1, 0]] and before.tolist() == [[0, 1]]


def test_repeated_tokens_are_repeated_and_others_for_another_seed(program):
    first, other = program["repeated"](2, 0), program["repeated"](2, 1)
    assert torch.equal(first[:, :program["PERIOD"]], first[:, program["PERIOD"]:]) and not torch.equal(first, other)


def test_heads_beside_are_others_of_the_same_layers(program):
    taken = [(1, 0), (1, 1), (3, 2)]
    for seed in range(5):
        found = program["beside"](taken, taken, 5, seed)
        assert [layer for layer, _ in found] == [1, 1, 3] and not set(found) & set(taken) and len(set(found)) == 3


def test_conditions_are_those_of_the_scores(program):
    record = json.loads(RECORD.read_text())
    induction, before = torch.tensor(record["induction"]), torch.tensor(record["before"])
    found = program["conditions"](induction, before)
    assert {name: [list(head) for head in heads] for name, heads in found.items()} == {
        name: run["heads"] for name, run in record["runs"].items()}
    layer, head = found["best"][0]
    assert induction[layer, head] == induction.max()
    layer, head = found["previous token"][0]
    assert before[layer, head] == before.max()


def test_losses_are_of_the_next_token(program):
    model, tokens = GPT(GPTConfig(9, 8, 4, 2, 1)), torch.tensor([[1, 2, 3]])
    with torch.no_grad():
        expected = -model(tokens).log_softmax(-1)[0, [0, 1], [2, 3]]
    assert torch.allclose(program["losses"](model, tokens)[0], expected)


@pytest.mark.slow
def test_first_numbers_are_those_of_the_record(program):
    record, (model, _) = json.loads(RECORD.read_text()), program["load"]("smollm2")
    tokens = program["repeated"](program["ABLATED"], 1)[:1]
    for name in ("none", "best"):
        with program["heads_off"](model, [tuple(head) for head in record["runs"][name]["heads"]]):
            second = program["losses"](model, tokens)[0, program["PERIOD"]:].mean().item()
        assert second == pytest.approx(record["runs"][name]["second"][0], abs=0.01)


def test_refuses_unknown_arguments(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(TOOL), "record.json", "--color", "blue"])
    with pytest.raises(SystemExit):
        runpy.run_path(str(TOOL), run_name="__main__")
    assert "--color" in capsys.readouterr().err
