"""Exercises of the chapter on learning from data that one may not see."""
import math

import torch

from tutorlib.exercises.sheet import ExerciseSheet, Wrong

check = ExerciseSheet()


# 1: the server

def weighted_mean(updates, sizes):
    # updates (C, P), sizes (C,)
    share = sizes / sizes.sum()  # (C,)
    return share @ updates  # (P,)


def all_alike(updates, sizes):
    return updates.mean(0)


def not_divided(updates, sizes):
    return sizes.to(updates) @ updates


def largest_only(updates, sizes):
    return updates[sizes.argmax()]


@check.exercise(1, "The server", reference=weighted_mean, mistakes=[
    (all_alike, "A client with ten times the examples counts ten times as much."),
    (not_divided, "The shares must sum to one: divide by the number of all examples."),
    (largest_only, "Every client counts, by its number of examples."),
])
def check_server(answer):
    return answer(torch.randn(3, 7), torch.tensor([40.0, 5.0, 15.0]))


# 2: the eavesdropper

def read(weight_gradient, bias_gradient):
    # the unit that the example moved most is the safest to divide by
    k = bias_gradient.abs().argmax()
    return weight_gradient[k] / bias_gradient[k]  # (n,)


def not_divided_by_the_bias(weight_gradient, bias_gradient):
    return weight_gradient[bias_gradient.abs().argmax()]


def first_unit(weight_gradient, bias_gradient):
    return weight_gradient[0] / bias_gradient[0]


def largest_bias_with_sign_lost(weight_gradient, bias_gradient):
    k = bias_gradient.argmin()
    return weight_gradient[k] / bias_gradient[k].abs()


@check.exercise(2, "The eavesdropper", reference=read, tolerance=1e-3, mistakes=[
    (not_divided_by_the_bias, "That is the example times a factor, and the gradient of the bias is the factor."),
    (first_unit, "Not every unit is moved by every example: here the first has the gradient zero."),
    (largest_bias_with_sign_lost, "A bias's gradient has a sign, which the weights' gradient has too: divide by both."),
])
def check_reading(answer):
    factor = torch.tensor([0.0, -0.3, 0.002, 0.9, 0.0])  # (M,)
    x = torch.rand(6)  # (n,)
    return answer(torch.outer(factor, x), factor.clone())


# 3: the private gradient

def private_mean(rows, S, noise, z):
    # rows (B, P): a gradient each; z (P,): normal numbers
    norms = rows.norm(dim=1, keepdim=True)  # (B, 1)
    cut = rows * (S / norms).clamp_max(1)  # (B, P)
    return (cut.sum(0) + noise * S * z) / len(rows)


def clips_the_mean(rows, S, noise, z):
    mean = rows.mean(0)
    return mean * (S / mean.norm()).clamp_max(1) + noise * S * z / len(rows)


def always_scaled(rows, S, noise, z):
    cut = rows * S / rows.norm(dim=1, keepdim=True)
    return (cut.sum(0) + noise * S * z) / len(rows)


def noise_without_the_clip(rows, S, noise, z):
    cut = rows * (S / rows.norm(dim=1, keepdim=True)).clamp_max(1)
    return (cut.sum(0) + noise * z) / len(rows)


def noise_on_the_mean(rows, S, noise, z):
    cut = rows * (S / rows.norm(dim=1, keepdim=True)).clamp_max(1)
    return cut.mean(0) + noise * S * z


@check.exercise(3, "The private gradient", reference=private_mean, mistakes=[
    (clips_the_mean, "Clip each row by itself: a clipped mean may still be one example's."),
    (always_scaled, "A row that is shorter than S stays as it is."),
    (noise_without_the_clip, "The noise is counted in units of S, the most that one example can add."),
    (noise_on_the_mean, "One noise for the sum, and then the division."),
])
def check_private(answer):
    rows = torch.tensor([[0.1], [1.0], [4.0], [9.0]]) * torch.randn(4, 5)  # (B, P)
    return answer(rows, 0.5, 1.3, torch.randn(5))


# 4: from bets to epsilon

def least_epsilon(won):
    # won = e^epsilon / (1 + e^epsilon), solved for epsilon
    return math.log(won / (1 - won))


def from_the_advantage(won):
    return math.log(1 + 2 * (won - 0.5))


def odds(won):
    return won / (1 - won)


def base_two(won):
    return math.log2(won / (1 - won))


@check.exercise(4, "From bets to epsilon", reference=least_epsilon, tolerance=0.01, mistakes=[
    (from_the_advantage, "Solve won = e^epsilon / (1 + e^epsilon)."),
    (odds, "These are the odds, e^epsilon; the exponent is asked."),
    (base_two, "Epsilon counts in natural logarithms."),
])
def check_bets(answer):
    return [float(answer(won)) for won in (0.5, 0.6, 0.9, 0.998)]


# 5: where the data would be cheaper to send

def rounds_that_pay(examples, example_bytes, parameters, clients):
    # a round is two messages a client, four bytes a parameter
    return examples * example_bytes // (2 * 4 * parameters * clients)


def one_way(examples, example_bytes, parameters, clients):
    return examples * example_bytes // (4 * parameters * clients)


def one_client(examples, example_bytes, parameters, clients):
    return examples * example_bytes // (8 * parameters)


def a_byte_a_parameter(examples, example_bytes, parameters, clients):
    return examples * example_bytes // (2 * parameters * clients)


@check.exercise(5, "Where the data would be cheaper to send", reference=rounds_that_pay, mistakes=[
    (one_way, "The weights go down and come back up."),
    (one_client, "Every client is sent the weights, and sends its own."),
    (a_byte_a_parameter, "A parameter in float32 has four bytes."),
])
def check_rounds(answer):
    found = [answer(4000, 196, 13_258, 10), answer(10**9, 300, 10**6, 100), answer(10**6, 150_528, 11_000_000, 20)]
    if any(value != int(value) for value in found):
        raise Wrong("Count whole rounds.")
    return [int(value) for value in found]
