"""Exercises of the chapter on what comes next."""
import math

import torch

from tutorlib.exercises.sheet import ExerciseSheet

check = ExerciseSheet()


# 1: how long without a failure

def miles_needed(rate, confidence):
    # (1 - rate)^n = 1 - confidence
    return math.log(1 - confidence) / math.log1p(-rate)


def one_expected(rate, confidence):
    return 1 / rate


def share_of_one(rate, confidence):
    return confidence / rate


def sides_swapped(rate, confidence):
    return math.log(confidence) / math.log1p(-rate)


@check.exercise(1, "How long without a failure", reference=miles_needed, mistakes=[
    (one_expected, "After 1 / rate trials a failure is expected, but none has happened in 37 of 100 cases."),
    (share_of_one, "Trials multiply: n of them pass with the probability (1 - rate)^n."),
    (sides_swapped, "The luck of passing all of them must be 1 - confidence, not confidence."),
])
def check_miles(answer):
    return [answer(0.01, 0.95), answer(1e-6, 0.9), answer(0.5, 0.5)]


# 2: the area under the curve, from its meaning

def pairs_in_order(scores, labels):
    events, others = scores[labels == 1], scores[labels == 0]
    above = (events[:, None] > others).float()  # (events, others)
    level = (events[:, None] == others).float()
    return (above + level / 2).mean().item()


def ties_lost(scores, labels):
    return (scores[labels == 1][:, None] > scores[labels == 0]).float().mean().item()


def ties_won(scores, labels):
    return (scores[labels == 1][:, None] >= scores[labels == 0]).float().mean().item()


def share_right(scores, labels):
    return ((scores > 0) == (labels == 1)).float().mean().item()


def all_pairs(scores, labels):
    events, others = scores[labels == 1], scores[labels == 0]
    return ((events[:, None] > others).sum() / len(scores) ** 2).item()


@check.exercise(2, "The area from its meaning", reference=pairs_in_order, mistakes=[
    (ties_lost, "Equal scores count half."),
    (ties_won, "Equal scores count half, not in full."),
    (share_right, "That is accuracy at one threshold. The area has none: it compares pairs."),
    (all_pairs, "Divide by the pairs of one event and one other, not by all pairs."),
])
def check_area(answer):
    labels = torch.tensor([1, 0, 0, 1, 0, 1, 0, 0])
    scores = torch.tensor([2.0, -1.0, 2.0, 0.5, 0.5, -1.0, -3.0, 0.0])
    return [answer(scores, labels), answer(torch.randn(8), labels), answer(-scores, labels)]


# 3: another rate of illness

def at_another_rate(p, before, after):
    odds = p / (1 - p) * after / (1 - after) * (1 - before) / before
    return odds / (1 + odds)


def scaled(p, before, after):
    return p * after / before


def odds_by_rates(p, before, after):
    odds = p / (1 - p) * after / before
    return odds / (1 + odds)


def the_other_way(p, before, after):
    odds = p / (1 - p) * before / (1 - before) * (1 - after) / after
    return odds / (1 + odds)


@check.exercise(3, "Another rate of illness", reference=at_another_rate, mistakes=[
    (scaled, "A probability that is multiplied can pass 1. Multiply the odds p / (1 - p)."),
    (odds_by_rates, "The odds change by the ratio of the odds before and after, not of the rates."),
    (the_other_way, "The other way around: divide by the odds before, multiply by those after."),
])
def check_rate(answer):
    p = torch.tensor([0.1, 0.5, 0.9])
    return [answer(p, 0.5, 0.01), answer(p, 0.1, 0.3)]


# 4: the skill of a forecaster

def skill(forecasts, last_seen, outcomes):
    error = (forecasts - outcomes).abs().mean()
    naive = (last_seen - outcomes).abs().mean()
    return (1 - error / naive).item()


def ratio_alone(forecasts, last_seen, outcomes):
    return ((forecasts - outcomes).abs().mean() / (last_seen - outcomes).abs().mean()).item()


def mean_of_ratios(forecasts, last_seen, outcomes):
    return (1 - ((forecasts - outcomes).abs() / (last_seen - outcomes).abs()).mean()).item()


def biases_compared(forecasts, last_seen, outcomes):
    return (1 - (forecasts - outcomes).mean().abs() / (last_seen - outcomes).mean().abs()).item()


@check.exercise(4, "The skill of a forecaster", reference=skill, mistakes=[
    (ratio_alone, "Skill is what is better than the naive forecast: 1 less the ratio."),
    (mean_of_ratios, "Take both means first. One outcome that the naive forecast hits would make a ratio endless."),
    (biases_compared, "Errors of both signs cancel in a mean. Take the size of each error first."),
])
def check_skill(answer):
    outcomes = torch.tensor([1.0, 2.0, 4.0, 3.0])
    last_seen = torch.tensor([1.5, 2.5, 3.0, 4.0])
    near = outcomes + torch.tensor([0.1, -0.4, 0.2, 0.6])
    return [answer(near, last_seen, outcomes), answer(last_seen + 1, last_seen, outcomes)]
