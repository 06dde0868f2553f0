"""Exercises of the chapter on image generation."""
import math

import torch

from tutorlib.exercises.sheet import ExerciseSheet

check = ExerciseSheet()


# 1: the best guess, of centers that are not equally frequent

def best_of_counted(noisy, centers, counts, a, s):
    far = ((noisy[:, None] - a * centers) ** 2).sum(-1)  # (B, M)
    share = (counts.log() - far / (2 * s**2)).softmax(-1)  # (B, M)
    return share @ centers  # (B, D)


def counts_forgotten(noisy, centers, counts, a, s):
    return best_of_counted(noisy, centers, torch.ones_like(counts), a, s)


def likeliest_center(noisy, centers, counts, a, s):
    far = ((noisy[:, None] - a * centers) ** 2).sum(-1)
    return centers[(counts.log() - far / (2 * s**2)).argmax(1)]


def shares_not_one(noisy, centers, counts, a, s):
    far = ((noisy[:, None] - a * centers) ** 2).sum(-1)
    return (counts / counts.sum() * (-far / (2 * s**2)).softmax(-1)) @ centers


def counts_not_logged(noisy, centers, counts, a, s):
    return best_of_counted(noisy, centers, counts.exp(), a, s)


def centers_not_scaled(noisy, centers, counts, a, s):
    far = ((noisy[:, None] - centers) ** 2).sum(-1)
    return (counts.log() - far / (2 * s**2)).softmax(-1) @ centers


@check.exercise(1, "Frequent and rare", reference=best_of_counted, mistakes=[
    (counts_forgotten, "By Bayes' rule a center's share is proportional to how often it is drawn, too."),
    (likeliest_center, "The likeliest center is not the best guess. The mean of all centers, each by its share, is."),
    (shares_not_one, "The shares must sum to 1 after the counts have entered."),
    (counts_not_logged, "Within softmax a factor becomes a summand: its logarithm."),
    (centers_not_scaled, "A center c gives noisy examples around a · c, not around c."),
])
def check_counted(answer):
    counts = torch.tensor([1.0, 2.0, 6.0, 1.0, 3.0])
    return [answer(torch.randn(4, 3), torch.randn(5, 3), counts, a, s) for a, s in ((0.7, 0.5), (0.2, 0.9))]


# 2: the loss of a network that predicts the noise, on the circle

def noise_loss(network, images, y, t, e):
    angle = t.view(-1, 1, 1, 1) * math.pi / 2
    x = angle.cos() * images + angle.sin() * e  # (B, 1, H, W)
    return (network(x, t, y) - e).square().mean()


def on_the_line(network, images, y, t, e):
    at_t = t.view(-1, 1, 1, 1)
    return (network((1 - at_t) * images + at_t * e, t, y) - e).square().mean()


def velocity_as_target(network, images, y, t, e):
    angle = t.view(-1, 1, 1, 1) * math.pi / 2
    x = angle.cos() * images + angle.sin() * e
    return (network(x, t, y) - (e - images)).square().mean()


def ends_exchanged(network, images, y, t, e):
    angle = t.view(-1, 1, 1, 1) * math.pi / 2
    x = angle.sin() * images + angle.cos() * e
    return (network(x, t, y) - e).square().mean()


def part_of_the_noise(network, images, y, t, e):
    angle = t.view(-1, 1, 1, 1) * math.pi / 2
    x = angle.cos() * images + angle.sin() * e
    return (network(x, t, y) - angle.sin() * e).square().mean()


@check.exercise(2, "Another loss", reference=noise_loss, mistakes=[
    (on_the_line, "That is the line. On the circle a and s are the cosine and the sine of t · π/2."),
    (velocity_as_target, "This network says the noise alone, not the difference of noise and image."),
    (ends_exchanged, "At time 0 there is the image, at time 1 the noise."),
    (part_of_the_noise, "The target is e itself, not the share of it that is in x_t."),
])
def check_loss(answer):
    images, e = torch.randn(3, 1, 2, 2), torch.randn(3, 1, 2, 2)
    return answer(lambda x, t, y: x * (1 + t + y).view(-1, 1, 1, 1), images, torch.tensor([0, 2, 1]),
                  torch.tensor([0.2, 0.5, 0.9]), e)


# 3: a network of the line, asked on another path

def image_on_a_path(network, noisy, a, s):
    # noisy / (a + s) lies on the line, at time s / (a + s)
    x, t = noisy / (a + s), s / (a + s)
    return x - t * network(x, t)


def not_divided(network, noisy, a, s):
    t = s / (a + s)
    return noisy - t * network(noisy, t)


def time_not_divided(network, noisy, a, s):
    x = noisy / (a + s)
    return x - s * network(x, s)


def multiplied_back(network, noisy, a, s):
    return (a + s) * image_on_a_path(network, noisy, a, s)


def the_noise(network, noisy, a, s):
    x, t = noisy / (a + s), s / (a + s)
    return x + (1 - t) * network(x, t)


@check.exercise(3, "On another path", reference=image_on_a_path, mistakes=[
    (not_divided, "The network has only seen mixtures whose two factors sum to 1."),
    (time_not_divided, "Divide s by a + s, too: the factor of the noise is the time of the line."),
    (multiplied_back, "The guess is of the image itself, which no division has touched."),
    (the_noise, "That is the guess of the noise: you went on to time 1."),
])
def check_image(answer):
    return answer(lambda x, t: x.tanh() * (2 + t), torch.randn(2, 3), 0.6, 0.8)


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
