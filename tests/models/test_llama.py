"""Llama alone: what it refuses. What it shares with GPT is in test_language_models, its outputs in tests/parity."""

from dataclasses import replace

import pytest
import torch

from tests.closeness import assert_same
from tests.models.examples import LLAMA_SIZES, shaken
from tutorlib.layers import RotaryPosition
from tutorlib.models import Llama


@pytest.mark.parametrize("size", ["vocabulary", "max_length", "width", "num_heads", "num_key_value_heads", "num_layers",
                                  "hidden"])
@pytest.mark.parametrize("value", [0, -1, 2.0])
def test_sizes_are_whole_and_positive(size, value):
    with pytest.raises(ValueError, match=f"{size} must be .*{value}"):
        Llama(replace(LLAMA_SIZES, **{size: value}))


@pytest.mark.parametrize("places", [(0,), (1,), (0, 1)])
def test_a_layer_may_be_given_its_own_rotary(places):
    """The angles are computed once for the layers that share them, and for no other."""
    torch.manual_seed(0)
    model, tokens = shaken(Llama(LLAMA_SIZES)), torch.randint(23, (2, 7))
    before = model(tokens)
    states = model.embedding(tokens)
    for place in places:
        model.layers[place].attention.rotary = RotaryPosition(4, base=3.0)
    for layer in model.layers:
        states = layer(states, causal=True)  # each asks its own
    assert_same(model(tokens), model.output(model.norm(states)))
    assert (model(tokens) - before).abs().max() > 1e-3
