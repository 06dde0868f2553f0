"""Exercises of the chapter on image generation."""
import math

import torch

from tutorlib.exercises.sheet import ExerciseSheet

check = ExerciseSheet()


# 1: the best guess, of the centers themselves

def best_of_centers(noisy, centers, a, s):
    far = ((noisy[:, None] - a * centers) ** 2).sum(-1)  # (B, M)
    return (-far / (2 * s**2)).softmax(-1) @ centers  # (B, D)


def nearest_center(noisy, centers, a, s):
    far = ((noisy[:, None] - a * centers) ** 2).sum(-1)
    return centers[far.argmin(1)]


def centers_not_scaled(noisy, centers, a, s):
    far = ((noisy[:, None] - centers) ** 2).sum(-1)
    return (-far / (2 * s**2)).softmax(-1) @ centers


def distance_not_squared(noisy, centers, a, s):
    far = ((noisy[:, None] - a * centers) ** 2).sum(-1).sqrt()
    return (-far / (2 * s**2)).softmax(-1) @ centers


def deviation_for_variance(noisy, centers, a, s):
    far = ((noisy[:, None] - a * centers) ** 2).sum(-1)
    return (-far / (2 * s)).softmax(-1) @ centers


def scaled_mean(noisy, centers, a, s):
    return a * best_of_centers(noisy, centers, a, s)


@check.exercise(1, "The best guess", reference=best_of_centers, mistakes=[
    (nearest_center, "The likeliest center is not the best guess. The mean of all centers, each by its probability, is."),
    (centers_not_scaled, "A center c gives noisy examples around a · c, not around c."),
    (distance_not_squared, "The density of a normal distribution falls with the squared distance."),
    (deviation_for_variance, "The squared distance is divided by twice the variance, and s is the deviation."),
    (scaled_mean, "That is the mean of a · x_0. The guess is of x_0."),
])
def check_best(answer):
    return [answer(torch.randn(4, 3), torch.randn(5, 3), a, s) for a, s in ((0.7, 0.5), (0.2, 0.9))]


# 2: the loss of a training step

def loss_on_the_line(network, images, y, t, e):
    at_t = t.view(-1, 1, 1, 1)
    x = (1 - at_t) * images + at_t * e  # (B, 1, H, W)
    return (network(x, t, y) - (e - images)).square().mean()


def time_exchanged(network, images, y, t, e):
    return loss_on_the_line(network, e, y, t, images)


def noise_as_target(network, images, y, t, e):
    at_t = t.view(-1, 1, 1, 1)
    return (network((1 - at_t) * images + at_t * e, t, y) - e).square().mean()


def image_less_noise(network, images, y, t, e):
    at_t = t.view(-1, 1, 1, 1)
    return (network((1 - at_t) * images + at_t * e, t, y) - (images - e)).square().mean()


def clean_input(network, images, y, t, e):
    return (network(images, t, y) - (e - images)).square().mean()


def sum_of_squares(network, images, y, t, e):
    return loss_on_the_line(network, images, y, t, e) * images.numel()


@check.exercise(2, "The loss", reference=loss_on_the_line, mistakes=[
    (time_exchanged, "At time 0 there is the image, at time 1 the noise."),
    (noise_as_target, "The velocity is the slope of the path in t: what is gained and what is lost."),
    (image_less_noise, "That points from noise to image. Time runs the other way."),
    (clean_input, "The network gets the mixture at its time, not the image."),
    (sum_of_squares, "Take the mean of the squares, as the page does."),
])
def check_loss(answer):
    images, e = torch.randn(3, 1, 2, 2), torch.randn(3, 1, 2, 2)
    return answer(lambda x, t, y: x * (1 + t + y).view(-1, 1, 1, 1), images, torch.tensor([0, 2, 1]),
                  torch.tensor([0.2, 0.5, 0.9]), e)


# 3: the image behind a velocity

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


@check.exercise(3, "The image behind a velocity", reference=image_of, mistakes=[
    (whole_way, "At time t only a part t of the way lies behind you."),
    (forward, "The velocity e - x_0 points to the noise. You want the other end."),
    (the_noise, "That is the noise: you went on to time 1."),
    (the_rest_backward, "1 - t is the way that is left to time 1; you want to go back to time 0."),
])
def check_image(answer):
    return answer(torch.randn(2, 3), torch.randn(2, 3), 0.3)


# 4: one step back, from a guess of the image

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


@check.exercise(4, "One step back", reference=step_back, mistakes=[
    (on_the_straight_path, "These are the factors of the straight path. This one has a cosine and a sine."),
    (noisy_kept, "x_t holds signal too. Take the guess out of it first; what is left is the noise."),
    (all_the_way, "That jumps to time 0. A step stops at `then`, with some noise left."),
    (times_exchanged, "`now` is the noisier one: with it x_t is taken apart, with `then` it is mixed anew."),
])
def check_step(answer):
    return answer(torch.randn(2, 3), torch.randn(2, 3), 0.7, 0.4)


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
