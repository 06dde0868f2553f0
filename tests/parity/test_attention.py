"""Attention against `torch.nn.functional.scaled_dot_product_attention` and `nn.MultiheadAttention`, on drawn configs."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tests.closeness import assert_same, assert_same_gradients
from tutorlib.layers import blockwise_attention, scaled_dot_product_attention
from tutorlib.pretrained import from_torch

MASKS = ["none", "boolean (T, S)", "boolean (B, T, S)", "boolean (B, H, T, S)", "float (T, S)", "float (B, H, T, S)", "causal"]


def draw_mask(form: str, batch: int, heads: int, queries: int, keys: int, dtype: torch.dtype) -> torch.Tensor | None:
    """A random mask of that form in which every row may attend somewhere."""
    if form in ("none", "causal"):
        return None
    shape = {"(T, S)": (queries, keys), "(B, T, S)": (batch, queries, keys),
             "(B, H, T, S)": (batch, heads, queries, keys)}[form.split(" ", 1)[1]]
    allowed = torch.rand(shape) < 0.6
    allowed[..., 0] = True
    return allowed if form.startswith("boolean") else torch.randn(shape, dtype=dtype).masked_fill(~allowed, float("-inf"))


@given(seed=st.integers(0, 10**6), batch=st.integers(1, 3), heads=st.sampled_from([1, 2, 4]), queries=st.integers(1, 9),
       keys=st.integers(1, 9), width=st.integers(1, 12), form=st.sampled_from(MASKS), scale=st.sampled_from([None, 0.3]),
       dtype=st.sampled_from([torch.float32, torch.float64]), fused=st.booleans())
def test_scaled_dot_product_attention(seed, batch, heads, queries, keys, width, form, scale, dtype, fused):
    torch.manual_seed(seed)
    keys = queries if form == "causal" else keys  # torch aligns a rectangular causal mask at the top left
    query = torch.randn(batch, heads, queries, width, dtype=dtype, requires_grad=True)
    key, value = (torch.randn(batch, heads, keys, width, dtype=dtype, requires_grad=True) for _ in range(2))
    mask = draw_mask(form, batch, heads, queries, keys, dtype)
    ours = scaled_dot_product_attention(query, key, value, mask, causal=form == "causal", scale=scale, fused=fused)
    peer_mask = mask[:, None] if mask is not None and mask.dim() == 3 else mask
    reference = F.scaled_dot_product_attention(query, key, value, peer_mask, is_causal=form == "causal", scale=scale)
    assert_same(ours, reference)
    assert_same_gradients(ours, reference, [query, key, value], [query, key, value])


@given(seed=st.integers(0, 10**6), groups=st.sampled_from([1, 2, 3]), shared=st.sampled_from([1, 2, 4]), causal=st.booleans())
def test_grouped_queries(seed, groups, shared, causal):
    torch.manual_seed(seed)
    query = torch.randn(2, groups * shared, 5, 8)
    key, value = torch.randn(2, groups, 5, 8), torch.randn(2, groups, 5, 8)
    reference = F.scaled_dot_product_attention(query, key, value, is_causal=causal, enable_gqa=True)
    for fused in (True, False):
        assert_same(scaled_dot_product_attention(query, key, value, causal=causal, fused=fused), reference)


@given(seed=st.integers(0, 10**6), queries=st.integers(1, 40), block=st.integers(1, 50), causal=st.booleans(),
       more_keys=st.integers(0, 20))
def test_blockwise_attention(seed, queries, block, causal, more_keys):
    torch.manual_seed(seed)
    query = 4 * torch.randn(2, 3, queries, 8, dtype=torch.float64)  # large scores: the running maximum has work to do
    key, value = (4 * torch.randn(2, 3, queries + more_keys, 8, dtype=torch.float64) for _ in range(2))
    allowed = torch.ones(queries, queries + more_keys, dtype=torch.bool).tril(more_keys) if causal else None
    assert_same(blockwise_attention(query, key, value, causal=causal, block=block),
                F.scaled_dot_product_attention(query, key, value, allowed))


@given(seed=st.integers(0, 10**6), batch=st.integers(1, 3), heads=st.sampled_from([1, 2, 4]), per_head=st.integers(1, 6),
       queries=st.integers(1, 8), keys=st.integers(1, 8), bias=st.booleans(), batch_first=st.booleans(),
       form=st.sampled_from(["none", "boolean (T, S)", "boolean (B, H, T, S)", "float (T, S)"]), padded=st.booleans(),
       dtype=st.sampled_from([torch.float32, torch.float64]))
def test_multi_head_attention(seed, batch, heads, per_head, queries, keys, bias, batch_first, form, padded, dtype):
    torch.manual_seed(seed)
    width = heads * per_head
    peer = nn.MultiheadAttention(width, heads, bias=bias, batch_first=batch_first, dtype=dtype).eval()
    if bias:  # torch starts its biases at zero, which would hide a forgotten one
        nn.init.normal_(peer.in_proj_bias)
        nn.init.normal_(peer.out_proj.bias)
    ours = from_torch(peer)
    query = torch.randn(batch, queries, width, dtype=dtype, requires_grad=True)
    key, value = (torch.randn(batch, keys, width, dtype=dtype, requires_grad=True) for _ in range(2))
    mask = draw_mask(form, batch, heads, queries, keys, dtype)
    padding = torch.arange(keys) < torch.randint(1, keys + 1, (batch, 1)) if padded else None  # key 0 is never padding
    peer_mask = mask.flatten(0, 1) if mask is not None and mask.dim() == 4 else mask
    if mask is not None and mask.dtype == torch.bool:
        peer_mask = ~peer_mask
    peer_padding = None if padding is None else ~padding
    if peer_mask is not None and peer_padding is not None and peer_mask.is_floating_point():
        peer_padding = torch.zeros(padding.shape, dtype=dtype).masked_fill(peer_padding, float("-inf"))
    order = (lambda x: x) if batch_first else (lambda x: x.transpose(0, 1))
    reference, peer_weights = peer(order(query), order(key), order(value), key_padding_mask=peer_padding,
                                   attn_mask=peer_mask, average_attn_weights=False)
    output, weights = ours(query, key, value, mask, padding_mask=padding, return_weights=True)
    assert_same(output, order(reference))
    assert_same(weights, peer_weights)
    assert_same(ours(query, key, value, mask, padding_mask=padding), order(reference))
    assert_same_gradients(output, order(reference), [query, key, value], [query, key, value])


def test_parameter_gradients_of_multi_head_attention():
    torch.manual_seed(0)
    peer = nn.MultiheadAttention(12, 3, batch_first=True).double()
    ours = from_torch(peer)
    states = torch.randn(2, 5, 12, dtype=torch.float64)
    peer(states, states, states)[0].square().sum().backward()
    ours(states).square().sum().backward()
    assert_same(torch.cat([ours.query.weight.grad, ours.key.weight.grad, ours.value.weight.grad]), peer.in_proj_weight.grad)
    assert_same(torch.cat([ours.query.bias.grad, ours.key.bias.grad, ours.value.bias.grad]), peer.in_proj_bias.grad)
    assert_same(ours.output.weight.grad, peer.out_proj.weight.grad)


@pytest.mark.parametrize("options, named", [
    ({"kdim": 4}, "kdim=4"), ({"vdim": 4}, "vdim=4"), ({"add_bias_kv": True}, "add_bias_kv=True"),
    ({"add_zero_attn": True}, "add_zero_attn=True")])
def test_what_ours_lacks_is_refused_by_name(options, named):
    with pytest.raises(ValueError, match=f"MultiheadAttention\\({named}\\) is not supported"):
        from_torch(nn.MultiheadAttention(8, 2, **options))
