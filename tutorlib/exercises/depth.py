"""Exercises of the chapter on depth."""
import math

import torch
from torch import nn

from tutorlib.exercises.sheet import ExerciseSheet
from tutorlib.layers import encoder_layer

check = ExerciseSheet()


# 1: how the sums grow

DEVIATION = math.sqrt(1 + 6 * 2)  # two branches a layer; the last norm undoes it


@check.exercise(1, "How the sums grow", reference=DEVIATION, tolerance=0.005, mistakes=[
    (13.0, "That is the variance."),
    (math.sqrt(7), "An encoder layer has two branches, and each adds a term."),
    (math.sqrt(12), "The input has variance 1 too."),
    (7.0, "Independent terms add their variances, and an encoder layer has two branches."),
    (math.sqrt(19), "Three branches has a decoder layer. Count those of an encoder layer."),
    (1.0, "In pre-norm the norm stands before the branch: nothing shrinks the sum on its way."),
])
def check_growth(answer):
    return answer


# 2: the cosine of a copy

def copy_cosine(sizes):
    """Cosine of a gradient with its copy, from the mean squares behind the sums."""
    return 1 / math.sqrt(math.prod(sizes))


def share_of_the_square(sizes):
    return 1 / math.prod(sizes)


def of_the_last(sizes):
    return 1 / math.sqrt(sizes[-1])


def of_the_sum(sizes):
    return 1 / math.sqrt(sum(sizes))


def upside_down(sizes):
    return math.sqrt(math.prod(sizes))


@check.exercise(2, "The copy in post-norm", reference=copy_cosine, tolerance=0.001, mistakes=[
    (share_of_the_square, "That is the copy's part of the mean square. A cosine compares lengths: take the root."),
    (of_the_last, "That is pre-norm, where the factors cancel but for the last. In post-norm each norm takes its own part."),
    (of_the_sum, "Each norm leaves a part of what the one above has left: parts of parts multiply."),
    (upside_down, "The copy fades: the cosine is at most 1."),
])
def check_cosine(answer):
    return [answer([2.0, 2.0, 2.0]), answer([1.2, 1.5, 1.4, 1.5]), answer([1.0])]


# 3: a small start

def start_small(layers):
    """Divide the last matrix of every branch by the root of the number of branches."""
    branches = 2 * len(layers)
    with torch.no_grad():
        for layer in layers:
            layer.attention.output.weight /= branches**0.5
            layer.feed_forward.contract.weight /= branches**0.5


def scaled(layers, divisor, *names):
    with torch.no_grad():
        for layer in layers:
            for name in names:
                layer.get_parameter(name).div_(divisor)


LAST = "attention.output.weight", "feed_forward.contract.weight"


def by_layers(layers):
    scaled(layers, len(layers) ** 0.5, *LAST)


def by_the_number(layers):
    scaled(layers, 2 * len(layers), *LAST)


def only_attention(layers):
    scaled(layers, (2 * len(layers)) ** 0.5, LAST[0])


def only_feed_forward(layers):
    scaled(layers, (2 * len(layers)) ** 0.5, LAST[1])


def first_matrices(layers):
    scaled(layers, (2 * len(layers)) ** 0.5, "attention.value.weight", "feed_forward.expand.weight")


@check.exercise(3, "A small start", reference=start_small, mistakes=[
    (by_layers, "A layer has two branches: count those."),
    (by_the_number, "The squares of what n branches add are summed, so dividing by the root of n is enough."),
    (only_attention, "The feed-forward network is a branch, too."),
    (only_feed_forward, "Attention is a branch, too."),
    (first_matrices, "Scale the last matrix of each branch, the one whose result is added."),
])
def check_start(answer):
    layers = nn.ModuleList(encoder_layer(16, 2, 32) for _ in range(3))
    before = {name: weight.detach().clone() for name, weight in layers.named_parameters()}
    answer(list(layers))
    return [(weight.norm() / before[name].norm()).item() if before[name].norm() > 0 else 1.0
            for name, weight in layers.named_parameters() if weight.dim() > 1]


# 4: how deep until it is gone?

# after n branches 1.4 ** (-n / 2): below 1/20 from n = 2 ln 20 / ln 1.4 branches on
LAYERS = math.ceil(math.log(20) / math.log(1.4))


@check.exercise(4, "How deep until it is gone?", reference=LAYERS, mistakes=[
    (18, "Those are branches; a layer has two."),
    (5, "The cosine is a root: its square falls by 1.4 a branch."),
    (8, "After eight layers the cosine is still 0.07: go on until it is below 0.05."),
    (1, "One branch leaves 0.85. How many must follow, each taking its part?"),
])
def check_depth(answer):
    return answer
