"""Exercises of the chapter on cross-attention and masks."""

import torch
from torch import Tensor, nn

from tutorlib.exercises.sheet import ExerciseSheet, Wrong
from tutorlib.layers import causal_mask, encoder_layer

check = ExerciseSheet()


# -- 1: one row by hand -----------------------------------------------------------------------------------------------

SECOND_OUTPUT = (3 * 8 + 1 * 4) / (3 + 1)  # the third token is in the future


@check.exercise(1, "A masked row by hand", reference=SECOND_OUTPUT, tolerance=0.005, mistakes=[
    (176 / 3, "You let the second token see the third: with a causal mask it sees the first two."),
    (28 / 9, "The weights 3/9 and 1/9 do not sum to one: divide by the sum over the allowed tokens only."),
    (8.0, "A token may attend to itself: the causal mask keeps the diagonal."),
    (6.0, "The first two weights are not equal: their scores are ln 3 and 0."),
])
def check_row(answer):
    return answer


# -- 2: causal and padding --------------------------------------------------------------------------------------------

def real_and_past(lengths, length):
    real = torch.arange(length) < lengths[:, None]  # (B, T)
    return causal_mask(length, length) & real[:, None, :]  # (B, T, T), masking keys


def real_or_past(lengths, length):
    return causal_mask(length, length) | (torch.arange(length) < lengths[:, None])[:, None, :]


def padding_of_queries(lengths, length):
    return causal_mask(length, length) & (torch.arange(length) < lengths[:, None])[:, :, None]


def padding_inverted(lengths, length):
    return causal_mask(length, length) & (torch.arange(length) >= lengths[:, None])[:, None, :]


@check.exercise(2, "Causal and padded", reference=real_and_past, mistakes=[
    (real_or_past, "A pair must be allowed by both masks; `or` lets each of them undo the other."),
    (padding_of_queries, "In your mask the rows of padding queries are empty. Hide padding as a key: mask columns, not rows."),
    (padding_inverted, "Your padding mask is True at the padding; here True means may attend."),
])
def check_real_and_past(answer):
    return answer(torch.tensor([2, 5, 3]), 5)


# -- 3: mask, then softmax --------------------------------------------------------------------------------------------

def mask_then_softmax(scores, allowed):
    lowest = torch.finfo(scores.dtype).min
    return scores.masked_fill(~allowed, lowest).softmax(-1) * allowed  # (..., T, S)


def softmax_then_mask(scores, allowed):
    return scores.softmax(-1) * allowed


def renormalized_afterwards(scores, allowed):
    weights = scores.softmax(-1) * allowed
    return weights / weights.sum(-1, keepdim=True).clamp(min=1e-30)


def minus_infinity(scores, allowed):
    return scores.masked_fill(~allowed, float("-inf")).softmax(-1)


def minus_a_billion(scores, allowed):
    return scores.masked_fill(~allowed, -1e9).softmax(-1)


def masked_where_allowed(scores, allowed):
    return mask_then_softmax(scores, ~allowed)


@check.exercise(3, "Repair a mask that comes too late", reference=mask_then_softmax, mistakes=[
    (softmax_then_mask, "Your rows no longer sum to one: what softmax gave to forbidden keys is lost."),
    (renormalized_afterwards, "Dividing again is not enough: where a forbidden score is far above the others, softmax has "
                              "rounded the allowed weights to zero before you divide. Mask the scores."),
    (minus_infinity, "A row without any allowed key is NaN; it should be all zeros."),
    (minus_a_billion, "A row without any allowed key spreads its weight over the forbidden ones; it should be all zeros."),
    (masked_where_allowed, "You kept the forbidden keys and masked the allowed ones: True means may attend."),
])
def check_mask_then_softmax(answer):
    scores = torch.tensor([[1.0, 2.0, 0.5], [300.0, 1.0, 2.0], [0.0, 1.0, 3.0]])
    allowed = torch.tensor([[True, True, False], [False, True, True], [False, False, False]])
    return answer(scores, allowed)


# -- 4: two conventions -----------------------------------------------------------------------------------------------

def masks_for_torch(attention_mask, length):
    return attention_mask == 0, ~causal_mask(length, length)  # True = must not attend


