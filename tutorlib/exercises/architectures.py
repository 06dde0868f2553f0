"""Exercises of the chapter on other architectures."""
import math

import torch
import torch.nn.functional as F

from tutorlib.exercises.sheet import ExerciseSheet, Wrong

check = ExerciseSheet()


# 1: one step of the delta rule

def delta_step(S, k, v, b):
    # write the difference to what stands under this key
    return S + b * torch.outer(k, v - k @ S)


def added(S, k, v, b):
    return S + b * torch.outer(k, v)


def all_of_it_shrunk(S, k, v, b):
    return (1 - b) * S + b * torch.outer(k, v)


def sum_of_rows(S, k, v, b):
    return S + b * torch.outer(k, v - S.sum(0))


def erased_only(S, k, v, b):
    return S - b * torch.outer(k, k @ S)


@check.exercise(1, "One step of the delta rule", reference=delta_step, mistakes=[
    (added, "You add v on top of what stands there. Subtract what the key finds, k @ S, first."),
    (all_of_it_shrunk, "You fade the whole state. Only what stands in the direction of k may change."),
    (sum_of_rows, "What stands under the key is k @ S, not the sum of the rows."),
    (erased_only, "You take the old value away and write nothing in its place."),
])
def check_step(answer):
    S, v = torch.randn(5, 3), torch.randn(3)  # (K, V), (V,)
    k = F.normalize(torch.randn(5), dim=0)  # (K,)
    return [answer(S.clone(), k, v, b) for b in (0.0, 0.7, 2.0)]


# 2: decay in one product

def decayed_product(q, k, v, a):
    since = a.log().cumsum(0)  # (T,): log of a_1 ... a_t
    decay = (since[:, None] - since).exp().tril()  # (T, T): a_{s+1} ... a_t
    return (decay * (q @ k.T)) @ v


def own_decay_too(q, k, v, a):
    since = a.log().cumsum(0)
    return ((since[:, None] - since + a.log()).exp().tril() * (q @ k.T)) @ v


def from_the_start(q, k, v, a):
    return (a.cumprod(0)[:, None] * (q @ k.T).tril()) @ v


def sees_ahead(q, k, v, a):
    since = a.log().cumsum(0)
    return ((since[:, None] - since).exp() * (q @ k.T)) @ v


def one_decay_a_token(q, k, v, a):
    return (a[:, None] * (q @ k.T).tril()) @ v


@check.exercise(2, "Decay in one product", reference=decayed_product, mistakes=[
    (own_decay_too, "The pair of step s is written after the state has decayed at s: its own a_s must not count."),
    (from_the_start, "The pair of step s has decayed from s + 1 to t, not from the start."),
    (sees_ahead, "The future must have the weight zero: keep the lower triangle."),
    (one_decay_a_token, "All decays between s and t multiply, not only the last."),
])
def check_decay(answer):
    q, k, v = torch.randn(7, 4), torch.randn(7, 4), torch.randn(7, 3)  # (T, K), (T, K), (T, V)
    return answer(q, k, v, 0.5 + 0.4 * torch.rand(7))


# 3: where the cache overtakes the state

def crossover(num_heads, K):
    # a token costs 2 K numbers a head; a state has K * K
    return math.ceil(K / 2)


def keys_only(num_heads, K):
    return K


def heads_counted_once(num_heads, K):
    return math.ceil(num_heads * K / 2)


def both_as_states(num_heads, K):
    return K * K


@check.exercise(3, "Where the cache overtakes the state", reference=crossover, mistakes=[
    (keys_only, "A token leaves a key and a value: 2 K numbers a head."),
    (heads_counted_once, "Both have as many heads; they cancel."),
    (both_as_states, "That is the size of a state. Divide it by what a token leaves."),
])
def check_crossover(answer):
    return [answer(2, 32), answer(12, 64), answer(4, 7)]


# 4: count modulo three

def two_mirrors(digit):
    # two reflections, at an angle of half the turn, make a rotation
    half = math.pi / 3 * digit
    return torch.tensor([[1.0, 0.0], [math.cos(half), math.sin(half)]])


def quarter_turns(digit):
    half = math.pi / 4 * digit
    return torch.tensor([[1.0, 0.0], [math.cos(half), math.sin(half)]])


def one_mirror(digit):
    half = math.pi / 3 * digit
    return torch.tensor([[math.cos(half), math.sin(half)]] * 2)


def half_a_half(digit):
    quarter = math.pi / 6 * digit
    return torch.tensor([[1.0, 0.0], [math.cos(quarter), math.sin(quarter)]])


@check.exercise(4, "Count modulo three", reference=two_mirrors, tolerance=0.01, mistakes=[
    (quarter_turns, "That counts modulo four. Two reflections turn by twice the angle between their keys."),
    (one_mirror, "The same reflection twice is no change at all: the keys must differ."),
    (half_a_half, "Twice the angle between the keys must be 120 degrees times the digit; yours is 60."),
])
def check_counting(answer):
    cosines = []
    for digit in (0, 1, 2):
        keys = torch.as_tensor(answer(digit), dtype=torch.float32)
        if keys.shape != (2, 2):
            raise Wrong("Return two keys of two numbers, (2, 2).")
        if not torch.allclose(keys.norm(dim=1), torch.ones(2), atol=1e-3):
            raise Wrong("Both keys must have the length 1.")
        state = torch.eye(2)  # (K, V)
        for key in keys:
            state = delta_step(state, key, torch.zeros(2), 2.0)
        cosines += [state.trace() / 2, state.det()]  # the cosine of the turn; 1 for a rotation
        thrice = state @ state @ state
        cosines.append((thrice - torch.eye(2)).abs().max() < 0.01)  # three times the digit is 0 modulo 3
    return [float(each) for each in cosines]


# 5: the balance

def balance(p):
    share = F.one_hot(p.argmax(-1), p.size(-1)).float().mean(0)  # (E,)
    return p.size(-1) * (share * p.mean(0)).sum()


def without_the_number(p):
    return balance(p) / p.size(-1)


def probabilities_only(p):
    return p.size(-1) * p.mean(0).square().sum()


def shares_only(p):
    share = F.one_hot(p.argmax(-1), p.size(-1)).float().mean(0)
    return p.size(-1) * share.square().sum() + 0 * p.sum()


def a_sum_for_a_mean(p):
    share = F.one_hot(p.argmax(-1), p.size(-1)).float().mean(0)
    return p.size(-1) * (share * p.sum(0)).sum()


@check.exercise(5, "The balance", reference=balance, mistakes=[
    (without_the_number, "Multiply by the number of experts, so that an even split gives 1."),
    (probabilities_only, "One factor is the share of tokens that chose the expert, which is counted."),
    (shares_only, "Counted shares have no gradient. One factor is the mean probability."),
    (a_sum_for_a_mean, "P is the mean of the probabilities over tokens, not their sum."),
])
def check_balance(answer):
    p = (2 * torch.randn(40, 5)).softmax(-1).requires_grad_()  # (N, E)
    loss = answer(p)
    if not (isinstance(loss, torch.Tensor) and loss.requires_grad):
        raise Wrong("Counted shares have no gradient. One factor is the mean probability: return a tensor with a gradient.")
    loss.backward()
    return [loss.detach(), p.grad]
