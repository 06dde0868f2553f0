"""The record of what may be forgotten: who sees whom is as it says, seeing all changes nothing, and its numbers fit."""

import json
from pathlib import Path

import pytest
import torch

from tutorlib.models import Llama, LlamaConfig

ROOT = Path(__file__).parents[2] / "experiments"
TOOL = ROOT / "study_windows.py"
RECORD = ROOT / "records" / "windows.json"


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return Llama(LlamaConfig(vocabulary=30, max_length=160, width=16, num_heads=4, num_key_value_heads=2, num_layers=2,
                             hidden=32)).double().eval()


def test_who_sees_whom_by_hand(program):
    condition = program["Condition"]
    assert program["seen"](condition(2), 4).int().tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1]]
    assert program["seen"](condition(1, kept=0), 4).int().tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 0, 1]]
    assert program["seen"](condition(150, without=0), 150)[:, 0].sum() == 128  # the first token is seen from 128 places


def test_the_struck_are_the_kept_that_are_far(program):
    condition = program["Condition"]
    assert not program["struck"](condition(2, kept=0), 4).any()
    assert program["struck"](condition(2, kept=0, struck=True), 4)[:, 0].tolist() == [False, False, True, True]


def test_seeing_all_changes_nothing_and_the_model_is_left_as_it_was(program, model):
    tokens = torch.randint(30, (1, 140))
    expected, nobody = model(tokens), torch.zeros(140, 140, dtype=torch.bool)
    with program["limited"](model, program["seen"](program["CONDITIONS"]["all"], 140), nobody):
        torch.testing.assert_close(model(tokens), expected)
    with program["limited"](model, program["seen"](program["CONDITIONS"]["last 32"], 140), nobody):
        assert (model(tokens) - expected).abs().max() > 1e-6
    assert torch.equal(model(tokens), expected)


@pytest.mark.parametrize("name", ["last 32", "first, last 31"])
def test_what_is_hidden_has_no_effect(program, model, name):
    tokens = torch.randint(30, (1, 140))
    changed = tokens.clone()
    changed[:, 40:50] = (tokens[:, 40:50] + 1) % 30  # two layers of 31 back: beyond the reach of the last
    mask = program["seen"](program["CONDITIONS"][name], 140)
    with program["limited"](model, mask, torch.zeros_like(mask)):
        assert torch.equal(model(tokens)[:, -1], model(changed)[:, -1])


def test_distances_of_even_weights(program):
    even = torch.ones(8, 8).tril() / torch.arange(1, 9)[:, None]  # (T, T)
    found = program["by_distance"]([even.expand(1, 3, 8, 8)] * 2, edges=(1, 2, 4))
    each = sum(1 / (t + 1) for t in range(4, 8)) / 4
    assert found[:3] == pytest.approx([each, each, each]) and sum(found) == pytest.approx(1)
    assert found[3] == pytest.approx(2 * each)  # two and three back


def test_the_record_has_every_condition_for_every_passage(program, record):
    assert set(record["losses"]) == set(program["CONDITIONS"])
    assert {len(found) for found in record["losses"].values()} == {program["PASSAGES"]} == {len(record["distances"])}
    assert all(sum(shares) == pytest.approx(1, abs=1e-3) for shares in record["distances"])
    assert record["settings"] == json.loads(json.dumps({"length": program["LENGTH"], "scored": program["SCORED"],
                                                        "edges": program["EDGES"]}))
