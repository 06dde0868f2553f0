"""Exercises of the chapter on data and compute."""
import math

import torch

from tutorlib.exercises.sheet import ExerciseSheet, Wrong

check = ExerciseSheet()


# 1: what a budget reads

def characters_for(C, w, n, V, T):
    # forward: 2 FLOPs a weight, and beside the layers the table of outputs and the
    # scores of attention; with the way back three times that
    return C / (6 * (12 * n * w**2 + V * w + 2 * n * T * w))


def by_the_rule(C, w, n, V, T):
    return C / (6 * 12 * n * w**2)


def forward_only(C, w, n, V, T):
    return 3 * characters_for(C, w, n, V, T)


def scores_of_one_layer(C, w, n, V, T):
    return C / (6 * (12 * n * w**2 + V * w + 2 * T * w))


def without_the_table(C, w, n, V, T):
    return C / (6 * (12 * n * w**2 + 2 * n * T * w))


@check.exercise(1, "What a budget reads", reference=characters_for, mistakes=[
    (by_the_rule, "That is 6 N alone. A small model also pays for the scores of the vocabulary and of attention."),
    (forward_only, "The way back costs twice the way forward."),
    (scores_of_one_layer, "Each of the n layers has its own attention."),
    (without_the_table, "The product with the table of V outputs is missing."),
])
def check_characters(answer):
    return [answer(1e12, 64, 2, 71, 32), answer(3e9, 24, 3, 50, 16)]


# 2: the bottom of a parabola

def bottom_of_three(N, L):
    # slopes of two chords in ln N; the parabola's slope is zero where they lead to
    a, b, c = (math.log(size) for size in N)
    first, second = (L[1] - L[0]) / (b - a), (L[2] - L[1]) / (c - b)
    bend = (second - first) / (c - a)
    return math.exp((a + b) / 2 - first / (2 * bend))


def in_plain_sizes(N, L):
    a, b, c = N
    first, second = (L[1] - L[0]) / (b - a), (L[2] - L[1]) / (c - b)
    bend = (second - first) / (c - a)
    return (a + b) / 2 - first / (2 * bend)


def lowest_of_the_three(N, L):
    return min(zip(L, N, strict=True))[1]


def still_a_logarithm(N, L):
    return math.log(bottom_of_three(N, L))


@check.exercise(2, "The bottom of a parabola", reference=bottom_of_three, mistakes=[
    (in_plain_sizes, "Sizes differ by factors, so the parabola is one in ln N."),
    (lowest_of_the_three, "That is the best of the three. The bottom lies between them."),
    (still_a_logarithm, "That is ln N. Take the exponential."),
])
def check_bottom(answer):
    cases = [((4e3, 9e3, 3e4), 1e4, 0.2), ((2e4, 8e4, 1e5), 5e4, 0.7)]
    return [math.log(answer(N, [1.7 + bend * math.log(size / best) ** 2 for size in N])) for N, best, bend in cases]


# 3: what reading again was worth

def worth(loss, E, B, b):
    # the law L = E + B / D^b, turned around
    return (B / (loss - E)) ** (1 / b)


def without_the_floor(loss, E, B, b):
    return (B / loss) ** (1 / b)


def a_line(loss, E, B, b):
    return B / (loss - E)


def turned_over(loss, E, B, b):
    return ((loss - E) / B) ** (1 / b)


@check.exercise(3, "What reading again was worth", reference=worth, mistakes=[
    (without_the_floor, "Only what lies above the floor E comes from too little text."),
    (a_line, "That is D to the power b. Take the root."),
    (turned_over, "A lower loss must be worth more characters, not fewer."),
])
def check_worth(answer):
    return [math.log(answer(2.0, 1.4, 300.0, 0.5)), math.log(answer(1.9, 1.2, 40.0, 0.3))]


# 4: the energy of a training

def kilowatt_hours(N, D, peak, share, watts, overhead):
    hours = 6 * N * D / (peak * share) / 3600  # of one processor
    return hours * watts * overhead / 1000


def at_the_peak(N, D, peak, share, watts, overhead):
    return kilowatt_hours(N, D, peak, 1.0, watts, overhead)


def bare_processor(N, D, peak, share, watts, overhead):
    return kilowatt_hours(N, D, peak, share, watts, 1.0)


def in_joules(N, D, peak, share, watts, overhead):
    return 6 * N * D / (peak * share) * watts * overhead


def in_watt_hours(N, D, peak, share, watts, overhead):
    return 1000 * kilowatt_hours(N, D, peak, share, watts, overhead)


def two_flops(N, D, peak, share, watts, overhead):
    return kilowatt_hours(N, D, peak, share, watts, overhead) / 3


@check.exercise(4, "The energy of a training", reference=kilowatt_hours, mistakes=[
    (at_the_peak, "No training reaches the peak: divide by the share of it that is used."),
    (bare_processor, "Cooling and conversion take power too: multiply by the overhead."),
    (in_joules, "Those are joules. A kilowatt-hour is 3.6 million of them."),
    (in_watt_hours, "Those are watt-hours; a thousand make a kilowatt-hour."),
    (two_flops, "Two FLOPs a parameter and token is the forward pass alone."),
])
def check_energy(answer):
    return [answer(175e9, 300e9, 125e12, 0.2, 330, 1.1), answer(1e9, 2e10, 312e12, 0.4, 400, 1.3)]


# 5: how many wrong labels a vote survives

def limit(classes):
    # right labels keep the lead while 1 - p > p / (classes - 1)
    return (classes - 1) / classes


def half(classes):
    return 0.5


def one_in_the_classes(classes):
    return 1 / classes


def one_too_few(classes):
    return (classes - 2) / (classes - 1)


@check.exercise(5, "How many wrong labels a vote survives", reference=limit, mistakes=[
    (half, "The wrong labels do not vote together: they spread over the other classes."),
    (one_in_the_classes, "That is the share of right labels at the limit. What is the share of wrong ones?"),
    (one_too_few, "A label that is wrong bears one of classes - 1 others. Where does 1 - p equal p / (classes - 1)?"),
])
def check_limit(answer):
    found = [float(torch.as_tensor(answer(classes))) for classes in (2, 10, 100)]
    if not all(0 <= share <= 1 for share in found):
        raise Wrong("The answer is a share of the labels, from 0 to 1.")
    return found
