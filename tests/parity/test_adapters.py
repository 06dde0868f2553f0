"""Adapters against peft's, on drawn configurations: outputs, gradients, what a step of training does, merged and not."""

import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tests.closeness import assert_same
from tutorlib.models.llama import Llama, LlamaConfig
from tutorlib.training.adapters import LoRALinear, adapters, insert_adapters, merge_adapters, unmerge_adapters
from tutorlib.training.losses import token_cross_entropy

peft = pytest.importorskip("peft")


def wrapped(model: nn.Module, rank: int, alpha: float, targets) -> nn.Module:
    config = peft.LoraConfig(r=rank, lora_alpha=alpha, target_modules=targets, lora_dropout=0.0, bias="none")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return peft.inject_adapter_in_model(config, model)


def share(ours: nn.Module, theirs: nn.Module) -> list[tuple[LoRALinear, nn.Module]]:
    """Random A and B, the same in both; the pairs of layers."""
    modules, pairs = dict(theirs.named_modules()), []
    for number, (name, adapter) in enumerate(adapters(ours)):
        layer, generator = modules[name], torch.Generator().manual_seed(number)
        with torch.no_grad():
            for parameter, half in ((adapter.down, layer.lora_A), (adapter.up, layer.lora_B)):
                their = half["default"].weight
                parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))
                their.copy_(parameter)
        pairs.append((adapter, layer))
    return pairs


@settings(max_examples=25, deadline=None)
@given(wide=st.integers(1, 9), high=st.integers(1, 9), rank=st.integers(1, 9), alpha=st.sampled_from([1, 3, 16, 64]),
       bias=st.booleans(), batch=st.integers(1, 4), seed=st.integers(0, 10**6),
       dtype=st.sampled_from([torch.float32, torch.float64]))
def test_a_layer(wide, high, rank, alpha, bias, batch, seed, dtype):
    torch.manual_seed(seed)
    layer, rank = nn.Linear(wide, high, bias=bias).to(dtype), min(rank, wide, high)
    other = nn.Sequential(nn.Linear(wide, high, bias=bias).to(dtype))
    other[0].load_state_dict(layer.state_dict())
    ours, theirs = nn.Sequential(LoRALinear(layer, rank, alpha)), wrapped(other, rank, alpha, ["0"])
    [(adapter, peer)] = share(ours, theirs)
    inputs, weight = torch.randn(batch, wide, dtype=dtype), torch.randn(batch, high, dtype=dtype)
    assert_same(ours(inputs), theirs(inputs))
    (ours(inputs) * weight).sum().backward()
    (theirs(inputs) * weight).sum().backward()
    assert_same(adapter.down.grad, peer.lora_A["default"].weight.grad)
    assert_same(adapter.up.grad, peer.lora_B["default"].weight.grad)
    assert_same(adapter.change(), peer.get_delta_weight("default"))
    adapter.merge(), peer.merge()
    assert_same(adapter.layer.weight, peer.base_layer.weight)
    assert_same(ours(inputs), theirs(inputs))
    adapter.unmerge(), peer.unmerge()
    assert_same(adapter.layer.weight, peer.base_layer.weight)


@settings(max_examples=8, deadline=None)
@given(rank=st.integers(1, 4), alpha=st.sampled_from([2, 16]), seed=st.integers(0, 10**6),
       names=st.sampled_from([("query", "value"), ("gate", "expand", "contract"), ("key", "attention.output")]))
def test_a_language_model_and_its_training(rank, alpha, seed, names):
    config = LlamaConfig(17, 8, width=8, num_heads=2, num_key_value_heads=1, num_layers=2, hidden=12)
    models = []
    for _ in range(2):
        torch.manual_seed(seed)
        models.append(Llama(config).double())
    ours, theirs = insert_adapters(models[0], rank, alpha, names=names), wrapped(models[1], rank, alpha, list(names))
    pairs = share(ours, theirs)
    trained = [weight for weight in theirs.parameters() if weight.requires_grad]
    assert sum(map(torch.numel, trained)) == sum(a.down.numel() + a.up.numel() for a, _ in pairs)
    tokens = torch.randint(17, (2, 7))
    for model in (ours, theirs):
        optimizer = torch.optim.SGD([weight for weight in model.parameters() if weight.requires_grad], lr=0.01)
        for _ in range(3):
            optimizer.zero_grad()
            token_cross_entropy(model(tokens[:, :-1]), tokens[:, 1:]).backward()
            optimizer.step()
    assert_same(ours(tokens), theirs(tokens))
    assert_same(merge_adapters(ours)(tokens), theirs(tokens))
    assert_same(unmerge_adapters(ours)(tokens), theirs(tokens))


@settings(max_examples=10, deadline=None)
@given(wide=st.integers(8, 64), rank=st.integers(1, 8))
def test_both_begin_alike(wide, rank):
    """B zero, A uniform within 1/√N: the same law, drawn otherwise."""
    peer = wrapped(nn.Sequential(nn.Linear(wide, 8)), rank, 16, ["0"])[0]
    ours = LoRALinear(nn.Linear(wide, 8), rank)
    assert not peer.lora_B["default"].weight.any() and not ours.up.any()
    for drawn in (peer.lora_A["default"].weight, ours.down):
        assert drawn.abs().max() <= wide**-0.5 and drawn.abs().max() > 0.3 * wide**-0.5
