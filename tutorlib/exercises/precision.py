"""Exercises of the chapter on training in few bits."""
import torch

from tutorlib.exercises.sheet import ExerciseSheet, Wrong

check = ExerciseSheet()


# 1: the distance to the next mark

def step_at(x, m):
    # |x| = 1.f · 2^exponent: frexp has it as 0.1f · 2^(exponent + 1)
    exponent = torch.frexp(x)[1] - 1
    return 2.0 ** (exponent - m)


def from_frexp_as_it_is(x, m):
    return 2.0 ** (torch.frexp(x)[1] - m)


def the_same_everywhere(x, m):
    return torch.full_like(x, 2.0**-m)


def a_share_of_x(x, m):
    return x.abs() * 2.0**-m


@check.exercise(1, "The distance to the next mark", reference=step_at, mistakes=[
    (from_frexp_as_it_is, "torch.frexp has a fraction below 1: its exponent is one more than that of 1.f · 2^e."),
    (the_same_everywhere, "The step doubles at each power of two."),
    (a_share_of_x, "Between two powers of two the step is the same: it depends on the exponent of x alone."),
])
def check_step(answer):
    return answer(torch.tensor([1.0, 1.99, 2.0, -3.0, 0.3, 100.0]), 7), answer(torch.tensor([0.75, 5.0]), 10)


# 2: rounding by chance

def by_chance(x, step, u):
    # u (N,) is drawn evenly from [0, 1)
    below = (x / step).floor()
    return (below + (u < x / step - below)) * step


def always_half(x, step, u):
    below = (x / step).floor()
    return (below + (u < 0.5)) * step


def the_wrong_way(x, step, u):
    below = (x / step).floor()
    return (below + (u > x / step - below)) * step


def toward_zero(x, step, u):
    steps = x / step
    below = steps.trunc()
    return (below + (u < (steps - below).abs())) * step


@check.exercise(2, "Rounding by chance", reference=by_chance, mistakes=[
    (always_half, "The upper mark is taken as often as x lies near it: compare u with the share of a step that is left."),
    (the_wrong_way, "A number a tenth of a step above its lower mark goes up once in ten times, not nine times."),
    (toward_zero, "Below zero, trunc gives the upper neighbor: begin at the lower one, with floor."),
])
def check_chance(answer):
    x = torch.tensor([1.1, 1.1, 1.1, -1.1, -1.1, 1.25, 0.0])  # (N,)
    return answer(x, 0.25, torch.tensor([0.2, 0.45, 0.9, 0.3, 0.8, 0.0, 0.0]))


# 3: where a weight stops

def stops_at(w, gradient, rate, m):
    # nothing moves where the change is less than half a step
    half = 2.0 ** (torch.frexp(w)[1] - 1 - m) / 2
    return (rate * gradient).abs() < half


def a_whole_step(w, gradient, rate, m):
    return (rate * gradient).abs() < 2.0 ** (torch.frexp(w)[1] - 1 - m)


def without_the_rate(w, gradient, rate, m):
    return gradient.abs() < 2.0 ** (torch.frexp(w)[1] - 2 - m)


def signed(w, gradient, rate, m):
    return rate * gradient < 2.0 ** (torch.frexp(w)[1] - 2 - m)


def as_near_one(w, gradient, rate, m):
    return (rate * gradient).abs() < 2.0 ** (-1 - m)


@check.exercise(3, "Who stands still", reference=stops_at, mistakes=[
    (a_whole_step, "More than half a step is rounded up to a whole one, and the weight moves."),
    (without_the_rate, "What is added is the rate times the gradient."),
    (signed, "A change has two directions: compare its size."),
    (as_near_one, "Small weights stand on a finer ruler: the step belongs to the exponent of each weight."),
])
def check_stops(answer):
    w = torch.tensor([1.5, 1.5, 0.3, 0.3, -40.0, 1.5])
    gradient = torch.tensor([0.3, 0.5, 0.3, -0.05, -3.0, -0.6])
    return answer(w, gradient, 0.01, 7)


# 4: the next scale

def next_scale(scale, taken, finite, interval):
    # halved after an overflow, doubled after so many steps in a row without
    if not finite:
        return scale / 2, 0
    if taken + 1 == interval:
        return scale * 2, 0
    return scale, taken + 1


def never_grows(scale, taken, finite, interval):
    return (scale, taken + 1) if finite else (scale / 2, 0)


def not_in_a_row(scale, taken, finite, interval):
    if not finite:
        return scale / 2, taken
    return (scale * 2, 0) if taken + 1 == interval else (scale, taken + 1)


def grows_at_once(scale, taken, finite, interval):
    return (scale * 2, 0) if finite else (scale / 2, 0)


@check.exercise(4, "The next scale", reference=next_scale, mistakes=[
    (never_grows, "After `interval` steps that were taken in a row the scale doubles."),
    (not_in_a_row, "A step that was left out ends the row: the count begins at 0 again."),
    (grows_at_once, "Doubling waits for `interval` steps, else every other step is left out."),
])
def check_scale(answer):
    found = [answer(1024.0, 3, False, 5), answer(1024.0, 3, True, 5), answer(1024.0, 4, True, 5), answer(8.0, 0, True, 5)]
    if any(len(pair) != 2 for pair in found):
        raise Wrong("Return the scale and the count.")
    return [float(value) for pair in found for value in pair]


# 5: the largest batch

def largest_batch(memory, P, length, L, D, V):
    # 16 bytes a weight; a token 64 D a layer, and 4 V for the log-probabilities
    token = 64 * D * L + 4 * V
    return (memory - 16 * P) // (token * length)


def without_the_moments(memory, P, length, L, D, V):
    return (memory - 8 * P) // ((64 * D * L + 4 * V) * length)


def without_the_logits(memory, P, length, L, D, V):
    return (memory - 16 * P) // (64 * D * L * length)


def tokens_not_texts(memory, P, length, L, D, V):
    return (memory - 16 * P) // (64 * D * L + 4 * V)


def one_layer(memory, P, length, L, D, V):
    return (memory - 16 * P) // ((64 * D + 4 * V) * length)


@check.exercise(5, "The largest batch", reference=largest_batch, mistakes=[
    (without_the_moments, "Adam keeps two moments of four bytes beside each weight and its gradient: 16 bytes in all."),
    (without_the_logits, "Behind the last layer V log-probabilities of each token are kept, four bytes each."),
    (tokens_not_texts, "These are tokens; a text has `length` of them."),
    (one_layer, "Each of the L layers keeps its share."),
])
def check_batch(answer):
    found = [answer(8 * 10**9, 124_000_000, 1024, 12, 768, 50_257), answer(10**9, 3_000_000, 128, 6, 192, 2048)]
    if any(value != int(value) for value in found):
        raise Wrong("Count whole texts.")
    return [int(value) for value in found]
