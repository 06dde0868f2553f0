"""Prompts whose mapping is new every time."""

import pytest
import torch

from tutorlib.data.in_context import MappingPrompts, shown_before


def test_a_prompt_is_symbols_and_the_labels_of_its_mapping():
    prompts = MappingPrompts(num_symbols=3, num_labels=5, pairs=7, batch_size=11)
    tokens, mapping = prompts(0)
    assert tokens.shape == (11, 14) and mapping.shape == (11, 3) and prompts.vocabulary_size == 8
    symbols, labels = tokens[:, ::2], tokens[:, 1::2]
    assert symbols.min() == 0 and symbols.max() == 2 and labels.min() >= 3 and labels.max() <= 7
    assert torch.equal(labels, mapping.gather(1, symbols))
    assert len({tuple(row) for row in mapping.tolist()}) > 5  # drawn anew


@pytest.mark.parametrize("held_out", [False, True])
def test_the_two_sets_of_mappings_are_apart_and_evenly_drawn(held_out):
    prompts = MappingPrompts(num_symbols=3, num_labels=4, batch_size=6400, held_out=held_out)
    labels = prompts(0).mapping - 3  # (B, 3), from 0
    assert ((labels.sum(1) % 4 == 0) == held_out).all()
    codes = labels @ torch.tensor([16, 4, 1])
    counts = codes.bincount(minlength=64)
    size = 16 if held_out else 48
    assert (counts > 0).sum() == size  # every mapping of the set occurs
    expected = 6400 / size
    assert ((counts[counts > 0] - expected).abs() < 6 * expected**0.5).all()


def test_shown_before_counts_earlier_pairs_of_the_same_symbol():
    tokens = torch.tensor([[0, 9, 1, 8, 0, 9, 0, 9, 1, 8], [2, 5, 2, 5, 2, 5, 2, 5, 3, 5]])
    assert shown_before(tokens).tolist() == [[0, 0, 1, 2, 1], [0, 1, 2, 3, 0]]


def test_a_batch_is_a_function_of_seed_and_step_and_follows_the_device():
    prompts = MappingPrompts(seed=1)
    assert torch.equal(prompts(5).tokens, MappingPrompts(seed=1)(5).tokens)
    assert not torch.equal(prompts(5).tokens, prompts(6).tokens)
    assert not torch.equal(prompts(5).tokens, MappingPrompts(seed=2)(5).tokens)
    drawn = {tuple(MappingPrompts(seed=seed)(step).tokens.flatten().tolist()) for seed in range(3) for step in range(3)}
    assert len(drawn) == 9  # no seed goes on where another began
    assert {tensor.device.type for tensor in MappingPrompts(device="meta")(0)} == {"meta"}


@pytest.mark.parametrize(("name", "value"), [("num_symbols", 0), ("num_labels", 1), ("pairs", 0), ("batch_size", 0)])
def test_refuses_too_few(name, value):
    with pytest.raises(ValueError, match=f"{name} must be at least {value + 1}, got {value}"):
        MappingPrompts(**{name: value})
    for wrong in (4.0, True):
        with pytest.raises(ValueError, match=f"{name} must be a whole number, got {wrong}"):
            MappingPrompts(**{name: wrong})