@check.exercise(4, "From one convention to another", reference=masks_for_torch, mistakes=[
    (lambda mask, T: (mask == 1, ~causal_mask(T, T)),
     "key_padding_mask is True at the keys to ignore: yours ignores the real tokens."),
    (lambda mask, T: (mask == 0, causal_mask(T, T)),
     "attn_mask of nn.MultiheadAttention is True where attention is forbidden: yours forbids the past."),
    (lambda mask, T: (mask == 1, causal_mask(T, T)), "Both masks say the opposite of what this module reads in them."),
])
def check_masks_for_torch(answer):
    attention_mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])  # (B, S)
    layer, states = nn.MultiheadAttention(8, 2, batch_first=True), torch.randn(2, 5, 8)
    key_padding_mask, attn_mask = answer(attention_mask, 5)
    output, _ = layer(states, states, states, key_padding_mask=key_padding_mask, attn_mask=attn_mask)  # (B, T, D)
    return output[attention_mask == 1]


# -- 5: a prefix that is read both ways -------------------------------------------------------------------------------

def prefix_mask(length, prefix):
    in_prefix = torch.arange(length) < prefix  # (T,)
    return causal_mask(length, length) | in_prefix  # (T, T): here `or` is right


@check.exercise(5, "A prefix that is read both ways", reference=prefix_mask, mistakes=[
    (lambda T, P: causal_mask(T, T), "Within the prefix, a token should see the later tokens of the prefix, too."),
    (lambda T, P: causal_mask(T, T) | (torch.arange(T) < P)[:, None],
     "The prefix now sees the continuation that is to be predicted: you extended its rows, not its columns."),
    (lambda T, P: causal_mask(T, T) & (torch.arange(T) < P),
     "With `and`, nobody sees the continuation: its tokens must see the earlier ones of the continuation."),
    (lambda T, P: causal_mask(T, T) | (torch.arange(T) <= P), "Your prefix is one token too long."),
])
def check_prefix(answer):
    return answer(7, 3), answer(4, 0)


# -- 6: a leak detector -----------------------------------------------------------------------------------------------

def finds_future(layer, states):
    before = layer(states)  # (1, T, D)
    for place in range(1, states.size(1)):
        edited = states.clone()
        edited[:, place] = torch.randn(states.size(-1))
        if not torch.equal(layer(edited)[:, :place], before[:, :place]):
            return True
    return False


def edits_last_reads_first(layer, states):
    edited = states.clone()
    edited[:, -1] = torch.randn(states.size(-1))
    return not torch.equal(layer(edited)[:, 0], layer(states)[:, 0])


def edits_last_only(layer, states):
    edited = states.clone()
    edited[:, -1] = torch.randn(states.size(-1))
    return not torch.equal(layer(edited)[:, :-1], layer(states)[:, :-1])


def reads_edited_place(layer, states):
    edited = states.clone()
    edited[:, -1] = torch.randn(states.size(-1))
    return not torch.equal(layer(edited), layer(states))


def adds_a_constant(layer, states):
    before = layer(states)
    for place in range(1, states.size(1)):
        edited = states.clone()
        edited[:, place] += 1
        if not torch.allclose(layer(edited)[:, :place], before[:, :place], atol=1e-5):
            return True
    return False


class Masked(nn.Module):
    """A pre-norm layer of self-attention that sees what its mask allows."""

    def __init__(self, mask: Tensor, width: int):
        super().__init__()
        self.mask, self.layer = mask, encoder_layer(width, 2, 2 * width, norm_first=True)

    def forward(self, states: Tensor) -> Tensor:
        return self.layer(states, self.mask)


@check.exercise(6, "A leak detector", reference=finds_future, mistakes=[
    (edits_last_reads_first, "It misses a mask that is off by one: the last token then reaches its neighbor, not the first."),
    (edits_last_only, "It misses a leak in the middle. Edit every place in turn, not the last one only."),
    (reads_edited_place, "It cries wolf: the output at the edited place itself, and behind it, is allowed to change."),
    (adds_a_constant, "It finds nothing: the layer normalizes first, and that removes a constant added to every feature. "
                      "Replace the state by another one."),
])
def check_detector(answer):
    length, width = 6, 8
    triangle = causal_mask(length, length)
    one_pair = triangle.clone()
    one_pair[2, 3] = True
    masks = {"causal": triangle, "none": torch.ones_like(triangle), "off by one": torch.ones_like(triangle).tril(1),
             "one pair": one_pair, "window": triangle & ~triangle.tril(-3)}
    found = {}
    for name, mask in masks.items():
        found[name] = answer(Masked(mask, width), torch.randn(1, length, width))
        if not isinstance(found[name], bool):
            raise Wrong(f"Return True or False, got {type(found[name]).__name__}.")
    return found
