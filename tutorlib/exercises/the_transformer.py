"""Exercises of the chapter on the Transformer."""
import math

import torch
from torch import nn

from tutorlib.exercises.sheet import ExerciseSheet, Wrong
from tutorlib.layers import decoder_layer

check = ExerciseSheet()


# 1: a norm by hand

FIRST_ENTRY = (2 - 4) / math.sqrt((4 + 0 + 0 + 4) / 4)


@check.exercise(1, "A norm by hand", reference=FIRST_ENTRY, tolerance=0.01, mistakes=[
    (-2 / math.sqrt(8 / 3), "The variance is the mean of the four squares: divide their sum by D, not by D - 1."),
    (-1.0, "You divided by the variance. Divide by its root."),
    (-2.0, "The mean is subtracted; now divide by the standard deviation."),
    (-2 / math.sqrt(8), "You divided by the length of the differences. The variance is their mean square."),
    (math.sqrt(2), "The first entry lies below the mean: mind the sign."),
    (2 / math.sqrt(18), "That is x divided by its root mean square: first subtract the mean."),
])
def check_norm(answer):
    return answer


# 2: count a decoder layer

def decoder_parameters(width, hidden):
    attention = 4 * (width * width + width)
    feed_forward = 2 * width * hidden + hidden + width
    return 2 * attention + feed_forward + 3 * 2 * width  # a norm: weight and bias


def encoder_parameters(width, hidden):
    return 4 * (width * width + width) + 2 * width * hidden + hidden + width + 2 * 2 * width


def one_attention_three_norms(width, hidden):
    return encoder_parameters(width, hidden) + 2 * width


def two_norms(width, hidden):
    return decoder_parameters(width, hidden) - 2 * width


def without_norms(width, hidden):
    return decoder_parameters(width, hidden) - 6 * width


def norms_without_bias(width, hidden):
    return decoder_parameters(width, hidden) - 3 * width


def without_biases(width, hidden):
    return 8 * width * width + 2 * width * hidden + 6 * width


def without_output(width, hidden):
    return decoder_parameters(width, hidden) - 2 * (width * width + width)


@check.exercise(2, "Count a decoder layer", reference=decoder_parameters, mistakes=[
    (encoder_parameters, "That is an encoder layer. A decoder layer has one sublayer more, with its norm."),
    (one_attention_three_norms, "A decoder layer has two attentions: one reads its own past, one reads the source."),
    (two_norms, "Three sublayers, three norms."),
    (without_norms, "The norms have parameters too: a weight and a bias each."),
    (norms_without_bias, "A norm has a weight and a bias, D numbers each."),
    (without_biases, "Each linear map has a bias as long as its output."),
    (without_output, "Each attention has four projections: the fourth is W_O."),
])
def check_count(answer):
    return [answer(512, 2048), answer(96, 192), answer(7, 5)]


# 3: the shift

def decoder_input(labels, begin):
    first = torch.full_like(labels[:, :1], begin)  # (B, 1)
    return torch.cat([first, labels[:, :-1]], dim=1)  # (B, T)


def not_shifted(labels, begin):
    return labels


def first_replaced(labels, begin):
    shifted = labels.clone()
    shifted[:, 0] = begin
    return shifted


def rolled(labels, begin):
    return labels.roll(1, dims=1)


def shifted_left(labels, begin):
    return torch.cat([labels[:, 1:], torch.full_like(labels[:, :1], begin)], dim=1)


def one_too_long(labels, begin):
    return torch.cat([torch.full_like(labels[:, :1], begin), labels], dim=1)


def shifted_rows(labels, begin):
    return torch.cat([torch.full_like(labels[:1], begin), labels[:-1]], dim=0)


