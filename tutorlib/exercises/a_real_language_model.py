"""Exercises of the chapter on a real language model."""
import struct

import numpy as np
import torch

from tutorlib.exercises.sheet import ExerciseSheet, Wrong

check = ExerciseSheet()


# 1: parameters

def count(vocabulary, width, layers, heads, kv_heads, hidden, tied):
    attention = 2 * width * width + 2 * width * kv_heads * (width // heads)
    layer = attention + 3 * width * hidden + 2 * width  # three matrices, two norms
    return (1 if tied else 2) * vocabulary * width + layers * layer + width


def count_unshared(vocabulary, width, layers, heads, kv_heads, hidden, tied):
    return count(vocabulary, width, layers, heads, heads, hidden, tied)


def count_always_tied(vocabulary, width, layers, heads, kv_heads, hidden, tied):
    return count(vocabulary, width, layers, heads, kv_heads, hidden, True)


def count_never_tied(vocabulary, width, layers, heads, kv_heads, hidden, tied):
    return count(vocabulary, width, layers, heads, kv_heads, hidden, False)


def count_two_matrices(vocabulary, width, layers, heads, kv_heads, hidden, tied):
    return count(vocabulary, width, layers, heads, kv_heads, hidden, tied) - layers * width * hidden


def count_without_norms(vocabulary, width, layers, heads, kv_heads, hidden, tied):
    return count(vocabulary, width, layers, heads, kv_heads, hidden, tied) - layers * 2 * width - width


def count_without_last_norm(vocabulary, width, layers, heads, kv_heads, hidden, tied):
    return count(vocabulary, width, layers, heads, kv_heads, hidden, tied) - width


def count_one_norm_a_layer(vocabulary, width, layers, heads, kv_heads, hidden, tied):
    return count(vocabulary, width, layers, heads, kv_heads, hidden, tied) - layers * width


def count_all_narrow(vocabulary, width, layers, heads, kv_heads, hidden, tied):
    narrow = width * kv_heads * (width // heads)
    return count(vocabulary, width, layers, heads, kv_heads, hidden, tied) + layers * (narrow - width * width)


def count_one_narrow(vocabulary, width, layers, heads, kv_heads, hidden, tied):
    return count(vocabulary, width, layers, heads, kv_heads, hidden, tied) - layers * width * kv_heads * (width // heads)


@check.exercise(1, "Count a larger model", reference=count, mistakes=[
    (count_unshared, "Keys and values have only kv_heads heads, so their projections are narrower."),
    (count_always_tied, "An output matrix that is not tied is a second matrix of vocabulary times width."),
    (count_never_tied, "A tied output matrix is the embedding: count it once."),
    (count_two_matrices, "A gated feed-forward network has three matrices."),
    (count_without_norms, "The norms have weights too: two a layer, and one at the end."),
    (count_without_last_norm, "One more norm stands before the output matrix."),
    (count_one_norm_a_layer, "A layer has two norms: before attention, and before the feed-forward network."),
    (count_all_narrow, "Only keys and values are shared: the queries and the output keep all heads."),
    (count_one_narrow, "Keys and values are two projections."),
])
def check_count(answer):
    return [answer(49152, 576, 30, 9, 3, 1536, True), answer(128256, 4096, 32, 32, 8, 14336, False),
            answer(100, 48, 2, 6, 1, 80, True)]


# 2: a block

def unpack(block):
    scale, minimum = np.frombuffer(block[:4], dtype=np.float16).astype(float)
    low, high = [byte & 15 for byte in block[4:]], [byte >> 4 for byte in block[4:]]
    return [scale * number + minimum for number in low + high]


def unpack_by_turns(block):
    scale, minimum = struct.unpack("<ee", block[:4])
    return [scale * number + minimum for byte in block[4:] for number in (byte & 15, byte >> 4)]


def unpack_high_first(block):
    values = unpack(block)
    return values[16:] + values[:16]


def unpack_swapped(block):
    return unpack(block[2:4] + block[:2] + block[4:])


def unpack_without_minimum(block):
    scale = struct.unpack("<e", block[:2])[0]
    return [scale * number for number in [byte & 15 for byte in block[4:]] + [byte >> 4 for byte in block[4:]]]


def unpack_signed(block):
    scale, minimum = struct.unpack("<ee", block[:4])
    numbers = [byte & 15 for byte in block[4:]] + [byte >> 4 for byte in block[4:]]
    return [scale * (number - 8) + minimum for number in numbers]


@check.exercise(2, "Unpack a block", reference=unpack, mistakes=[
    (unpack_by_turns, "The 16 low halves are the first 16 weights, the 16 high halves the last 16."),
    (unpack_high_first, "The low halves come first."),
    (unpack_swapped, "The scale comes first, then the minimum."),
    (unpack_without_minimum, "A weight is scale times number plus the minimum."),
    (unpack_signed, "The numbers run from 0 to 15; it is the minimum that makes weights negative."),
])
def check_unpack(answer):
    numbers = torch.randint(0, 256, (16,)).tolist()
    weights = torch.as_tensor([float(weight) for weight in answer(struct.pack("<ee", 0.125, -0.75) + bytes(numbers))])
    if weights.numel() != 32:
        raise Wrong(f"A block holds 32 weights, two a byte; you returned {weights.numel()}.")
    return weights


# 3: the way back

def interleave(weight, heads):
    halves = weight.unflatten(0, (heads, 2, -1))  # (H, 2, K/2, D)
    return halves.transpose(1, 2).flatten(0, 2)  # (H K, D)


def interleave_forward(weight, heads):
    return weight.unflatten(0, (heads, -1, 2)).transpose(1, 2).flatten(0, 2)


def interleave_across_heads(weight, heads):
    return interleave(weight, 1)


def interleave_nothing(weight, heads):
    return weight


def interleave_columns(weight, heads):
    return interleave(weight.T, heads).T


@check.exercise(3, "Undo the loader", reference=interleave, mistakes=[
    (interleave_forward, "This is what the loader does: it takes neighbors to halves. You want the way back."),
    (interleave_across_heads, "Each head has halves of its own: cut into heads first."),
    (interleave_nothing, "Nothing has moved: row i and row i + K/2 of a head must become neighbors."),
    (interleave_columns, "The heads lie along the rows; the columns belong to the input."),
])
def check_interleave(answer):
    return answer(torch.arange(24.0 * 24).view(24, 24), 3)


# 4: the limit

WEIGHTS = 8e9 * 4.5 / 8  # bytes
# Bytes, too: tokens, keys and values, layers, heads, their width, bfloat16.
KEPT = 8192 * 2 * 32 * 8 * 128 * 2
TOKENS_PER_SECOND = 50e9 / (WEIGHTS + KEPT)


@check.exercise(4, "The limit of a larger model", reference=TOKENS_PER_SECOND, tolerance=0.02, mistakes=[
    (50e9 / WEIGHTS, "The cache is read too: count its bytes."),
    (50e9 / (8e9 * 4.5), "4.5 bits are not 4.5 bytes."),
    (50e9 / (8e9 * 4.5 + KEPT), "4.5 bits are not 4.5 bytes."),
    (50e9 / (WEIGHTS + KEPT / 2), "The cache holds keys and values, and two bytes for each number."),
    (50e9 / (WEIGHTS + 2 * KEPT), "A number in bfloat16 takes two bytes."),
    (50e9 / (8e9 * 2 + KEPT), "The weights take 4.5 bits each, not two bytes."),
    ((WEIGHTS + KEPT) / 50e9, "That is the seconds for a token; the question is how many tokens in a second."),
])
def check_limit(answer):
    return float(answer)


# 5: a step a row

def round_rows(x):
    step = x.abs().amax(dim=-1, keepdim=True) / 127  # (T, 1): a step for each token
    return (x / step).round() * step


def round_all(x):
    step = x.abs().max() / 127
    return (x / step).round() * step


def round_columns(x):
    step = x.abs().amax(dim=0, keepdim=True) / 127
    return (x / step).round() * step


def round_to_integers(x):
    return (x / (x.abs().amax(dim=-1, keepdim=True) / 127)).round()


def round_down(x):
    step = x.abs().amax(dim=-1, keepdim=True) / 127
    return (x / step).floor() * step


def round_signed(x):
    step = x.amax(dim=-1, keepdim=True) / 127
    return (x / step).round() * step


@check.exercise(5, "Round each token by itself", reference=round_rows, mistakes=[
    (round_all, "One step for all rows: the largest entry of one token coarsens all the others."),
    (round_columns, "A row is a token: take the largest entry over the last dimension."),
    (round_to_integers, "Multiply by the step again: return floats near x."),
    (round_down, "Round to the nearest integer, not down."),
    (round_signed, "The largest magnitude sets the step, and it may be that of a negative entry."),
])
def check_rounding(answer):
    x = torch.randn(4, 6) * torch.tensor([[0.1], [1.0], [10.0], [100.0]])
    x[:, 2] = -3 * x.abs().amax(dim=-1)
    return list(answer(x))
