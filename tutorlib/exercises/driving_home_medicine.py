"""Exercises of the chapter on driving, home and medicine."""

import torch

from tutorlib.exercises.sheet import ExerciseSheet

check = ExerciseSheet()


# 1: how many of how many

def possible_rates(events, trials):
    z, rate = 1.96, events / trials
    middle = (rate + z**2 / (2 * trials)) / (1 + z**2 / trials)
    inside = rate * (1 - rate) / trials + z**2 / (4 * trials**2)
    reach = z * inside**0.5 / (1 + z**2 / trials)
    return middle - reach, middle + reach


def two_errors(events, trials):
    rate = events / trials
    reach = 1.96 * (rate * (1 - rate) / trials) ** 0.5
    return rate - reach, rate + reach


def one_error(events, trials):
    z, rate = 1.0, events / trials
    middle = (rate + z**2 / (2 * trials)) / (1 + z**2 / trials)
    inside = rate * (1 - rate) / trials + z**2 / (4 * trials**2)
    reach = z * inside**0.5 / (1 + z**2 / trials)
    return middle - reach, middle + reach


def not_divided(events, trials):
    z, rate = 1.96, events / trials
    reach = z * (rate * (1 - rate) / trials + z**2 / (4 * trials**2)) ** 0.5
    middle = rate + z**2 / (2 * trials)
    return middle - reach, middle + reach


@check.exercise(1, "How many of how many", reference=possible_rates, mistakes=[
    (two_errors, "With no event this has no width, as if the rate were known to be 0. Take Wilson's interval."),
    (one_error, "That is about 68 %. For 95 % take z = 1.96."),
    (not_divided, "Middle and reach are both divided by 1 + z² / n."),
])
def check_possible_rates(answer):
    return [list(answer(*each)) for each in ((0, 100), (3, 40), (40, 40))]


# 2: the right question to the expert

def correction(frames, labels, learner_frames, learner_did, expert_says):
    return torch.cat([frames, learner_frames]), torch.cat([labels, expert_says])


def own_actions(frames, labels, learner_frames, learner_did, expert_says):
    return torch.cat([frames, learner_frames]), torch.cat([labels, learner_did])


def forgets(frames, labels, learner_frames, learner_did, expert_says):
    return learner_frames, expert_says


def nothing_new(frames, labels, learner_frames, learner_did, expert_says):
    return frames, labels


@check.exercise(2, "One round of DAgger", reference=correction, mistakes=[
    (own_actions, "These labels are what the learner did. It would learn its own mistakes; ask the expert."),
    (forgets, "The frames of the rounds before are lost. DAgger learns from all of them."),
    (nothing_new, "The learner's own frames are missing."),
])
def check_correction(answer):
    frames, own = torch.randn(6, 8, 9), torch.randn(4, 8, 9)
    labels, did, says = torch.randn(6), torch.randn(4), torch.randn(4)
    return list(answer(frames, labels, own, did, says))


# 3: people held out

def held_out(people, who):
    return people != who, people == who


def swapped(people, who):
    return people == who, people != who


def a_share(people, who):
    rows = torch.arange(len(people)) % 5 == who % 5
    return ~rows, rows


def leaks(people, who):
    return torch.ones_like(people, dtype=torch.bool), people == who


@check.exercise(3, "A person held out", reference=held_out, mistakes=[
    (swapped, "The first mask is of the rows to learn from, the second of those to test on."),
    (a_share, "Rows are dealt by their place: the same person is on both sides. Split by person."),
    (leaks, "The person to test on is also learned from."),
])
def check_held_out(answer):
    people = torch.tensor([0, 0, 1, 1, 1, 2, 2, 3])
    return [list(answer(people, who)) for who in (0, 1, 3)]


# 4: what a threshold costs where the disease is rare

def cost_a_thousand(sensitivity, specificity, rate, miss, alarm):
    missed = rate * (1 - sensitivity) * miss
    alarmed = (1 - rate) * (1 - specificity) * alarm
    return 1000 * (missed + alarmed)


def of_found(sensitivity, specificity, rate, miss, alarm):
    return 1000 * (rate * sensitivity * miss + (1 - rate) * specificity * alarm)


def equally_many(sensitivity, specificity, rate, miss, alarm):
    return 1000 * ((1 - sensitivity) * miss + (1 - specificity) * alarm) / 2


def costs_swapped(sensitivity, specificity, rate, miss, alarm):
    return 1000 * (rate * (1 - sensitivity) * alarm + (1 - rate) * (1 - specificity) * miss)


@check.exercise(4, "What a threshold costs", reference=cost_a_thousand, mistakes=[
    (of_found, "Sensitivity counts the ill who are found; what costs is the rest."),
    (equally_many, "Only a share `rate` of the people is ill. Weigh the two mistakes by it."),
    (costs_swapped, "A missed case costs `miss`; a healthy one alarmed costs `alarm`."),
])
def check_cost(answer):
    return [answer(0.96, 0.99, 0.37, 20.0, 1.0), answer(0.9, 0.8, 0.01, 50.0, 2.0)]