@check.exercise(3, "The shift", reference=decoder_input, mistakes=[
    (not_shifted, "These are the labels themselves: the decoder is given the answer."),
    (first_replaced, "Replacing the first label loses it; move all labels one step later."),
    (rolled, "roll brings the last label to the front. There stands the mark that begins."),
    (shifted_left, "The labels moved one step earlier: step t must see the label of step t - 1."),
    (one_too_long, "The shape must stay (B, T): the last label is never an input."),
    (shifted_rows, "You moved whole sequences. Time is dimension 1."),
])
def check_shift(answer):
    labels = torch.tensor([[5, 7, 4, 2, 0], [9, 3, 6, 8, 2]])  # (B, T); 2 ends, 0 pads
    return answer(labels, 1)


# 4: repair a decoder layer

def pre_norm_decoder(layer, y, memory):
    y = y + layer.attention(layer.attention_norm(y), causal=True)  # it lacked the mask
    query = layer.cross_attention_norm(y)  # (B, T, D); memory is normalized already
    y = y + layer.cross_attention(query, memory)  # the sum had lost y
    return y + layer.feed_forward(layer.feed_forward_norm(y))  # (B, T, D)


def faulty_decoder(layer, y, memory, *, causal=True, keep=True, normalize_memory=False):
    y = y + layer.attention(layer.attention_norm(y), causal=causal)
    query = layer.cross_attention_norm(y)
    source = layer.cross_attention_norm(memory) if normalize_memory else memory
    y = (y if keep else query) + layer.cross_attention(query, source)
    return y + layer.feed_forward(layer.feed_forward_norm(y))


def as_given(layer, y, memory):
    return faulty_decoder(layer, y, memory, causal=False, keep=False, normalize_memory=True)


def sees_the_future(layer, y, memory):
    return faulty_decoder(layer, y, memory, causal=False)


def loses_the_sum(layer, y, memory):
    return faulty_decoder(layer, y, memory, keep=False)


def normalizes_memory(layer, y, memory):
    return faulty_decoder(layer, y, memory, normalize_memory=True)


def only_masked(layer, y, memory):
    return faulty_decoder(layer, y, memory, keep=False, normalize_memory=True)


def future_and_sum(layer, y, memory):
    return faulty_decoder(layer, y, memory, causal=False, keep=False)


def future_and_memory(layer, y, memory):
    return faulty_decoder(layer, y, memory, causal=False, normalize_memory=True)


def reads_itself(layer, y, memory):
    return pre_norm_decoder(layer, y, y)


def post_norm_decoder(layer, y, memory):
    y = layer.attention_norm(y + layer.attention(y, causal=True))
    y = layer.cross_attention_norm(y + layer.cross_attention(y, memory))
    return layer.feed_forward_norm(y + layer.feed_forward(y))


@check.exercise(4, "Repair a decoder layer", reference=pre_norm_decoder, mistakes=[
    (as_given, "All three faults are still there. Begin with the attention to itself: what may it see?"),
    (sees_the_future, "The attention to itself sees the future."),
    (loses_the_sum, "What does the second sum add to? The state, not its normalized copy."),
    (normalizes_memory, "The memory was normalized at the end of the encoder; the decoder's norm is for its own states."),
    (only_masked, "The mask is right. Now look at the two lines of the cross-attention: both are wrong."),
    (future_and_sum, "The memory is right. Two faults are left: a mask, and what the second sum adds to."),
    (future_and_memory, "The sums are right. Two faults are left: a mask, and a norm that is not for the memory."),
    (reads_itself, "The cross-attention takes its keys and values from the memory."),
    (post_norm_decoder, "That is post-norm. Here the norm stands before the sublayer."),
])
def check_repair(answer):
    layer = decoder_layer(16, 4, 32, norm_first=True)
    for norm in (layer.attention_norm, layer.cross_attention_norm, layer.feed_forward_norm):
        nn.init.normal_(norm.weight, 1.0, 0.5)  # as if trained, so that each norm is told from the others
    y, memory = 2 * torch.randn(2, 5, 16), torch.randn(2, 7, 16)  # (B, T, D), (B, S, D)
    with torch.no_grad():
        result = answer(layer, y, memory)
    if isinstance(result, torch.Tensor) and result.shape != y.shape:
        raise Wrong("A layer returns states of the shape it was given, (B, T, D).")
    return result
