"""Masks: who may look at whom, in every form a mask may take, and what is refused."""

import pytest
import torch

from tests.closeness import assert_same, draw
from tutorlib.layers import (
    MultiHeadAttention,
    blockwise_attention,
    causal_mask,
    masked_softmax,
    prefix_causal_mask,
    scaled_dot_product_attention,
)
from tutorlib.layers.masks import row_places

HALF = [torch.float16, torch.bfloat16]


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


def test_masked_softmax_over_a_row_with_nothing_allowed():
    scores = torch.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    weights = masked_softmax(scores, torch.tensor([[False, False], [True, False]]))
    assert weights.tolist() == [[0.0, 0.0], [1.0, 0.0]]
    weights.square().sum().backward()
    assert (scores.grad == 0).all()


def test_padding_joins_every_kind_of_mask():
    layer, states = MultiHeadAttention(8, 2), draw(2, 4, 8)
    real = torch.tensor([[True, True, True, False], [True, True, False, False]])
    pairs = torch.ones(4, 4, dtype=torch.bool).tril()
    expected = layer(states, mask=pairs & real[:, None, :])
    added = torch.zeros(4, 4).masked_fill(~pairs, -torch.inf)
    for mask in (pairs, pairs.expand(2, 4, 4), pairs.expand(2, 2, 4, 4), added, added.expand(2, 4, 4)):
        assert_same(layer(states, mask=mask, padding_mask=real), expected)
    assert_same(layer(states, padding_mask=real, causal=True), expected)


@pytest.mark.parametrize("floating", [False, True])
def test_a_mask_of_each_row_joins_the_padding_of_that_row(floating):
    """With as many rows as heads, a mask (B, T, S) taken for one of heads would fit, too."""
    layer, states = MultiHeadAttention(8, 2), draw(2, 4, 8)
    real = torch.tensor([[True, True, True, False], [True, True, False, False]])
    mask = torch.stack([causal_mask(4, 4), torch.eye(4, dtype=torch.bool) | causal_mask(4, 4).flip(0)])  # (B, T, S)
    mask = torch.zeros(2, 4, 4).masked_fill(~mask, -torch.inf) if floating else mask
    together = layer(states, mask=mask, padding_mask=real)
    for row in (slice(0, 1), slice(1, 2)):
        assert_same(together[row], layer(states[row], mask=mask[row], padding_mask=real[row]))


def test_padding_beside_a_float_mask_is_forbidden_and_not_merely_improbable():
    """The smallest number would be shared with it where the real tokens are given that, too, or where there are none."""
    layer, states, keys = MultiHeadAttention(8, 2), draw(2, 4, 8), draw(2, 4, 8, seed=1)
    real = torch.tensor([[True, True, False, False], [False] * 4])
    mask = torch.full((4, 4), torch.finfo(torch.float32).min)
    output = layer(states, keys, mask=mask, padding_mask=real)
    assert_same(output[:1], layer(states[:1], keys[:1, :2], mask=mask[:, :2]))
    assert_same(output[1], layer.output.bias.expand(4, 8))
    _, weights = layer(states, keys, mask=torch.zeros(4, 4), padding_mask=real, return_weights=True)
    assert (weights[1] == 0).all()


def test_a_float_mask_is_added_to_the_scores():
    layer, states, bias = MultiHeadAttention(8, 2), draw(2, 4, 8), draw(2, 2, 4, 4, seed=5)
    _, plain = layer(states, return_weights=True)
    _, biased = layer(states, mask=bias, return_weights=True)
    expected = plain * bias.exp()
    assert_same(biased, expected / expected.sum(-1, keepdim=True))


@pytest.mark.parametrize("shape", [(2, 5), (5,), (2, 4, 6), (3, 4, 5), (2, 2, 4, 5), (1, 2, 3, 4, 5)])
def test_a_mask_of_the_wrong_shape(shape):
    with pytest.raises(ValueError, match=r"mask must have the shape \(T, S\), \(B, T, S\) or \(B, H, T, S\) of the scores "
                                         r"\(2, 3, 4, 5\), got .*a padding mask \(B, S\) is passed as padding_mask="):
        scaled_dot_product_attention(torch.zeros(2, 3, 4, 1), *torch.zeros(2, 2, 3, 5, 1), torch.ones(shape, dtype=torch.bool))


def test_an_integer_mask():
    with pytest.raises(ValueError, match=r"mask must be boolean .* or floating point .*, got torch.int64"):
        scaled_dot_product_attention(*torch.zeros(3, 2, 4, 4), torch.ones(4, 4, dtype=torch.int64))


@pytest.mark.parametrize("padding", [torch.ones(2, 4), torch.ones(2, 4, dtype=torch.int64), torch.ones(4, 2, dtype=torch.bool),
                                     torch.ones(1, 4, dtype=torch.bool), torch.ones(2, 1, 4, dtype=torch.bool)])
def test_a_padding_mask_of_the_wrong_kind(padding):
    with pytest.raises(ValueError, match=r"padding_mask must be boolean of shape \(B, S\) = \(2, 4\), True = a real token"):
        MultiHeadAttention(8, 2)(torch.zeros(2, 4, 8), padding_mask=padding)


def test_causal_with_more_queries_than_keys():
    query, key = torch.zeros(1, 4, 2), torch.zeros(1, 3, 2)
    for attention in (scaled_dot_product_attention, blockwise_attention):
        with pytest.raises(ValueError, match="causal attention needs at least as many keys as queries, got T=4, S=3"):
            attention(query, key, key, causal=True)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, *HALF])
