"""Exercises of the chapter on image generation."""
import math

import torch

from tutorlib.exercises.sheet import ExerciseSheet, Wrong

check = ExerciseSheet()


# 1: many small steps at once

def after_steps(clean, noise, betas):
    left = (1 - betas).prod()  # of the variance of the example
    return left.sqrt() * clean + (1 - left).sqrt() * noise


def without_roots(clean, noise, betas):
    left = (1 - betas).prod()
    return left * clean + (1 - left) * noise


def roots_of_a_sum(clean, noise, betas):
    left = 1 - betas.sum()
    return left.sqrt() * clean + betas.sum().sqrt() * noise


def signal_and_noise_sum_to_one(clean, noise, betas):
    left = (1 - betas).prod().sqrt()
    return left * clean + (1 - left) * noise


def noise_of_the_last_step(clean, noise, betas):
    return (1 - betas).prod().sqrt() * clean + betas[-1].sqrt() * noise


@check.exercise(1, "All steps at once", reference=after_steps, mistakes=[
    (without_roots, "What multiplies in each step is a variance; the example itself is scaled by its root."),
    (roots_of_a_sum, "A step keeps a share of what is there, so shares multiply. They do not add up."),
    (signal_and_noise_sum_to_one, "Here the variances sum to one, not the factors: the noise has the root of 1 - left."),
    (noise_of_the_last_step, "The noise of the earlier steps is still there, shrunk as the example is."),
])
def check_steps(answer):
    return answer(torch.randn(2, 3), torch.randn(2, 3), torch.tensor([0.1, 0.2, 0.05, 0.3]))


# 2: the image behind a velocity

def image_of(noisy, velocity, time):
    # x_t = x_0 + t (e - x_0): go back by t
    return noisy - time * velocity


def whole_way(noisy, velocity, time):
    return noisy - velocity


def forward(noisy, velocity, time):
    return noisy + time * velocity


def the_noise(noisy, velocity, time):
    return noisy + (1 - time) * velocity


def the_rest_backward(noisy, velocity, time):
    return noisy - (1 - time) * velocity


@check.exercise(2, "The image behind a velocity", reference=image_of, mistakes=[
    (whole_way, "At time t only a part t of the way lies behind you."),
    (forward, "The velocity e - x_0 points to the noise. You want the other end."),
    (the_noise, "That is the noise: you went on to time 1."),
    (the_rest_backward, "1 - t is the way that is left to time 1; you want to go back to time 0."),
])
def check_image(answer):
    return answer(torch.randn(2, 3), torch.randn(2, 3), 0.3)


# 3: one step back, from a guess of the image

def step_back(noisy, guess, now, then):
    # on the cosine path; the noise that explains x_t with this guess
    noise = (noisy - math.cos(now * math.pi / 2) * guess) / math.sin(now * math.pi / 2)
    return math.cos(then * math.pi / 2) * guess + math.sin(then * math.pi / 2) * noise


def on_the_straight_path(noisy, guess, now, then):
    noise = (noisy - (1 - now) * guess) / now
    return (1 - then) * guess + then * noise


def noisy_kept(noisy, guess, now, then):
    return math.cos(then * math.pi / 2) * guess + math.sin(then * math.pi / 2) * noisy


def all_the_way(noisy, guess, now, then):
    return guess


def times_exchanged(noisy, guess, now, then):
    return step_back(noisy, guess, then, now)


@check.exercise(3, "One step back", reference=step_back, mistakes=[
    (on_the_straight_path, "These are the factors of the straight path. This one has a cosine and a sine."),
    (noisy_kept, "x_t holds signal too. Take the guess out of it first; what is left is the noise."),
    (all_the_way, "That jumps to time 0. A step stops at `then`, with some noise left."),
    (times_exchanged, "`now` is the noisier one: with it x_t is taken apart, with `then` it is mixed anew."),
])
def check_step(answer):
    return answer(torch.randn(2, 3), torch.randn(2, 3), 0.7, 0.4)


# 4: guidance

def guided_guess(given, free, weight):
    return free + weight * (given - free)


def weight_from_zero(given, free, weight):
    return given + weight * (given - free)


def the_other_way(given, free, weight):
    return given + weight * (free - given)


def shares(given, free, weight):
    return weight * given + free


@check.exercise(4, "Guidance", reference=guided_guess, mistakes=[
    (weight_from_zero, "So counts the paper: its 0 is our 1. Here weight 1 must give `given`."),
    (the_other_way, "Weight 1 must give `given`, and more lead further away from `free`."),
    (shares, "The factors of `given` and `free` must sum to one: with equal guesses nothing changes."),
])
def check_guidance(answer):
    given, free = torch.randn(2, 3), torch.randn(2, 3)
    if torch.as_tensor(answer(given, given, 3.0)).shape != given.shape:
        raise Wrong("One guess for each number of `given`: the shape stays.")
    return [answer(given, free, weight) for weight in (0.0, 1.0, 2.5)]


# 5: the Frechet distance of one feature

def frechet_of_one(features, others):
    return (features.mean() - others.mean()) ** 2 + (features.std() - others.std()) ** 2


def variances(features, others):
    return (features.mean() - others.mean()) ** 2 + (features.var() - others.var()).abs()


def means_only(features, others):
    return (features.mean() - others.mean()) ** 2


def not_squared(features, others):
    return (features.mean() - others.mean()).abs() + (features.std() - others.std()).abs()


def rooted(features, others):
    return frechet_of_one(features, others).sqrt()


@check.exercise(5, "The Fréchet distance of one feature", reference=frechet_of_one, mistakes=[
    (variances, "s² + t² - 2 st is the square of what? Not of the difference of variances."),
    (means_only, "Two distributions with one mean may still differ: in their spread."),
    (not_squared, "The distance is meant squared, both of its terms."),
    (rooted, "Leave it squared, as the page does."),
])
def check_frechet(answer):
    return answer(torch.randn(50) * 2 + 1, torch.randn(60))
