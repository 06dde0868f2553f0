"""Exercises of the chapter on preferences and rewards."""
import math

import torch

from tutorlib.exercises.sheet import ExerciseSheet

check = ExerciseSheet()


# 1: how often it is preferred

def chance(reward, other):
    return 1 / (1 + math.exp(other - reward))


def share_of_the_sum(reward, other):
    return reward / (reward + other)


def the_other_way(reward, other):
    return 1 / (1 + math.exp(reward - other))


def the_larger_always(reward, other):
    return float(reward > other)


@check.exercise(1, "How often it is preferred", reference=chance, mistakes=[
    (share_of_the_sum, "A share of rewards breaks when one is negative: take the sigmoid of their difference."),
    (the_other_way, "The larger the first reward, the larger the chance: look at the sign in the exponent."),
    (the_larger_always, "Readers are not sure: a small difference is decided nearly by a coin."),
])
def check_chance(answer):
    return [float(answer(2.0, 1.0)), float(answer(0.5, 3.0)), float(answer(1.0, 1.5))]


# 2: the margin of DPO

def margin(policy, reference, beta):
    # log-probabilities (N, 2): the chosen answer, the other one
    gained = policy - reference  # (N, 2)
    return beta * (gained[:, 0] - gained[:, 1])  # (N,)


def without_reference(policy, reference, beta):
    return beta * (policy[:, 0] - policy[:, 1])


def chosen_alone(policy, reference, beta):
    return beta * (policy - reference)[:, 0]


def without_beta(policy, reference, beta):
    gained = policy - reference
    return gained[:, 0] - gained[:, 1]


@check.exercise(2, "The margin of DPO", reference=margin, mistakes=[
    (without_reference, "What the start found probable is no merit: subtract the reference's log-probability."),
    (chosen_alone, "A pair is won by a difference: the other answer counts, too."),
    (without_beta, "A margin is measured in rewards, and a nat of log-ratio is worth beta."),
])
def check_margin(answer):
    return answer(-5 * torch.rand(6, 2), -5 * torch.rand(6, 2), 0.1)


# 3: a group's advantages

def advantages(rewards):
    # rewards (P, G)
    centered = rewards - rewards.mean(1, keepdim=True)
    spread = centered.square().mean(1, keepdim=True).sqrt()  # (P, 1)
    return centered / (spread + 1e-6)


def over_the_batch(rewards):
    return (rewards - rewards.mean()) / (rewards.std(correction=0) + 1e-6)


def over_prompts(rewards):
    return advantages(rewards.T).T


def centered_only(rewards):
    return rewards - rewards.mean(1, keepdim=True)


def not_a_number(rewards):
    centered = rewards - rewards.mean(1, keepdim=True)
    return centered / centered.square().mean(1, keepdim=True).sqrt()


@check.exercise(3, "A group's advantages", reference=advantages, mistakes=[
    (over_the_batch, "An answer is compared with others to the same question: mean and spread are one a row."),
    (over_prompts, "A row holds the answers to one question: take the mean along the other axis."),
    (centered_only, "Divide by the spread of the group, too."),
    (not_a_number, "Where all answers of a group earn the same there is no spread: add 1e-6 before you divide."),
])
def check_advantages(answer):
    rewards = torch.rand(3, 5) * torch.tensor([[1.0], [10.0], [2.0]])
    found = answer(torch.cat([rewards, torch.ones(1, 5)]))
    return [found[:3], found[3].nan_to_num(99.0)]


# 4: the price of the hack

def highest_price(gain, divergence):
    # moving pays while the gain in reward exceeds beta times the nats
    return gain / divergence


def product(gain, divergence):
    return gain * divergence


def upside_down(gain, divergence):
    return divergence / gain


@check.exercise(4, "The price at which a hack stops to pay", reference=highest_price, mistakes=[
    (product, "Set what is gained equal to what is paid: gain = beta times nats."),
    (upside_down, "Set what is gained equal to what is paid: gain = beta times nats, and solve for beta."),
])
def check_price(answer):
    return [float(answer(0.8, 4.0)), float(answer(0.3, 6.0))]
