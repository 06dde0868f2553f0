"""Attention: what holds for every input (properties), and what is refused."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from tests.closeness import assert_same, assert_same_gradients
from tutorlib.layers import (
    KeyValueCache,
    MultiHeadAttention,
    RotaryPosition,
    blockwise_attention,
    causal_mask,
    masked_softmax,
    scaled_dot_product_attention,
)

HALF = [torch.float16, torch.bfloat16]


def draw(*shape, dtype=torch.float32, device="cpu", seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(device, dtype)


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


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("form", ["pairs", "batch", "heads", "float"])
def test_forbidden_keys_have_no_influence(fused, form, device):
    query, key, value = (draw(2, 3, 5, 4, device=device, seed=i) for i in range(3))
    shape = {"pairs": (5, 5), "batch": (2, 5, 5), "heads": (2, 3, 5, 5), "float": (5, 5)}[form]
    allowed = torch.ones(shape, dtype=torch.bool, device=device)
    allowed[..., 2, 3] = False
    mask = torch.zeros(shape, device=device).masked_fill(~allowed, -torch.inf) if form == "float" else allowed
    before = scaled_dot_product_attention(query, key, value, mask, fused=fused)
    key[:, :, 3], value[:, :, 3] = 100.0, -100.0
    after = scaled_dot_product_attention(query, key, value, mask, fused=fused)
    assert torch.equal(before[:, :, 2], after[:, :, 2])
    others = [0, 1, 3, 4]
    assert (before[:, :, others] - after[:, :, others]).abs().amax(dim=-1).min() > 0.01


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, *HALF])
@pytest.mark.parametrize("kind", ["boolean", "-inf", "causal and boolean"])
def test_a_row_that_may_attend_nowhere_is_zero_in_value_and_gradient(fused, dtype, kind, device):
    query, key, value = (draw(2, 3, 4, 4, dtype=dtype, device=device, seed=i).requires_grad_() for i in range(3))
    mask = torch.ones(4, 4, dtype=torch.bool, device=device)
    mask[1, :2 if "causal" in kind else 4] = False
    if kind == "-inf":
        mask = torch.zeros(4, 4, dtype=dtype, device=device).masked_fill(~mask, -torch.inf)
    output = scaled_dot_product_attention(query, key, value, mask, causal="causal" in kind, fused=fused)
    assert (output[:, :, 1] == 0).all() and (output[:, :, [0, 2, 3]] != 0).all()
    gradients = torch.autograd.grad(output.sum(), [query, key, value])
    assert all(g.isfinite().all() for g in gradients) and (gradients[0][:, :, 1] == 0).all()


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("low", ["minus a billion in float32", "the smallest number"])
def test_an_additive_mask_does_not_overflow_in_half_precision(fused, dtype, low, device):
    query, key, value = (4 * draw(1, 2, 4, 8, dtype=dtype, device=device, seed=i) for i in range(3))
    allowed = causal_mask(4, 4, device)
    mask = torch.zeros(4, 4, device=device).masked_fill(~allowed, -1e9)
    if low == "the smallest number":
        mask = torch.zeros(4, 4, dtype=dtype, device=device).masked_fill(~allowed, torch.finfo(dtype).min)
    mask[2] = mask.min()  # a whole row of it: all keys equally improbable, which is still a distribution
    output = scaled_dot_product_attention(query, key, value, mask, fused=fused)
    exact = scaled_dot_product_attention(query.double(), key.double(), value.double(), allowed)
    assert output.isfinite().all() and (output[:, :, 2] != 0).any()
    torch.testing.assert_close(output[:, :, [0, 1, 3]].double(), exact[:, :, [0, 1, 3]], atol=0.1, rtol=0.02)


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


def test_causal_mask_aligns_the_last_query_with_the_last_key():
    assert causal_mask(2, 4).tolist() == [[True, True, True, False], [True, True, True, True]]
    assert causal_mask(3, 3).tolist() == [[True, False, False], [True, True, False], [True, True, True]]


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("num_keys", [5, 8])
def test_causality(fused, num_keys):
    """Editing key s moves no query that stands before it, and moves the query at its own place."""
    query, key, value = draw(1, 2, 5, 4), draw(1, 2, num_keys, 4, seed=1), draw(1, 2, num_keys, 4, seed=2)
    before = scaled_dot_product_attention(query, key, value, causal=True, fused=fused)
    for place in range(5):
        edited = value.clone()
        edited[:, :, num_keys - 5 + place] += 1
        change = (scaled_dot_product_attention(query, key, edited, causal=True, fused=fused) - before).abs().amax((0, 1, 3))
        assert (change[:place] == 0).all() and (change[place:] > 1e-3).all()


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


def test_masked_softmax_over_a_row_with_nothing_allowed():
    scores = torch.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    weights = masked_softmax(scores, torch.tensor([[False, False], [True, False]]))
    assert weights.tolist() == [[0.0, 0.0], [1.0, 0.0]]
    weights.square().sum().backward()
    assert (scores.grad == 0).all()


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


def test_padding_joins_every_kind_of_mask():
    layer, states = MultiHeadAttention(8, 2), draw(2, 4, 8)
    real = torch.tensor([[True, True, True, False], [True, True, False, False]])
    pairs = torch.ones(4, 4, dtype=torch.bool).tril()
    expected = layer(states, mask=pairs & real[:, None, :])
    added = torch.zeros(4, 4).masked_fill(~pairs, -torch.inf)
    for mask in (pairs, pairs.expand(2, 4, 4), pairs.expand(2, 2, 4, 4), added, added.expand(2, 4, 4)):
        assert_same(layer(states, mask=mask, padding_mask=real), expected)
    assert_same(layer(states, padding_mask=real, causal=True), expected)


def test_a_float_mask_is_added_to_the_scores():
    layer, states, bias = MultiHeadAttention(8, 2), draw(2, 4, 8), draw(2, 2, 4, 4, seed=5)
    _, plain = layer(states, return_weights=True)
    _, biased = layer(states, mask=bias, return_weights=True)
    expected = plain * bias.exp()
    assert_same(biased, expected / expected.sum(-1, keepdim=True))


def test_key_and_value_may_differ():
    layer, query, key, value = MultiHeadAttention(8, 2), draw(2, 3, 8), draw(2, 5, 8, seed=1), draw(2, 5, 8, seed=2)
    assert_same(layer(query, key), layer(query, key, key))
    assert_same(layer(query), layer(query, query, query))
    assert (layer(query, key, value) - layer(query, key)).abs().max() > 0.01


@pytest.mark.parametrize("rotary", [False, True])
@pytest.mark.parametrize("pieces", [[1] * 7, [4, 1, 2], [7], [3, 4]])
def test_cache_is_no_cache(rotary, pieces, device):
    layer = MultiHeadAttention(16, 4, num_key_value_heads=2, rotary=RotaryPosition(4) if rotary else None).to(device)
    states = draw(2, 7, 16, device=device)
    cache = KeyValueCache(capacity=9)
    with torch.inference_mode():
        parts = [layer(piece, causal=True, cache=cache) for piece in states.split(pieces, dim=1)]
        assert_same(torch.cat(parts, dim=1), layer(states, causal=True))
    assert cache.length == 7 and cache.keys.shape == (2, 2, 9, 4)


def test_a_reordered_cache_continues_from_the_chosen_rows():
    layer, states, new = MultiHeadAttention(8, 2), draw(3, 4, 8), draw(3, 1, 8, seed=1)
    rows = torch.tensor([2, 2, 0])
    cache = KeyValueCache(5)
    with torch.inference_mode():
        layer(states, causal=True, cache=cache)
        cache.reorder(rows)
        assert_same(layer(new, causal=True, cache=cache), layer(torch.cat([states[rows], new], 1), causal=True)[:, -1:])


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


def test_values_may_be_wider_than_keys_in_a_cache():
    cache, key, value = KeyValueCache(4), draw(1, 2, 3, 2), draw(1, 2, 3, 5)
    keys, values = cache.append(key, value)
    assert torch.equal(keys, key) and torch.equal(values, value)


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


@pytest.mark.parametrize("shape", [(2, 5), (5,), (2, 4, 6), (3, 4, 5), (2, 2, 4, 5), (1, 2, 3, 4, 5)])
def test_a_mask_of_the_wrong_shape(shape):
    with pytest.raises(ValueError, match=r"mask must have the shape \(T, S\), \(B, T, S\) or \(B, H, T, S\) of the scores "
                                         r"\(2, 3, 4, 5\), got .*a padding mask \(B, S\) is passed as padding_mask="):
        scaled_dot_product_attention(torch.zeros(2, 3, 4, 1), *torch.zeros(2, 2, 3, 5, 1), torch.ones(shape, dtype=torch.bool))


def test_an_integer_mask():
    with pytest.raises(ValueError, match=r"mask must be boolean .* or floating point .*, got torch.int64"):
        scaled_dot_product_attention(*torch.zeros(3, 2, 4, 4), torch.ones(4, 4, dtype=torch.int64))


@pytest.mark.parametrize("padding", [torch.ones(2, 4), torch.ones(2, 4, dtype=torch.int64), torch.ones(4, 2, dtype=torch.bool),
                                     torch.ones(2, 1, 4, dtype=torch.bool)])
def test_a_padding_mask_of_the_wrong_kind(padding):
    with pytest.raises(ValueError, match=r"padding_mask must be boolean of shape \(B, S\) = \(2, 4\), True = a real token"):
        MultiHeadAttention(8, 2)(torch.zeros(2, 4, 8), padding_mask=padding)


def test_causal_with_more_queries_than_keys():
    query, key = torch.zeros(1, 4, 2), torch.zeros(1, 3, 2)
    for attention in (scaled_dot_product_attention, blockwise_attention):
        with pytest.raises(ValueError, match="causal attention needs at least as many keys as queries, got T=4, S=3"):
            attention(query, key, key, causal=True)


@pytest.mark.parametrize("arguments, message", [
    (dict(width=10, num_heads=4), "width must be a positive multiple of num_heads, got width=10, num_heads=4"),
    (dict(width=8, num_heads=0), "width must be a positive multiple of num_heads, got width=8, num_heads=0"),
    (dict(width=8, num_heads=4, num_key_value_heads=3), "num_heads must be a multiple of num_key_value_heads"),
    (dict(width=8, num_heads=4, num_key_value_heads=0), "num_heads must be a multiple of num_key_value_heads"),
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


def test_a_full_cache():
    cache = KeyValueCache(4)
    cache.append(*torch.zeros(2, 1, 1, 3, 2))
    with pytest.raises(ValueError, match="the cache holds 4 positions, got 5"):
        cache.append(*torch.zeros(2, 1, 1, 2, 2))


def test_a_block_of_nothing():
    with pytest.raises(ValueError, match="block must be at least 1, got 0"):
        blockwise_attention(*torch.zeros(3, 1, 2, 2), block=0)