def test_a_row_of_the_smallest_numbers_leaves_both_faces_the_same(dtype, device):
    """In half precision the scores would be rounded away beside it, and the explicit face be uniform."""
    query, key, value = (4 * draw(1, 2, 4, 8, dtype=dtype, device=device, seed=i) for i in range(3))
    mask = torch.full((4, 4), torch.finfo(dtype).min, dtype=dtype, device=device)
    explicit = scaled_dot_product_attention(query, key, value, mask, fused=False)
    fused = scaled_dot_product_attention(query, key, value, mask)
    torch.testing.assert_close(explicit, fused, atol=0.05 if dtype in HALF else 1e-5, rtol=0.02)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, *HALF])
@pytest.mark.parametrize("mask_dtype", [torch.float64, torch.float32, *HALF])
def test_a_float_mask_may_have_another_dtype(fused, dtype, mask_dtype, device):
    query, key, value = (draw(2, 3, 4, 8, dtype=dtype, device=device, seed=i) for i in range(3))
    mask = draw(4, 4, dtype=mask_dtype, device=device, seed=3)
    mask[0, 1], mask[1, 2], mask[2, 0] = -torch.inf, torch.finfo(mask_dtype).min, torch.finfo(mask_dtype).min
    output = scaled_dot_product_attention(query, key, value, mask, fused=fused)
    exact = scaled_dot_product_attention(query.double(), key.double(), value.double(), mask.double(), fused=False)
    assert output.dtype == dtype
    torch.testing.assert_close(output.double(), exact, atol=0.05 if HALF.count(dtype) else 1e-5, rtol=0.02)


def test_an_overflow_of_scores_and_mask_is_no_nan():
    """In float32 a score of -1e38 beside the smallest number goes beyond it."""
    query, key = torch.tensor([[1.0]]), torch.tensor([[-1e38], [-1e38]])
    mask = torch.full((1, 2), torch.finfo(torch.float32).min)
    _, weights = scaled_dot_product_attention(query, key, key, mask, scale=1.0, return_weights=True)
    assert weights.tolist() == [[0.5, 0.5]]


def test_a_mask_of_ones_and_zeros_in_floats_forbids_nothing():
    layer, states = MultiHeadAttention(8, 2), draw(2, 4, 8)
    ones_and_zeros = torch.ones(4, 4).tril()
    _, weights = layer(states, mask=ones_and_zeros, return_weights=True)
    assert (weights > 0).all()
    _, weights = layer(states, mask=ones_and_zeros.bool(), return_weights=True)
    assert (weights.triu(1) == 0).all()


@pytest.mark.parametrize("fused", [True, False])
def test_forbidden_keys_have_no_share_beside_the_smallest_numbers(fused):
    """Filled with the smallest number instead of -inf they would count as much as the allowed ones."""
    query, key, value = (draw(1, 1, 1, 4), draw(1, 1, 3, 4, seed=1), torch.tensor([1.0, 2.0, 100.0]).view(1, 1, 3, 1))
    smallest = torch.finfo(torch.float32).min
    output = scaled_dot_product_attention(query, key, value, torch.tensor([[smallest, smallest, -torch.inf]]), fused=fused)
    assert output.item() == 1.5


def test_masks_beside_padding_are_checked():
    layer, states, real = MultiHeadAttention(8, 2), draw(2, 4, 8), torch.ones(2, 4, dtype=torch.bool)
    with pytest.raises(ValueError, match="mask must be boolean .* or floating point .*, got torch.int64"):
        layer(states, mask=torch.ones(4, 4, dtype=torch.int64), padding_mask=real)
    for shape in ((4,), (4, 5), (1, 1, 1, 4, 4)):
        with pytest.raises(ValueError, match=r"mask must have the shape \(T, S\), \(B, T, S\) or \(B, H, T, S\) with S = 4"):
            layer(states, mask=torch.ones(shape, dtype=torch.bool), padding_mask=real)


def test_integers_are_no_states():
    numbers = torch.ones(1, 2, 4, dtype=torch.int64)
    with pytest.raises(ValueError, match="query, key and value must be floating point, got torch.int64"):
        scaled_dot_product_attention(numbers, numbers, numbers)


@pytest.mark.parametrize("shapes", [
    [(2, 3), (1, 2, 3), (1, 2, 3)], [(1, 2, 3), (1, 2, 3), (2, 3)], [(3,)] * 3, [(1, 1, 1, 2, 3)] * 3])
def test_states_of_other_dimensions_are_refused(shapes):
    with pytest.raises(ValueError, match=r"must all be \(B, H, T, K\), \(B, T, K\) or \(T, K\), got query"):
        scaled_dot_product_attention(*(torch.ones(shape) for shape in shapes))


def test_a_prefix_sees_itself_and_the_rest_is_causal(device):
    expected = torch.tensor([[1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]], dtype=torch.bool, device=device)
    assert torch.equal(prefix_causal_mask(2, 4, device), expected)
    assert torch.equal(prefix_causal_mask(0, 3), causal_mask(3, 3)) and prefix_causal_mask(3, 3).all()
    for prefix in (-1, 4):
        with pytest.raises(ValueError, match=f"prefix must lie in 0 to length=3, got {prefix}"):
            prefix_causal_mask(prefix, 3)


def test_positions_are_counted_from_a_rows_first_token():
    mask = torch.tensor([[False, False, True, True], [True, True, True, True]])
    assert row_places(mask, 2, 4, 4).tolist() == [[0, 0, 0, 1], [0, 1, 2, 3]]
    assert row_places(mask, 2, 1, 4).tolist() == [[1], [3]]  # the last column only, behind a cache
    assert row_places(None, 2, 4, 4) is None
    for wrong in (mask.long(), mask[:, :3], mask[:1]):
        with pytest.raises(ValueError, match=r"padding_mask must be boolean of shape \(B, S\) = \(2, 4\)"):
            row_places(wrong, 2, 4, 4)
