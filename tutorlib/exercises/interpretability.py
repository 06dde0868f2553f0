"""Exercises of the chapter on interpretability."""

import torch

from tutorlib.exercises.sheet import ExerciseSheet, Wrong

check = ExerciseSheet()


# 1: integrated gradients

def path_integral(score, x, start, steps):
    total = torch.zeros_like(x)
    for step in range(steps):
        point = start + (step + 0.5) / steps * (x - start)
        point = point.detach().requires_grad_()
        total += torch.autograd.grad(score(point).sum(), point)[0]
    return (x - start) * total / steps


def mean_slope_only(score, x, start, steps):
    return path_integral(score, x, start, steps) / (x - start)


def times_the_input(score, x, start, steps):
    return mean_slope_only(score, x, start, steps) * x


def slope_at_the_end(score, x, start, steps):
    point = x.detach().requires_grad_()
    return (x - start) * torch.autograd.grad(score(point).sum(), point)[0]


def summed_up(score, x, start, steps):
    return steps * path_integral(score, x, start, steps)


def from_zero(score, x, start, steps):
    return path_integral(score, x, torch.zeros_like(x), steps)


@check.exercise(1, "Integrated gradients", reference=path_integral, mistakes=[
    (mean_slope_only, "That is the mean slope. Multiply it by the way, x - start."),
    (times_the_input, "Multiply by the way, x - start, not by x: with another start the map is not complete."),
    (slope_at_the_end, "That is the slope at the end of the way. Average it along the way."),
    (summed_up, "Divide by the number of steps: the slope is averaged."),
    (from_zero, "The way begins at start, not at zero."),
])
def check_path(answer):
    x, start, weight = torch.rand(3, 4), 1 + torch.rand(3, 4), torch.randn(4)
    score = lambda x: (weight * x).sum(1).tanh() + x.prod(1)  # noqa: E731
    return answer(score, x, start, 20)


# 2: the share that is found

def found(maps, places):
    top = maps.topk(places.size(1), dim=1).indices  # (B, N)
    return (top[:, :, None] == places[:, None, :]).any(1).float().mean(1)  # (B,)


def largest_only(maps, places):
    return (maps.argmax(1, keepdim=True) == places).any(1).float()


def at_least_one(maps, places):
    return (found(maps, places) > 0).float()


def by_magnitude(maps, places):
    return found(maps.abs(), places)


def share_of_the_sum(maps, places):
    return maps.gather(1, places).sum(1) / maps.sum(1)


@check.exercise(2, "The share that is found", reference=found, mistakes=[
    (largest_only, "You look at the largest entry only. With N places, look at the N largest."),
    (at_least_one, "One place found of two counts one half."),
    (by_magnitude, "A cell that speaks against the class is no evidence for it: keep the sign."),
    (share_of_the_sum, "Count places among the N largest entries; sums cancel where a map has both signs."),
])
def check_found(answer):
    maps, places = torch.randn(40, 9), torch.rand(40, 9).argsort(1)[:, :2]  # (B, S), (B, 2)
    return answer(maps, places)


# 3: the induction score

def induction_score(weights, period):
    # query t looks at key t - period + 1
    after = weights.diagonal(1 - period, dim1=-2, dim2=-1)  # (H, period + 1)
    return after[:, 1:].mean(1)  # the queries of the second half


def same_token(weights, period):
    return weights.diagonal(-period, dim1=-2, dim2=-1).mean(1)


def one_before(weights, period):
    return weights.diagonal(-1, dim1=-2, dim2=-1)[:, period - 1:].mean(1)


def before_the_copy(weights, period):
    return weights.diagonal(-period - 1, dim1=-2, dim2=-1).mean(1)


def one_query_more(weights, period):
    return weights.diagonal(1 - period, dim1=-2, dim2=-1).mean(1)


@check.exercise(3, "The induction score", reference=induction_score, mistakes=[
    (same_token, "That is the weight on the earlier copy itself. An induction head looks at what came after it."),
    (one_before, "That is the score of a previous-token head."),
    (before_the_copy, "That is the token before the earlier copy; the head looks at the one after it."),
    (one_query_more, "The last query of the first half has no earlier copy: average over the second half only."),
])
def check_induction(answer):
    weights = torch.randn(3, 12, 12).masked_fill(torch.ones(12, 12).triu(1).bool(), -torch.inf).softmax(-1)  # (H, T, T)
    return answer(weights, 6)


# 4: a head off

def head_off(states, head, num_heads):
    states = states.unflatten(-1, (num_heads, -1)).clone()  # (B, T, H, K)
    states[..., head, :] = 0
    return states.flatten(-2)


def every_nth(states, head, num_heads):
    states = states.clone()
    states[..., head::num_heads] = 0
    return states


def the_others_off(states, head, num_heads):
    return states - head_off(states, head, num_heads)


def as_many_as_heads(states, head, num_heads):
    states = states.clone()
    states[..., head * num_heads:(head + 1) * num_heads] = 0
    return states


def in_place(states, head, num_heads):
    states.unflatten(-1, (num_heads, -1))[..., head, :] = 0
    return states


@check.exercise(4, "A head off", reference=head_off, mistakes=[
    (every_nth, "A head's numbers stand side by side, K in a row, not every H-th."),
    (the_others_off, "You kept the head and silenced all others."),
    (as_many_as_heads, "A head has K = D / H numbers, not H."),
    (in_place, "The states that came in must stay as they are: copy first."),
])
def check_off(answer):
    states = torch.randn(2, 3, 12)  # (B, T, D)
    before = states.clone()
    result = answer(states, 2, 4)
    if not torch.equal(states, before):
        raise Wrong("The states that came in must stay as they are: copy first.")
    return result
