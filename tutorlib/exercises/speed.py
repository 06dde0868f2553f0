"""Exercises of the chapter on speed."""
import torch

from tutorlib.exercises.sheet import ExerciseSheet, Wrong

check = ExerciseSheet()


# 1: the least time of a pass

def least_seconds(weights, width, rows, flops, bandwidth):
    # two operations a weight and row; each weight of `width` bytes fetched once
    arithmetic = 2 * weights * rows / flops
    traffic = width * weights / bandwidth
    return max(arithmetic, traffic)


def sum_of_both(weights, width, rows, flops, bandwidth):
    return 2 * weights * rows / flops + width * weights / bandwidth


def fetched_for_each_row(weights, width, rows, flops, bandwidth):
    return max(2 * weights * rows / flops, width * weights * rows / bandwidth)


def one_operation(weights, width, rows, flops, bandwidth):
    return max(weights * rows / flops, width * weights / bandwidth)


@check.exercise(1, "The least time of a pass", reference=least_seconds, mistakes=[
    (sum_of_both, "Fetching and computing can go on at once: the slower of the two sets the pace."),
    (fetched_for_each_row, "The rows share what is fetched."),
    (one_operation, "A multiply-add is two operations."),
])
def check_seconds(answer):
    return [float(answer(135e6, width, rows, 90e9, 27e9)) for width, rows in ((4, 1), (4, 40), (2, 6), (1, 1))]


# 2: positions of a padded batch

def own_positions(real):
    # real (B, S) boolean: how many tokens stand up to here, less one
    return (real.cumsum(1) - 1).clamp(min=0)  # (B, S)


def by_column(real):
    return torch.arange(real.size(1)).expand_as(real)


def not_less_one(real):
    return real.cumsum(1)


def below_zero(real):
    return real.cumsum(1) - 1


@check.exercise(2, "Positions of a padded batch", reference=own_positions, mistakes=[
    (by_column, "A row's first token has position 0, wherever it stands."),
    (not_less_one, "Positions count from 0."),
    (below_zero, "A table has no row -1: padding may get any position that exists, such as 0."),
])
def check_positions(answer):
    return answer(torch.arange(7) >= torch.tensor([[3], [0], [6]]))


# 3: how often a guess is kept

def share_kept(p, q):
    # drawn from q, kept with min(1, p/q): the sum of q min(1, p/q)
    return torch.minimum(p, q).sum()


def agreement(p, q):
    return (p * q).sum()


def same_choice(p, q):
    return (p.argmax() == q.argmax()).float()


def distance(p, q):
    return 1 - (p - q).abs().sum()


@check.exercise(3, "How often a guess is kept", reference=share_kept, mistakes=[
    (agreement, "That is how often two draws, one from each, agree. Sum q(x) min(1, p(x) / q(x))."),
    (same_choice, "Sampling keeps some guesses even where the likeliest tokens differ."),
    (distance, "Each deviation is counted twice in the sum of |p - q|: once above, once below."),
])
def check_share(answer):
    p, q = torch.randn(2, 9).softmax(-1)
    return answer(p, q)


# 4: tokens a pass

def tokens_a_pass(alpha, k):
    # one, and one more for every guess whose forerunners and itself are kept
    return sum(alpha**i for i in range(k + 1))


def linear(alpha, k):
    return 1 + alpha * k


def without_the_extra(alpha, k):
    return sum(alpha**i for i in range(1, k + 1))


def all_or_nothing(alpha, k):
    return 1 + k * alpha**k


@check.exercise(4, "Tokens a pass", reference=tokens_a_pass, mistakes=[
    (linear, "A guess counts only if all guesses before it were kept."),
    (without_the_extra, "The pass gives one token more: in place of what was refused, or behind the last guess."),
    (all_or_nothing, "The first guesses are kept even where a later one is refused."),
])
def check_tokens(answer):
    return [float(answer(alpha, k)) for alpha, k in ((0.8, 4), (0.0, 3), (1.0, 5), (0.5, 1))]


# 5: look it up

def look_up(tokens, size, count):
    # what followed the last earlier occurrence of the last `size` tokens
    suffix = tokens[-size:]
    for start in range(len(tokens) - size - 1, -1, -1):
        if tokens[start:start + size] == suffix:
            return tokens[start + size:start + size + count]
    return []


def finds_itself(tokens, size, count):
    suffix = tokens[-size:]
    for start in range(len(tokens) - size, -1, -1):
        if tokens[start:start + size] == suffix:
            return tokens[start + size:start + size + count]
    return []


def first_occurrence(tokens, size, count):
    suffix = tokens[-size:]
    for start in range(len(tokens) - size):
        if tokens[start:start + size] == suffix:
            return tokens[start + size:start + size + count]
    return []


def with_the_suffix(tokens, size, count):
    suffix = tokens[-size:]
    for start in range(len(tokens) - size - 1, -1, -1):
        if tokens[start:start + size] == suffix:
            return tokens[start:start + count]
    return []


@check.exercise(5, "Look it up", reference=look_up, mistakes=[
    (finds_itself, "The last tokens occur at the end, always: look further up."),
    (first_occurrence, "There may be several occurrences: take the last of them."),
    (with_the_suffix, "What followed it is asked, not the occurrence."),
])
def check_look_up(answer):
    text = [1, 2, 7, 7, 1, 2, 9, 8, 5, 1, 2]
    found = [answer(list(text), 2, 3), answer(list(text), 1, 2), answer([1, 2, 3], 2, 4)]
    if any(not isinstance(each, list) for each in found):
        raise Wrong("Return a list of tokens, empty where nothing is found.")
    return [[float(token) for token in each] for each in found]
