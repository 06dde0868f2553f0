"""Exercises of the chapter on experiments: is it better, or was it lucky?"""
import math

import torch

from tutorlib.exercises.sheet import ExerciseSheet

check = ExerciseSheet()


# 1: the error of a difference

def error(a, b):
    # a row's difference is +1, -1 or 0: mean delta, mean square d
    delta = a.mean() - b.mean()
    d = (a - b).square().mean()
    return math.sqrt((d - delta**2) / len(a))


def as_if_unpaired(a, b):
    return math.sqrt((a.var(correction=0) + b.var(correction=0)) / len(a))


def of_a_row(a, b):
    return (a - b).std(correction=0)


def without_the_mean(a, b):
    return math.sqrt((a - b).square().mean() / len(a))


@check.exercise(1, "The error of a difference", reference=error, mistakes=[
    (as_if_unpaired, "The rows are the same for both: take the variance of the difference of a row, not two variances."),
    (of_a_row, "That is the spread of one row's difference: the mean of n rows varies less, by the root of n."),
    (without_the_mean, "A variance is the mean square less the squared mean: subtract delta squared."),
])
def check_error(answer):
    a = (torch.rand(40) < 0.8).double()
    b = (torch.rand(40) < 0.4).double()
    return [float(answer(a, b)), float(answer(b, 1 - a))]


# 2: McNemar by coins

def p_value(wins, losses):
    n, fewer = wins + losses, min(wins, losses)
    tail = sum(math.comb(n, i) for i in range(fewer + 1)) / 2**n
    return min(1.0, 2 * tail)


def one_sided(wins, losses):
    n, fewer = wins + losses, min(wins, losses)
    return sum(math.comb(n, i) for i in range(fewer + 1)) / 2**n


def exactly_so(wins, losses):
    return min(1.0, 2 * math.comb(wins + losses, wins) / 2 ** (wins + losses))


def above_one(wins, losses):
    return 2 * one_sided(wins, losses)


@check.exercise(2, "McNemar by coins", reference=p_value, mistakes=[
    (one_sided, "Two-sided: as lopsided the other way counts, too."),
    (exactly_so, "So lopsided or more: add the cases with still fewer on the losing side."),
    (above_one, "At equal numbers both tails hold the middle, and their sum is above 1: a probability ends at 1."),
])
def check_p(answer):
    return [float(answer(5, 1)), float(answer(2, 9)), float(answer(3, 3)), float(answer(10, 0))]


# 3: rows for a planned comparison

def rows(delta, d):
    return math.ceil((2.8 / delta) ** 2 * (d - delta**2))


def not_squared(delta, d):
    return math.ceil(2.8 / delta * (d - delta**2))


def seen_half_the_time(delta, d):
    return math.ceil((1.96 / delta) ** 2 * (d - delta**2))


def rounded_down(delta, d):
    return math.floor((2.8 / delta) ** 2 * (d - delta**2))


@check.exercise(3, "Rows for a planned comparison", reference=rows, mistakes=[
    (not_squared, "Errors shrink with the root of n: half the difference takes four times the rows."),
    (seen_half_the_time, "At 1.96 errors a true difference is seen every other time: ask for 2.8."),
    (rounded_down, "With fewer rows than that the difference is less than 2.8 errors: round up."),
])
def check_rows(answer):
    return [int(answer(0.006, 0.03)), int(answer(0.02, 0.05)), int(answer(0.1, 0.3))]


# 4: what k trials bring

def expected_best(scores, k):
    # the best of k is at most the i-th smallest with probability (i / m)^k
    v = scores.sort().values
    at_most = torch.linspace(0, 1, len(v) + 1, dtype=v.dtype) ** k
    return (v * at_most.diff()).sum()


def best_of_all(scores, k):
    return scores.max()


def unsorted(scores, k):
    at_most = torch.linspace(0, 1, len(scores) + 1, dtype=scores.dtype) ** k
    return (scores * at_most.diff()).sum()


def the_worst(scores, k):
    return -expected_best(-scores, k)


@check.exercise(4, "What k trials bring", reference=expected_best, mistakes=[
    (best_of_all, "That is the best of all m: k of them rarely hold it."),
    (unsorted, "The weights belong to the ranks: sort the scores first."),
    (the_worst, "That is the worst of k: the largest scores must have the largest weights."),
])
def check_best(answer):
    scores = torch.rand(30, dtype=torch.float64)
    return [float(answer(scores, 1)), float(answer(scores, 5)), float(answer(scores[:4], 20))]
