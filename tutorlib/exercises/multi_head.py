"""Exercises of the chapter on multi-head attention."""
import math

import torch
from torch import nn

from tutorlib.exercises.sheet import ExerciseSheet, Wrong

check = ExerciseSheet()


# 1: parameters

def count_parameters(width, num_heads, num_key_value_heads):
    shared = num_key_value_heads * (width // num_heads)  # features of the keys
    return 2 * (width * width + width) + 2 * (width * shared + shared)


def count_without_biases(width, num_heads, num_key_value_heads):
    return 2 * width * width + 2 * width * num_key_value_heads * (width // num_heads)


def count_without_output(width, num_heads, num_key_value_heads):
    shared = num_key_value_heads * (width // num_heads)
    return (width * width + width) + 2 * (width * shared + shared)


def count_without_shared_biases(width, num_heads, num_key_value_heads):
    return 2 * (width * width + width) + 2 * width * num_key_value_heads * (width // num_heads)


def count_times_heads(width, num_heads, num_key_value_heads):
    return num_heads * 3 * (width * width + width) + width * width + width


def count_unshared(width, num_heads, num_key_value_heads):
    return 4 * (width * width + width)


def count_all_shared(width, num_heads, num_key_value_heads):
    shared = num_key_value_heads * (width // num_heads)
    return 3 * (width * shared + shared) + width * width + width


@check.exercise(1, "Count the parameters", reference=count_parameters, mistakes=[
    (count_without_biases, "Each of the four projections has a bias as long as its output."),
    (count_without_shared_biases, "Keys and values have biases too, as long as their projections are wide."),
    (count_without_output, "The joined heads pass one more projection, W_O."),
    (count_times_heads, "The heads share the features of one projection: each is D / H wide, not D."),
    (count_unshared, "Keys and values have only num_key_value_heads heads, so their projections are narrower."),
    (count_all_shared, "Only keys and values are shared. Every query head keeps a projection of its own."),
])
def check_count(answer):
    return [answer(512, 8, 8), answer(768, 12, 4), answer(48, 6, 1)]


# 2: cutting and joining

def split(x, num_heads):
    return x.unflatten(-1, (num_heads, -1)).transpose(1, 2)  # (B, H, T, K)


def join(heads):
    return heads.transpose(1, 2).flatten(2)  # (B, T, D)


def split_by_view(x, num_heads):
    return x.reshape(x.size(0), num_heads, x.size(1), -1)


def split_as_document(x, num_heads):
    return x.reshape(x.size(0), num_heads, -1).transpose(1, 2)


def split_without_transpose(x, num_heads):
    return x.unflatten(-1, (num_heads, -1))


def split_interleaved(x, num_heads):
    return x.unflatten(-1, (-1, num_heads)).permute(0, 3, 1, 2)


def join_by_view(heads):
    return heads.reshape(heads.size(0), heads.size(2), -1)


def join_interleaved(heads):
    return heads.permute(0, 2, 3, 1).flatten(2)


@check.exercise(2, "Cut and join", reference=(split, join), mistakes=[
    ((split_by_view, join), "The shape is right, but view alone cuts the sequence: cut the features, then transpose."),
    ((split_by_view, join_by_view),
     "The shape is right, but view alone cuts the sequence: cut the features, then transpose."),
    ((split_as_document, join), "There is no dimension of T tokens left: name it in the view."),
    ((split_without_transpose, join), "Bring the heads in front of the tokens: (B, H, T, K)."),
    ((split_interleaved, join_interleaved),
     "Head 0 owns the first K features, side by side, not every H-th feature."),
    ((split, join_by_view), "Undo the two moves in reverse order: first transpose, then flatten."),
    ((split, join_interleaved), "Within a token the features of head 0 come first, then those of head 1."),
])
def check_cutting(answer):
    if not isinstance(answer, (tuple, list)) or len(answer) != 2:
        raise Wrong("Pass a pair of functions, (cut_heads, join_heads).")
    cut, glue = answer
    entries = torch.arange(2.0 * 5 * 12).reshape(2, 5, 12)  # (B, T, D)
    heads = cut(entries.clone(), 3)  # (B, H, T, K)
    return heads, glue(split(entries, 3))


# 3: the whole layer

def attention_layer(x, w_query, w_key, w_value, w_output, num_heads):
    queries, keys = split(x @ w_query, num_heads), split(x @ w_key, num_heads)
    values = split(x @ w_value, num_heads)  # (B, H, T, K)
    scores = queries @ keys.mT / math.sqrt(queries.size(-1))  # (B, H, T, T)
    return join(scores.softmax(dim=-1) @ values) @ w_output  # (B, T, D)


def faulty_layer(x, w_query, w_key, w_value, w_output, num_heads, *, cut=split, dim=-1, scale=None, project=True):
    queries, keys, values = (cut(x @ w, num_heads) for w in (w_query, w_key, w_value))  # (B, H, T, K)
    scores = queries @ keys.mT / (scale or math.sqrt(queries.size(-1)))  # (B, H, T, T)
    joined = join(scores.softmax(dim=dim) @ values)  # (B, T, D)
    return joined @ w_output if project else joined


def scaled_by_width(x, *weights_and_heads):
    return faulty_layer(x, *weights_and_heads, scale=math.sqrt(x.size(-1)))


def not_scaled(*arguments):
    return faulty_layer(*arguments, scale=1.0)


def softmax_over_heads(*arguments):
    return faulty_layer(*arguments, dim=1)


def softmax_over_queries(*arguments):
    return faulty_layer(*arguments, dim=-2)


def not_projected(*arguments):
    return faulty_layer(*arguments, project=False)


def cut_by_view(x, w_query, w_key, w_value, w_output, num_heads):
    queries, keys, values = (split_by_view(x @ w, num_heads) for w in (w_query, w_key, w_value))
    weights = (queries @ keys.mT / math.sqrt(queries.size(-1))).softmax(dim=-1)
    return join_by_view(weights @ values) @ w_output


def cut_by_view_joined_well(*arguments):
    return faulty_layer(*arguments, cut=split_by_view)


def one_wide_head(x, w_query, w_key, w_value, w_output, num_heads):
    return attention_layer(x, w_query, w_key, w_value, w_output, 1)


def transposed_weights(x, w_query, w_key, w_value, w_output, num_heads):
    return attention_layer(x, w_query.T, w_key.T, w_value.T, w_output.T, num_heads)


@check.exercise(3, "Multi-head attention from plain matrices", reference=attention_layer, mistakes=[
    (scaled_by_width, "Scale by the root of what the scores sum over: the head width K, not D."),
    (not_scaled, "The scores are not scaled."),
    (softmax_over_heads, "The softmax runs over the heads. Each query's weights over the keys must sum to one."),
    (softmax_over_queries, "The softmax runs over the queries. Each query's weights over the keys must sum to one."),
    (not_projected, "The joined heads are not projected with w_output."),
    (cut_by_view, "The heads mix tokens: view alone cuts the sequence. Use the two functions of exercise 2."),
    (cut_by_view_joined_well, "The heads mix tokens: view alone cuts the sequence. Use the two functions of exercise 2."),
    (one_wide_head, "This is a single head of width D: num_heads has no effect."),
    (transposed_weights, "The matrices multiply from the right, x @ w; only nn.Linear stores them transposed."),
])
def check_layer(answer):
    x = torch.randn(2, 5, 12)
    weights = [torch.randn(12, 12) / 2 for _ in range(4)]
    return answer(x, *weights, 3)


# 4: what a broken layer can learn

BLOCK = 12 // 2  # tokens that see each other
INSIDE = 1 - 4 / BLOCK  # share of positions whose target is in their block
PREDICTED_ACCURACY = INSIDE + (1 - INSIDE) / 8


@check.exercise(4, "Predict a broken layer", reference=PREDICTED_ACCURACY, tolerance=0.02, mistakes=[
    (1 / 3, "Where the target is out of sight the layer still guesses, and is right once in 8."),
    (2 / 3 + 1 / 3 / 8, "4 places back is in the same block of 6 for positions 4 and 5 of the block only."),
    (1 / 8, "Two heads make blocks of 12 / 2 = 6 tokens: some targets 4 places back are inside."),
    (1.0, "A token sees only the tokens of its own block. How many tokens are in a block?"),
    (0.5 + 0.5 / 8, "Count the positions in a block of 6 whose target, 4 places back, is in the same block."),
])
def check_prediction(answer):
    return answer


# 5: grouped queries

def share_keys(keys, num_heads):
    return keys.repeat_interleave(num_heads // keys.size(1), dim=1)  # (B, H, S, K)


def share_by_tiling(keys, num_heads):
    return keys.repeat(1, num_heads // keys.size(1), 1, 1)


def share_along_keys(keys, num_heads):
    return keys.repeat_interleave(num_heads // keys.size(1), dim=2)


def share_the_first(keys, num_heads):
    return keys[:, :1].expand(-1, num_heads, -1, -1)


def share_too_often(keys, num_heads):
    return keys.repeat_interleave(num_heads, dim=1)


@check.exercise(5, "Share keys among queries", reference=share_keys, mistakes=[
    (share_by_tiling, "repeat deals the key heads out in turn, 0 1 0 1; a group is 0 0 1 1."),
    (share_along_keys, "You repeated positions. Repeat along the dimension of the heads, 1."),
    (share_the_first, "All query heads got the first key head: that is multi-query attention."),
    (share_too_often, "Each key head serves H / H_kv query heads, not H."),
])
def check_sharing(answer):
    return answer(torch.randn(2, 2, 5, 3), 6)


# 6: silent heads

def output_of_kept(heads, output, keep):
    kept = heads * keep[:, None, None]  # (B, H, T, K)
    return output(kept.transpose(1, 2).flatten(2))  # (B, T, D)


def keep_unused(heads, output, keep):
    return output(join(heads))


def keep_on_output(heads, output, keep):
    return output(join(heads)) * keep.repeat_interleave(heads.size(-1))


def keep_inverted(heads, output, keep):
    return output(join(heads * ~keep[:, None, None]))


def keep_without_bias(heads, output, keep):
    return join(heads * keep[:, None, None]) @ output.weight.T


def keep_rescaled(heads, output, keep):
    return output(join(heads * keep[:, None, None]) * keep.numel() / keep.sum())


def keep_cut_out(heads, output, keep):
    return output(join(heads[:, keep]))


def keep_on_features(heads, output, keep):
    return output(join(heads) * keep.repeat(heads.size(-1)))


@check.exercise(6, "Silence heads", reference=output_of_kept, mistakes=[
    (keep_unused, "All heads still speak: keep has no effect."),
    (keep_on_output, "After W_O every output feature mixes all heads. Silence a head before W_O."),
    (keep_inverted, "keep is True for the heads that stay."),
    (keep_without_bias, "The bias belongs to no head: it stays."),
    (keep_rescaled, "The other terms of the sum stay as they are: do not rescale them."),
    (keep_cut_out, "W_O expects D features: set the silent heads to zero instead of taking them out."),
    (keep_on_features, "In the joined features head 0 owns the first K, side by side: repeat_interleave, not repeat."),
])
def check_silence(answer):
    heads, output = torch.randn(2, 4, 5, 3), nn.Linear(12, 12)
    nn.init.normal_(output.bias)
    return answer(heads, output, torch.tensor([True, False, True, True]))
