"""Exercises of the chapter on optimization."""
import torch

from tutorlib.exercises.sheet import ExerciseSheet, Wrong

check = ExerciseSheet()


# 1: the largest learning rate

def largest_rate(hessian):
    return 2 / torch.linalg.eigvalsh(hessian).max()  # the largest curvature


def rate_from_smallest(hessian):
    return 2 / torch.linalg.eigvalsh(hessian).min()


def rate_of_newton(hessian):
    return 1 / torch.linalg.eigvalsh(hessian).max()


def rate_from_trace(hessian):
    return 2 / hessian.trace()


def rate_from_diagonal(hessian):
    return 2 / hessian.diagonal().max()


def rate_from_entries(hessian):
    return 2 / hessian.norm()


def best_rate(hessian):
    curvatures = torch.linalg.eigvalsh(hessian)
    return 2 / (curvatures.max() + curvatures.min())


@check.exercise(1, "The largest learning rate", reference=largest_rate, mistakes=[
    (rate_from_smallest, "The steepest direction breaks first: take the largest curvature, not the smallest."),
    (rate_of_newton, "At 1/L the steepest direction is solved in one step. It still converges up to twice that."),
    (rate_from_trace, "The trace adds all curvatures up; only the largest one counts."),
    (rate_from_diagonal, "The diagonal holds the curvatures along the axes; the steepest direction may lie between them."),
    (rate_from_entries, "The norm of all entries mixes every curvature; only the largest one counts."),
    (best_rate, "That is the fastest rate. The largest one at which descent still converges is larger."),
])
def check_largest_rate(answer):
    matrix = torch.randn(4, 4, dtype=torch.float64)
    hessian = matrix @ matrix.T + 0.3 * torch.eye(4, dtype=torch.float64)
    return [answer(torch.diag(torch.tensor([0.5, 4.0]))), answer(hessian)]


# 2: the limit with momentum

def momentum_limit(curvature, mu):
    return 2 * (1 + mu) / curvature  # 1 = -(1 + mu - eta h) - mu


def limit_without_momentum(curvature, mu):
    return 2 / curvature


def limit_of_effective_rate(curvature, mu):
    return 2 * (1 - mu) / curvature


def limit_divided(curvature, mu):
    return 2 / (curvature * (1 - mu))


def half_the_limit(curvature, mu):
    return (1 + mu) / curvature


@check.exercise(2, "The limit with momentum", reference=momentum_limit, mistakes=[
    (limit_without_momentum, "That is the limit for mu = 0. Put z = -1 into the equation and keep mu."),
    (limit_of_effective_rate, "The rule 1/(1 - mu) is for a gradient that stays the same. Here it changes sign at every step."),
    (limit_divided, "The rule 1/(1 - mu) holds where the gradient stays the same. At the limit it changes sign at every step."),
    (half_the_limit, "A factor of two is missing: with mu = 0 the limit must be 2 / curvature."),
])
def check_momentum_limit(answer):
    return [answer(2.0, 0.0), answer(10.0, 0.9), answer(0.5, 0.3)]


# 3: Nesterov's look ahead

def look_ahead(theta, velocity, gradient, rate, mu):
    velocity = mu * velocity - rate * gradient(theta + mu * velocity)
    return theta + velocity, velocity


def look_here(theta, velocity, gradient, rate, mu):
    velocity = mu * velocity - rate * gradient(theta)
    return theta + velocity, velocity


def look_too_far(theta, velocity, gradient, rate, mu):
    velocity = mu * velocity - rate * gradient(theta + velocity)
    return theta + velocity, velocity


def step_from_ahead(theta, velocity, gradient, rate, mu):
    ahead = theta + mu * velocity
    velocity = mu * velocity - rate * gradient(ahead)
    return ahead + velocity, velocity


def uphill(theta, velocity, gradient, rate, mu):
    velocity = mu * velocity + rate * gradient(theta + mu * velocity)
    return theta + velocity, velocity


def old_velocity(theta, velocity, gradient, rate, mu):
    return theta + velocity, mu * velocity - rate * gradient(theta + mu * velocity)


def forgotten_velocity(theta, velocity, gradient, rate, mu):
    return look_ahead(theta, velocity, gradient, rate, mu)[0], velocity


