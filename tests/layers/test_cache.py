"""Caches: what a new token costs must change nothing but the cost, and nothing may be broadcast into what is kept."""

import pytest
import torch

from tests.closeness import assert_same, draw
from tutorlib.layers import DecoderCache, KeyValueCache, MultiHeadAttention, RotaryPosition, decoder_layer


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


def test_values_may_be_wider_than_keys_in_a_cache():
    cache, key, value = KeyValueCache(4), draw(1, 2, 3, 2), draw(1, 2, 3, 5)
    keys, values = cache.append(key, value)
    assert torch.equal(keys, key) and torch.equal(values, value)


def test_a_full_cache():
    cache = KeyValueCache(4)
    cache.append(*torch.zeros(2, 1, 1, 3, 2))
    with pytest.raises(ValueError, match="the cache holds 4 positions, got 5"):
        cache.append(*torch.zeros(2, 1, 1, 2, 2))


def test_a_reordered_decoder_cache_takes_the_memory_along():
    layer, memory, states, new = decoder_layer(8, 2, 12), draw(3, 5, 8), draw(3, 4, 8, seed=1), draw(3, 1, 8, seed=2)
    rows = torch.tensor([2, 2, 0])
    cache = DecoderCache(5)
    with torch.inference_mode():
        layer(states, memory, cache=cache)
        cache.reorder(rows)
        expected = layer(torch.cat([states[rows], new], dim=1), memory[rows])[:, -1:]
        assert_same(layer(new, memory, cache=cache), expected)  # the memory is the cached one: what is given is not read


@pytest.mark.parametrize("key, value, message", [
    ((1, 2, 1, 4), (1, 2, 1, 4), r"key must be torch.float32 of the shape \(3, 2, 1, 4\), as what the cache holds"),
    ((3, 1, 1, 4), (3, 1, 1, 4), "key must be"),
    ((3, 2, 1, 1), (3, 2, 1, 4), "key must be"),
    ((3, 2, 1, 4), (3, 2, 1, 1), r"value must be torch.float32 of the shape \(3, 2, 1, 4\)"),
    ((3, 2, 2, 4), (3, 2, 1, 4), "key and value must have the shape .*, both of the same batch, heads and length")])
def test_nothing_is_broadcast_into_a_cache(key, value, message):
    cache = KeyValueCache(6)
    cache.append(draw(3, 2, 2, 4), draw(3, 2, 2, 4))
    with pytest.raises(ValueError, match=message):
        cache.append(torch.zeros(key), torch.zeros(value))
    assert cache.length == 2


def test_nothing_is_cast_into_a_cache():
    cache = KeyValueCache(6)
    cache.append(draw(1, 1, 1, 2), draw(1, 1, 1, 2))
    for dtype in (torch.int64, torch.float64, torch.bfloat16):
        with pytest.raises(ValueError, match=f"key must be torch.float32 of the shape .*, got {dtype}"):
            cache.append(torch.ones(1, 1, 1, 2, dtype=dtype), draw(1, 1, 1, 2))


@pytest.mark.parametrize("capacity", [0, -1, "3", 2.0, True])
def test_a_capacity_that_is_no_size(capacity):
    with pytest.raises(ValueError, match=f"capacity must be (a whole number|at least 1), got {capacity!r}"):
        KeyValueCache(capacity)


@pytest.mark.parametrize("key, value", [((2, 2, 1, 4), (1, 2, 1, 4)), ((2, 2, 1, 4), (2, 1, 1, 4)), ((2, 1, 4), (2, 1, 4))])
def test_the_first_keys_and_values_fit_together(key, value):
    with pytest.raises(ValueError, match=r"key and value must have the shape \(B, H_kv, T, K\), both of the same batch"):
        KeyValueCache(3).append(torch.zeros(key), torch.zeros(value))


def test_a_shortened_cache_goes_on_as_if_the_rest_had_not_been():
    layer, states, guess, new = MultiHeadAttention(8, 2), draw(1, 3, 8), draw(1, 4, 8, seed=1), draw(1, 2, 8, seed=2)
    cache = KeyValueCache(9)
    with torch.inference_mode():
        for part in (states, guess):
            layer(part, causal=True, cache=cache)
        cache.shorten(4)  # one of the guess is kept
        expected = layer(torch.cat([states, guess[:, :1], new], 1), causal=True)[:, -2:]
        assert_same(layer(new, causal=True, cache=cache), expected)
    for length in (-1, 7):
        with pytest.raises(ValueError, match=f"length must lie in 0 to 6, what the cache holds, got {length}"):
            cache.shorten(length)


def test_aligned_caches_end_in_one_column_with_zeros_in_front():
    first, second = KeyValueCache(5), KeyValueCache(5)
    first.append(*torch.arange(1.0, 7).view(3, 1, 2, 1).expand(2, 3, 1, 2, 1))  # rows 1 2, 3 4, 5 6
    second.append(*torch.full((2, 1, 1, 3, 1), 9.0))
    first.align(torch.tensor([2, 0]), 3, second)
    assert first.length == 3 and first.keys[:, 0, :3, 0].tolist() == [[0, 5, 6], [0, 1, 2], [9, 9, 9]]
    first.align(torch.tensor([1]), 2)
    assert first.length == 2 and first.values[:, 0, :2, 0].tolist() == [[1, 2]] and first.keys.shape == (1, 1, 5, 1)
    empty = KeyValueCache(5)
    empty.align(torch.zeros(0, dtype=torch.long), 3, second)
    assert empty.length == 3 and torch.equal(empty.keys[:, :, :3], second.keys[:, :, :3])
    for length, least in ((6, 0), (2, 3)):
        with pytest.raises(ValueError, match=f"length must lie in {least} to the capacity 5, got {length}"):
            first.align(torch.tensor([0]), length, second if least else None)
