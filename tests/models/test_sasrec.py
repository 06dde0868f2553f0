"""SASRec: its blocks are torch's and its states GPT's, it sees the past only, fills on the left, and learns what comes next."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tests.closeness import assert_same, assert_same_gradients
from tests.models.examples import shaken
from tutorlib.models import GPT, GPTConfig, SASRec, SASRecConfig

SIZES = SASRecConfig(items=22, max_length=9, width=16, num_heads=2, num_layers=2, dropout=0.0)


def model(**options):
    torch.manual_seed(0)
    return shaken(SASRec(replace(SIZES, **options)))


def reference(ours):
    """The same network in torch.nn: pre-norm encoder layers under a causal mask, tied output."""
    config = ours.config
    layers = []
    for layer in ours.layers:
        theirs = nn.TransformerEncoderLayer(config.width, config.num_heads, config.width, 0.0, norm_first=True,
                                            batch_first=True)
        attention = layer.attention
        parts = [getattr(attention, name) for name in ("query", "key", "value")]
        pairs = {"self_attn.in_proj_weight": torch.cat([part.weight for part in parts]),
                 "self_attn.in_proj_bias": torch.cat([part.bias for part in parts])}
        for name, part in (("self_attn.out_proj", attention.output), ("linear1", layer.feed_forward.expand),
                           ("linear2", layer.feed_forward.contract), ("norm1", layer.attention_norm),
                           ("norm2", layer.feed_forward_norm)):
            pairs |= {f"{name}.{key}": value for key, value in part.state_dict().items()}
        theirs.load_state_dict(pairs)
        layers.append(theirs.to(ours.embedding.weight.dtype))

    def forward(items):
        length = items.size(1)
        states = ours.embedding(items) + ours.position.table[config.max_length - length:]
        hidden = torch.ones(length, length, dtype=torch.bool).triu(1)
        for layer in layers:
            states = layer(states, src_mask=hidden)
        return F.layer_norm(states, (config.width,), ours.norm.weight, ours.norm.bias, ours.norm.eps) @ ours.embedding.weight.T
    return forward


@settings(max_examples=15)
@given(st.sampled_from([1, 2, 4]), st.integers(1, 3), st.integers(1, 9), st.sampled_from([torch.float32, torch.float64]))
def test_it_is_torchs_encoder_under_a_causal_mask(heads, layers, length, dtype):
    ours = model(num_heads=heads, num_layers=layers).to(dtype)
    items = torch.randint(1, 23, (3, length))
    expected = reference(ours)(items)
    assert_same(ours(items), expected)
    assert_same_gradients(ours(items), expected, [ours.embedding.weight], [ours.embedding.weight])


def test_it_is_gpt_with_a_relu_and_a_narrow_hidden_layer():
    ours = model()
    gpt = GPT(GPTConfig(vocabulary=23, max_length=9, width=16, num_heads=2, num_layers=2, hidden=16, activation="relu")).eval()
    gpt.load_state_dict(ours.state_dict() | {"output.weight": ours.embedding.weight})
    items = torch.randint(1, 23, (2, 9))
    assert_same(ours(items), gpt(items))


def test_no_position_sees_what_comes_after_it():
    ours, items = model(), torch.randint(1, 23, (2, 9))
    before = ours(items)
    for place in range(9):
        changed = items.clone()
        changed[:, place] = changed[:, place] % 22 + 1
        moved = (ours(changed) - before).abs().amax(dim=(0, 2)) > 1e-6
        assert moved.tolist() == [False] * place + [True] * (9 - place)


def test_filling_on_the_left_changes_nothing():
    ours, items = model(), torch.randint(1, 23, (2, 4))
    assert_same(ours(F.pad(items, (5, 0)))[:, 5:], ours(items))
    assert_same(ours.next_scores(F.pad(items, (40, 0))), ours(items)[:, -1])


def test_it_looks_back_as_far_as_it_is_long():
    ours, items = model(), torch.randint(1, 23, (2, 12))
    assert_same(ours.next_scores(items, batch_size=1), ours(items[:, -9:])[:, -1])


def test_an_empty_history_has_scores_and_gradients():
    ours = model()
    scores = ours(torch.zeros(2, 9, dtype=torch.long))
    scores.sum().backward()
    assert scores.isfinite().all() and all(p.grad.isfinite().all() for p in ours.parameters() if p.grad is not None)


def test_asking_leaves_the_mode_and_drops_nothing():
    ours = SASRec(replace(SIZES, dropout=0.5)).train()
    items = torch.randint(1, 23, (2, 9))
    assert torch.equal(ours.next_scores(items), ours.next_scores(items)) and ours.training
    assert not torch.equal(ours(items), ours(items))


def test_it_overfits_one_batch():
    torch.manual_seed(0)
    ours = SASRec(SIZES)
    rows = torch.stack([torch.randperm(22)[:10] + 1 for _ in range(8)])
    adam = torch.optim.Adam(ours.parameters(), 0.01)
    for _ in range(150):
        loss = F.cross_entropy(ours(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten(), ignore_index=0)
        adam.zero_grad()
        loss.backward()
        adam.step()
    assert loss < 0.1
    right = ours(rows[:, :-1]).argmax(-1) == rows[:, 1:]
    assert right.float().mean() > 0.95


def test_the_filler_learns_nothing():
    ours = SASRec(SIZES)
    assert (ours.embedding.weight[0] == 0).all()
    ours.embedding(torch.tensor([[0, 3]])).sum().backward()
    assert (ours.embedding.weight.grad[0] == 0).all()


@pytest.mark.parametrize("items, said", [(torch.full((1, 3), 23), "lie in"), (torch.ones(1, 10, dtype=torch.long), "at most"),
                                         (torch.ones(1, 3), "integer")])
def test_wrong_rows_are_refused(items, said):
    with pytest.raises(ValueError, match=said):
        model()(items)


def test_wrong_sizes_are_refused():
    with pytest.raises(ValueError, match="items must be"):
        SASRecConfig(items=0)
