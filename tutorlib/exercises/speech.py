"""Exercises of the chapter on speech."""

import torch

from tutorlib.exercises.sheet import ExerciseSheet

check = ExerciseSheet()


# 1: what a path spells

def spelling(path):
    pairs = zip([0, *path], path)  # each with the one before
    return [symbol for before, symbol in pairs if symbol and symbol != before]


def blanks_first(path):
    letters = [symbol for symbol in path if symbol]
    return [symbol for place, symbol in enumerate(letters) if place == 0 or symbol != letters[place - 1]]


def repeats_kept(path):
    return [symbol for symbol in path if symbol]


def each_once(path):
    return list(dict.fromkeys(symbol for symbol in path if symbol))


@check.exercise(1, "What a path spells", reference=spelling, mistakes=[
    (blanks_first, "You drop the blanks first, and then a double letter is lost: 1 0 1 spells 1 1."),
    (repeats_kept, "Equal neighbors are one letter that lasts: 1 1 spells 1."),
    (each_once, "Only neighbors are made one; a letter may come again later: 1 2 1 spells 1 2 1."),
])
def check_spelling(answer):
    return [list(answer(path)) for path in ([0, 1, 1, 0, 2], [1, 0, 1], [1, 2, 1], [0, 0], [], [2, 2, 0, 2, 2, 1])]


# 2: noise by decibels

def noise_factor(samples, noise, decibels):
    ratio = samples.square().mean() / noise.square().mean()
    return (ratio / 10 ** (decibels / 10)) ** 0.5


def of_amplitudes(samples, noise, decibels):
    return samples.square().mean().sqrt() / noise.square().mean().sqrt() / 10 ** (decibels / 10)


def not_rooted(samples, noise, decibels):
    return samples.square().mean() / noise.square().mean() / 10 ** (decibels / 10)


def turned(samples, noise, decibels):
    return (samples.square().mean() / noise.square().mean() * 10 ** (decibels / 10)) ** 0.5


@check.exercise(2, "Noise by decibels", reference=noise_factor, mistakes=[
    (of_amplitudes, "Decibels are ten logarithms of a ratio of powers; of amplitudes it would be twenty."),
    (not_rooted, "That is the factor of the power. The samples take its square root."),
    (turned, "More decibels mean weaker noise: divide by 10 ** (decibels / 10)."),
])
def check_noise_factor(answer):
    samples, noise = 0.3 * torch.randn(400), 2 * torch.randn(400)
    return [float(answer(samples, noise, decibels)) for decibels in (20, 3, -7)]


# 3: one step of the recursion

def forward_step(alpha, z, p):
    out = alpha.clone()
    out[1:] += alpha[:-1]
    out[2:] += alpha[:-2] * ((z[2:] != 0) & (z[2:] != z[:-2]))
    return out * p[z]


def without_guard(alpha, z, p):
    out = alpha.clone()
    out[1:] += alpha[:-1]
    out[2:] += alpha[:-2] * (z[2:] != 0)
    return out * p[z]


def always_two(alpha, z, p):
    out = alpha.clone()
    out[1:] += alpha[:-1]
    out[2:] += alpha[:-2]
    return out * p[z]


def never_two(alpha, z, p):
    out = alpha.clone()
    out[1:] += alpha[:-1]
    return out * p[z]


def never_stays(alpha, z, p):
    out = torch.zeros_like(alpha)
    out[1:] += alpha[:-1]
    out[2:] += alpha[:-2] * ((z[2:] != 0) & (z[2:] != z[:-2]))
    return out * p[z]


@check.exercise(3, "One step of the recursion", reference=forward_step, mistakes=[
    (without_guard, "Into a letter from the equal letter before it no path may skip the blank: it would be one letter."),
    (always_two, "Only into a letter may two states be gone; from blank to blank a letter would be left out."),
    (never_two, "A blank between two different letters may be skipped: add alpha from two states before."),
    (never_stays, "A path may stay in its state: a letter can last for several steps."),
])
def check_forward_step(answer):
    found = []
    for letters in ([1, 2, 2], [3, 1], [2]):
        z = torch.zeros(2 * len(letters) + 1, dtype=torch.long)
        z[1::2] = torch.tensor(letters)
        alpha, p = torch.rand(len(z)), torch.rand(4).softmax(0)
        found.append(answer(alpha.clone(), z.clone(), p.clone()))
    return found


# 4: a threshold by its cost

def threshold(curve, miss, alarm, said):
    return min(curve, key=lambda point: miss * said * point[1] + alarm * point[2])[0]


def share_only(curve, miss, alarm, said):
    return min(curve, key=lambda point: miss * point[1] + alarm * point[2])[0]


def swapped(curve, miss, alarm, said):
    return min(curve, key=lambda point: alarm * said * point[1] + miss * point[2])[0]


def fewest_misses(curve, miss, alarm, said):
    return min(curve, key=lambda point: point[1])[0]


@check.exercise(4, "A threshold by its cost", reference=threshold, mistakes=[
    (share_only, "The share missed is of the commands: with `said` an hour it costs miss * said * share."),
    (swapped, "The costs are exchanged: `miss` belongs to missed commands, `alarm` to false alarms."),
    (fewest_misses, "False alarms cost too: weigh both."),
])
def check_threshold(answer):
    curve = [(-1.0, 0.9, 0.0), (-3.0, 0.5, 1.0), (-5.0, 0.2, 4.0), (-9.0, 0.05, 30.0), (-12.0, 0.0, 200.0)]
    return [float(answer(curve, *costs)) for costs in ((1, 1, 5), (10, 1, 20), (1, 10, 60), (1, 1, 40), (100, 1, 30))]
