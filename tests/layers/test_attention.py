"""Attention: what holds for every input (properties), and what is refused."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.closeness import assert_same, assert_same_gradients, draw
from tutorlib.layers import (
    MultiHeadAttention,
    RotaryPosition,
    blockwise_attention,
    scaled_dot_product_attention,
)

HALF = [torch.float16, torch.bfloat16]


def test_two_tokens_by_hand():
    """Scores ln 3 and 0 give weights 3/4 and 1/4."""
    query = torch.tensor([[math.log(3.0) * math.sqrt(2), 0.0]])
    key, value = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[4.0], [8.0]])
    output, weights = scaled_dot_product_attention(query, key, value, return_weights=True)
    torch.testing.assert_close(weights, torch.tensor([[0.75, 0.25]]))
    torch.testing.assert_close(output, torch.tensor([[5.0]]))


@given(seed=st.integers(0, 10**6), length=st.integers(1, 8))
def test_rows_sum_to_one_and_outputs_stay_between_the_values(seed, length):
    query, key, value = (3 * draw(2, 3, length, 4, seed=seed + i) for i in range(3))
    output, weights = scaled_dot_product_attention(query, key, value, return_weights=True)
    assert (weights >= 0).all()
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3, length))
    assert (output <= value.amax(-2, keepdim=True) + 1e-5).all() and (output >= value.amin(-2, keepdim=True) - 1e-5).all()


@given(seed=st.integers(0, 10**6))
def test_permutations(seed):
    """Permuted queries permute the outputs; keys permuted together with their values change nothing."""
    query, key, value = (draw(1, 2, 6, 4, dtype=torch.float64, seed=seed + i) for i in range(3))
    order = torch.randperm(6, generator=torch.Generator().manual_seed(seed))
    output = scaled_dot_product_attention(query, key, value)
    assert_same(scaled_dot_product_attention(query[:, :, order], key, value), output[:, :, order])
    assert_same(scaled_dot_product_attention(query, key[:, :, order], value[:, :, order]), output)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, *HALF])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_explicit_is_fused(dtype, causal, masked, device):
    query = draw(2, 4, 5, 8, dtype=dtype, device=device).requires_grad_()
    key, value = (draw(2, 2, 7, 8, dtype=dtype, device=device, seed=i).requires_grad_() for i in (1, 2))
    mask = torch.ones(2, 1, 7, dtype=torch.bool, device=device) if masked else None
    if masked:
        mask[1, :, 1:3] = False
    explicit = scaled_dot_product_attention(query, key, value, mask, causal=causal, fused=False)
    fused = scaled_dot_product_attention(query, key, value, mask, causal=causal)
    assert_same(fused, explicit)
    if dtype in (torch.float32, torch.float64):
        assert_same_gradients(fused, explicit, [query, key, value], [query, key, value])


def test_gradients_are_those_of_the_formula():
    query, key, value = (draw(2, 3, 4, dtype=torch.float64, seed=i).requires_grad_() for i in range(3))
    mask = torch.tensor([[1, 1, 0], [1, 1, 1], [0, 0, 0]], dtype=torch.bool)
    for fused in (True, False):
        assert torch.autograd.gradcheck(lambda q, k, v, f=fused: scaled_dot_product_attention(q, k, v, mask, fused=f),
                                        (query, key, value))
    assert torch.autograd.gradcheck(lambda q, k, v: blockwise_attention(q, k, v, causal=True, block=2), (query, key, value))


def test_dropout_drops_weights_and_keeps_their_expectation():
    query, key, value = draw(1, 1, 4, 4), draw(1, 1, 6, 4, seed=1), draw(1, 1, 6, 4, seed=2)
    exact = scaled_dot_product_attention(query, key, value)
    torch.manual_seed(0)
    for fused in (True, False):
        drawn = torch.stack([scaled_dot_product_attention(query, key, value, dropout=0.5, fused=fused) for _ in range(4000)])
        assert drawn.var(0).min() > 0.01
        torch.testing.assert_close(drawn.mean(0), exact, atol=0.08, rtol=0)


@pytest.mark.parametrize("fused", [True, False])
def test_causal_attention_drops_weights_too(fused):
    query, key, value = (draw(1, 1, 6, 4, seed=i) for i in range(3))
    torch.manual_seed(0)
    first, second = (scaled_dot_product_attention(query, key, value, causal=True, dropout=0.5, fused=fused) for _ in range(2))
    assert not torch.equal(first, second)


def test_returned_weights_are_those_before_dropout():
    query, key, value = (draw(1, 1, 6, 4, seed=i) for i in range(3))
    _, exact = scaled_dot_product_attention(query, key, value, return_weights=True)
    _, weights = scaled_dot_product_attention(query, key, value, dropout=0.5, return_weights=True)
    assert torch.equal(weights, exact)


@pytest.mark.parametrize("fused", [True, False])
def test_a_scale_of_zero_makes_all_keys_equal(fused):
    query, key, value = (draw(1, 2, 5, 4, seed=i) for i in range(3))
    output = scaled_dot_product_attention(query, key, value, scale=0.0, fused=fused)
    assert_same(output, value.mean(-2, keepdim=True).expand_as(output))


# the multi-head layer

def test_self_attention_is_permutation_equivariant():
    layer, states = MultiHeadAttention(12, 3).double(), draw(2, 6, 12, dtype=torch.float64)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    assert_same(layer(states[:, order]), layer(states)[:, order])


def test_padding_changes_nothing():
    layer, states = MultiHeadAttention(12, 3), draw(1, 4, 12)
    padded = torch.cat([states, draw(1, 3, 12, seed=9)], dim=1)
    real = torch.tensor([[True] * 4 + [False] * 3])
    assert_same(layer(padded, padding_mask=real)[:, :4], layer(states))
    assert (layer(padded)[:, :4] - layer(states)).abs().max() > 0.01


def test_key_and_value_may_differ():
    layer, query, key, value = MultiHeadAttention(8, 2), draw(2, 3, 8), draw(2, 5, 8, seed=1), draw(2, 5, 8, seed=2)
    assert_same(layer(query, key), layer(query, key, key))
    assert_same(layer(query), layer(query, query, query))
    assert (layer(query, key, value) - layer(query, key)).abs().max() > 0.01


def test_queries_stand_at_their_own_places_beside_more_keys():
    """Without a cache the first query is number 0, however many keys there are: fewer queries have the same answers."""
    layer, query, key = MultiHeadAttention(8, 2, rotary=RotaryPosition(4)), draw(2, 5, 8), draw(2, 7, 8, seed=1)
    assert_same(layer(query[:, :3], key), layer(query, key)[:, :3])


def test_heads_share_keys_in_order():
    """Query heads 0, 1 belong to key head 0, and 2, 3 to key head 1 - not alternating."""
    layer = MultiHeadAttention(16, 4, num_key_value_heads=2)
    full = MultiHeadAttention(16, 4)
    full.load_state_dict(layer.state_dict() | {
        f"{name}.{part}": getattr(getattr(layer, name), part).unflatten(0, (2, 1, 4)).repeat_interleave(2, 1).flatten(0, 2)
        for name in ("key", "value") for part in ("weight", "bias")})
    states = draw(2, 5, 16)
    assert_same(layer(states), full(states))


def test_weights_start_with_xavier_and_biases_at_zero():
    torch.manual_seed(0)
    layer = MultiHeadAttention(64, 4, num_key_value_heads=2)
    for projection in (layer.query, layer.key, layer.value, layer.output):
        bound = math.sqrt(6 / sum(projection.weight.shape))  # of the uniform distribution
        assert 0.98 * bound < projection.weight.abs().max().item() <= bound
        assert (projection.bias == 0).all()


def test_weights_are_dropped_in_training_only():
    layer, states = MultiHeadAttention(8, 2, dropout=0.5), draw(2, 5, 8)
    assert not torch.equal(layer(states), layer(states))
    layer.eval()
    assert torch.equal(layer(states), layer(states))


@pytest.mark.parametrize("dtype", HALF)
def test_half_precision_stays_close(dtype, device):
    layer = MultiHeadAttention(16, 4).to(device)
    states = draw(2, 5, 16, device=device)
    expected = layer(states, causal=True)
    output = layer.to(dtype)(states.to(dtype), causal=True)
    assert output.dtype == dtype
    torch.testing.assert_close(output.float(), expected, atol=0.03, rtol=0.03)


# refusals

@pytest.mark.parametrize("shapes, message", [
    (((2, 3, 4), (2, 3, 5), (2, 3, 5)), "query and key must have the same width in their last dimension"),
    (((2, 3, 4), (2, 5, 4), (2, 6, 4)), "key and value must have the same batch, heads and length"),
    (((2, 3, 4), (1, 5, 4), (1, 5, 4)), "query and key must have the same batch size"),
    (((2, 3, 3, 4), (2, 2, 3, 4), (2, 2, 3, 4)), "heads of query must be a multiple of the heads of key"),
    (((2, 3, 4), (2, 2, 3, 4), (2, 2, 3, 4)), r"must all be \(B, H, T, K\), \(B, T, K\) or \(T, K\), got query \(2, 3, 4\)"),
    (((4,), (4,), (4,)), "must all be")])
def test_shapes_that_do_not_fit(shapes, message):
    with pytest.raises(ValueError, match=message):
        scaled_dot_product_attention(*(torch.zeros(shape) for shape in shapes))


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("dropout", [-0.1, 1.1, math.nan])
def test_a_dropout_that_is_no_probability(fused, dropout):
    with pytest.raises(ValueError, match=rf"dropout must lie in \[0, 1\], got {dropout}"):
        scaled_dot_product_attention(*torch.zeros(3, 1, 1, 2, 2), dropout=dropout, fused=fused)


@pytest.mark.parametrize("arguments, message", [
    (dict(width=10, num_heads=4), "width must be a positive multiple of num_heads, got width=10, num_heads=4"),
    (dict(width=8, num_heads=0), "num_heads must be at least 1, got 0"),
    (dict(width=8, num_heads=4, num_key_value_heads=3), "num_heads must be a multiple of num_key_value_heads"),
    (dict(width=8, num_heads=4, num_key_value_heads=0), "num_key_value_heads must be at least 1, got 0"),
    (dict(width=8.0, num_heads=4), "width must be a whole number, got 8.0"),
    (dict(width=8, num_heads=4, dropout=-0.1), r"dropout must lie in \[0, 1\), got -0.1"),
    (dict(width=8, num_heads=4, dropout=1.0), r"dropout must lie in \[0, 1\), got 1.0")])
def test_sizes_that_do_not_fit(arguments, message):
    with pytest.raises(ValueError, match=message):
        MultiHeadAttention(**arguments)


def test_states_of_the_wrong_width():
    layer = MultiHeadAttention(8, 2)
    with pytest.raises(ValueError, match=r"query must have the shape \(B, length, 8\), got \(2, 3, 6\)"):
        layer(torch.zeros(2, 3, 6), torch.zeros(2, 3, 8))
    with pytest.raises(ValueError, match=r"key must have the shape \(B, length, 8\), got \(3, 8\)"):
        layer(torch.zeros(2, 3, 8), torch.zeros(3, 8))
    with pytest.raises(ValueError, match=r"value must have the shape"):
        layer(torch.zeros(2, 3, 8), torch.zeros(2, 3, 8), torch.zeros(2, 3, 9))
