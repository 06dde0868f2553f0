"""GPT alone: how it starts, and what it refuses."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from tests.models.examples import GPT_SIZES
from tutorlib.models import GPT, GPTConfig


def test_a_fresh_gpt_is_uniform_and_its_residuals_are_damped():
    torch.manual_seed(0)
    model = GPT(GPTConfig(vocabulary=512, max_length=16, width=128, num_heads=2, num_layers=8))
    loss = nn.functional.cross_entropy(model(torch.randint(512, (8, 16))).flatten(0, 1), torch.randint(512, (128,)))
    assert abs(loss.item() - torch.tensor(512.0).log().item()) < 0.1
    layer = model.layers[3]
    for damped in (layer.attention.output, layer.feed_forward.contract):
        assert 0.0045 < damped.weight.std() < 0.0055  # 0.02 / √16
    for plain in (layer.attention.query, layer.feed_forward.expand, model.embedding):
        assert 0.019 < plain.weight.std() < 0.021
    assert all((p == 0).all() for name, p in model.named_parameters() if name.endswith("bias"))


def test_a_gpt_without_biases_has_none():
    names = [name for name, _ in GPT(replace(GPT_SIZES, bias=False)).named_parameters()]
    assert names and not [name for name in names if "bias" in name]


@pytest.mark.parametrize("size", ["vocabulary", "max_length", "width", "num_heads", "num_layers", "hidden"])
@pytest.mark.parametrize("value", [0, -1, 2.0])
def test_sizes_are_whole_and_positive(size, value):
    with pytest.raises(ValueError, match=f"{size} must be .*{value}"):
        GPT(replace(GPT_SIZES, **{size: value}))
