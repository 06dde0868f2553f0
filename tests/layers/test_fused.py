"""The fused face: when the kernel is called and how, and the online softmax. Values are compared with the explicit face."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from tests.closeness import assert_same, draw
from tutorlib.layers import blockwise_attention, scaled_dot_product_attention


def test_the_fused_form_is_the_kernel_and_the_explicit_form_is_not(monkeypatch):
    calls, kernel = [], F.scaled_dot_product_attention
    monkeypatch.setattr(F, "scaled_dot_product_attention",
                        lambda *a, **options: (calls.append(options.get("is_causal")), kernel(*a, **options))[1])
    states = draw(1, 2, 4, 8)
    scaled_dot_product_attention(states, states, states, fused=False)
    scaled_dot_product_attention(states, states, states, return_weights=True)
    assert calls == []
    scaled_dot_product_attention(states, states, states)
    scaled_dot_product_attention(states, states, states, causal=True)  # told, so that it skips half of the work
    assert calls == [False, True]


@pytest.mark.parametrize("num_keys, needs_gradient, expected", [
    (128, True, torch.float32), (129, True, torch.bfloat16), (128, False, torch.bfloat16)])
@pytest.mark.parametrize("form", ["none", "causal", "float"])
def test_short_bfloat16_attention_is_differentiated_in_float32(monkeypatch, num_keys, needs_gradient, expected, form):
    given, kernel = [], F.scaled_dot_product_attention
    monkeypatch.setattr(F, "scaled_dot_product_attention", lambda *a, **o: (given.append(a[0].dtype), kernel(*a, **o))[1])
    query, key, value = (draw(1, 2, num_keys, 8, seed=i) for i in range(3))
    mask = draw(num_keys, num_keys, seed=3) if form == "float" else None
    exact = scaled_dot_product_attention(query, key, value, mask, causal=form == "causal", fused=False)
    query, key, value = (x.bfloat16().requires_grad_(needs_gradient) for x in (query, key, value))
    with torch.autocast("cpu", torch.bfloat16):
        output = scaled_dot_product_attention(query, key, value, mask, causal=form == "causal")
    assert given == [expected] and output.dtype == torch.bfloat16
    torch.testing.assert_close(output.float(), exact, atol=0.03, rtol=0.03)


def test_short_bfloat16_attention_keeps_scale_and_dropout_where_it_is_differentiated():
    query, key, value = (draw(1, 2, 6, 8, seed=i).bfloat16().requires_grad_() for i in range(3))
    for scale in (0.0, 3.0):
        exact = scaled_dot_product_attention(query.float(), key.float(), value.float(), scale=scale, fused=False)
        output = scaled_dot_product_attention(query, key, value, scale=scale).float()
        torch.testing.assert_close(output, exact, atol=0.03, rtol=0.03)
    assert (scaled_dot_product_attention(query, key, value, dropout=1.0) == 0).all()


def test_a_block_of_nothing():
    with pytest.raises(ValueError, match="block must be at least 1, got 0"):
        blockwise_attention(*torch.zeros(3, 1, 2, 2), block=0)


@given(seed=st.integers(0, 10**6), num_queries=st.integers(1, 9), more=st.integers(0, 5), block=st.integers(1, 6),
       causal=st.booleans())
def test_blockwise_is_the_formula(seed, num_queries, more, block, causal):
    query = draw(2, 3, num_queries, 4, seed=seed)
    key, value = (draw(2, 3, num_queries + more, width, seed=seed + width) for width in (4, 5))
    exact = scaled_dot_product_attention(query, key, value, causal=causal, fused=False)
    assert_same(blockwise_attention(query, key, value, causal=causal, block=block), exact)


def test_causal_blocks_do_half_of_the_work():
    """Keys that no query of a block may see are never multiplied with: of 8 x 8 blocks 36 are left."""
    query, key, value = (draw(64, 4, seed=i) for i in range(3))
    with FlopCounterMode(display=False) as whole:
        blockwise_attention(query, key, value, block=8)
    with FlopCounterMode(display=False) as half:
        blockwise_attention(query, key, value, block=8, causal=True)
    assert half.get_total_flops() / whole.get_total_flops() == 36 / 64