@check.exercise(3, "Nesterov's look ahead", reference=look_ahead, mistakes=[
    (look_here, "That is the heavy ball: take the gradient where the momentum alone would carry you."),
    (look_too_far, "The momentum alone carries you by mu times the velocity."),
    (step_from_ahead, "The point ahead is only looked at; the step starts from theta."),
    (uphill, "The gradient points uphill; the velocity must point down."),
    (old_velocity, "Move with the new velocity, not with the one that came in."),
    (forgotten_velocity, "The step is right. Return the new velocity with it, not the one that came in."),
])
def check_look_ahead(answer):
    def gradient(theta):
        return theta * torch.tensor([1.0, 6.0])

    theta, velocity, path = torch.tensor([1.0, -2.0]), torch.tensor([0.3, 0.1]), []
    for _ in range(3):
        theta, velocity = answer(theta, velocity, gradient, 0.1, 0.7)
        path += [theta, velocity]
    return path


# 4: clip by the norm of all

def clip(gradients, limit):
    norm = sum(gradient.square().sum() for gradient in gradients).sqrt()
    return [gradient * min(1.0, limit / norm.item()) for gradient in gradients]


def clip_each(gradients, limit):
    return [gradient * min(1.0, limit / gradient.norm().item()) for gradient in gradients]


def always_scale(gradients, limit):
    norm = torch.cat([gradient.flatten() for gradient in gradients]).norm()
    return [gradient * limit / norm for gradient in gradients]


def clip_values(gradients, limit):
    return [gradient.clamp(-limit, limit) for gradient in gradients]


def clip_by_sum(gradients, limit):
    norm = sum(gradient.norm().item() for gradient in gradients)
    return [gradient * min(1.0, limit / norm) for gradient in gradients]


def clip_by_square(gradients, limit):
    square = sum(gradient.square().sum().item() for gradient in gradients)
    return [gradient * min(1.0, limit / square) for gradient in gradients]


@check.exercise(4, "Clip by the norm of all", reference=clip, mistakes=[
    (clip_each, "One factor for all: scaled one by one, the gradients no longer point together where they did."),
    (always_scale, "A gradient that is short enough must stay as it is."),
    (clip_values, "Clipping every number turns the gradient; a common factor keeps its direction."),
    (clip_by_sum, "The norm of all is the root of the sum of squares, not the sum of the norms."),
    (clip_by_square, "The sum of squares is the norm squared: take the root before you compare with the limit."),
])
def check_clip(answer):
    large = [torch.tensor([[3.0, 0.0], [0.0, 4.0]]), torch.tensor([12.0])]  # norms 5 and 12, together 13
    small = [torch.tensor([0.3, 0.0]), torch.tensor([0.4])]
    kept = [gradient.clone() for gradient in large]
    clipped = list(answer(large, 2.6)) + list(answer(small, 1.0))
    if any(not torch.equal(now, before) for now, before in zip(large, kept, strict=True)):
        raise Wrong("Return new tensors and leave the given ones as they are.")
    return clipped


# 5: read the logs

DIAGNOSES = ["rate too large", "noise", "no gradient", "rate too small"]


@check.exercise(5, "Read the logs", reference=DIAGNOSES, mistakes=[
    (["rate too large", "rate too small", "no gradient", "noise"],
     "Compare the gradient with the progress: run B has large gradients and stands still, run D small progress that lasts."),
    (["rate too large", "noise", "rate too small", "no gradient"],
     "A gradient of 0.00 leaves no rate to raise. In run D the gradient is there, and the loss falls a little at every look."),
    (["noise", "rate too large", "no gradient", "rate too small"],
     "Noise does not multiply the loss by the same factor again and again; run A does, and its gradient grows along."),
])
def check_logs(answer):
    if not isinstance(answer, (list, tuple)) or len(answer) != 4:
        raise Wrong("Give a list of four diagnoses, for the runs A, B, C and D in this order.")
    if unknown := [name for name in answer if name not in DIAGNOSES]:
        raise Wrong(f"{unknown[0]!r} is not one of the four diagnoses; copy them from the text.")
    return list(answer)
