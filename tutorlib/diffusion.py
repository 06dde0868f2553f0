"""Examples from noise: the path from data to noise, what a network predicts on it, and the ways back.

Time runs from 0, data, to 1, noise. A *path* says how much of each an example has on its way: x_t = a(t) x_0 + s(t) e. A
*denoiser* is anything called as `denoise(noisy (B, ...), time (B,)) -> Parts`, its best guess at what the noisy example was
mixed from: a network, a formula, or another denoiser with something done to it. Samplers see nothing else, so that one of
them serves every network and every path. Like `generation`, which decodes tokens, this room knows no model.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from tutorlib.arguments import check_whole

SMALLEST_SIGNAL = 1e-3  # a predicted noise is not divided by less: at time 1 there is nothing left to divide by


class Coefficients(NamedTuple):
    """a and s of x_t = a x_0 + s e, and their slopes, by a clock for which a · noise_slope - s · signal_slope = 1."""

    signal: Tensor
    noise: Tensor
    signal_slope: Tensor
    noise_slope: Tensor


class Parts(NamedTuple):
    """What a noisy example is mixed from: the clean example and the noise, both (B, ...)."""

    clean: Tensor
    noise: Tensor


Path = Callable[[Tensor], Coefficients]
Denoise = Callable[[Tensor, Tensor], Parts]


def straight(time: Tensor) -> Coefficients:
    """Of flow matching (Lipman et al. 2023; Liu et al. 2023): x_t = (1 - t) x_0 + t e."""
    one = torch.ones_like(time)
    return Coefficients(1 - time, time, -one, one)


def cosine(time: Tensor) -> Coefficients:
    """Of diffusion (Nichol & Dhariwal 2021, without their offset): x_t = cos(πt/2) x_0 + sin(πt/2) e. The variance stays."""
    signal, noise = (time * math.pi / 2).cos().clamp(min=0), (time * math.pi / 2).sin()
    return Coefficients(signal, noise, -noise, signal)


def chain(betas: Tensor) -> Path:
    """Of diffusion in N steps (Ho et al. 2020): step n keeps √(1 - betas[n]) of an example and adds √betas[n] of fresh noise.

    After n steps √(Π (1 - beta)) is left: equation 4 of the paper. The path knows the times n/N; others are rounded to them.
    Raises ValueError for anything but a vector of shares in (0, 1).
    """
    if betas.dim() != 1 or not len(betas) or not ((betas > 0) & (betas < 1)).all():
        raise ValueError(f"betas must be a vector of numbers in (0, 1), got {betas}")
    kept = torch.cat([betas.new_ones(1), 1 - betas]).double().cumprod(0)  # (N + 1,)

    def path(time: Tensor) -> Coefficients:
        left = kept.to(time.device)[(time * len(betas)).round().long()]
        signal, noise = left.sqrt().to(time.dtype), (1 - left).sqrt().to(time.dtype)
        return Coefficients(signal, noise, -noise, signal)

    return path


def linear_betas(steps: int = 1000, first: float = 1e-4, last: float = 0.02) -> Tensor:
    """The schedule of Ho et al. 2020: (N,), rising in a line."""
    check_whole("steps", steps)
    return torch.linspace(first, last, steps)


def at(path: Path, time: Tensor, example: Tensor) -> Coefficients:
    """The coefficients at each time (B,), shaped to multiply examples (B, ...), in their dtype."""
    if time.shape != example.shape[:1]:
        raise ValueError(f"time must have one number for each of {len(example)} examples, got the shape {tuple(time.shape)}")
    shape = (-1, *[1] * (example.dim() - 1))
    return Coefficients(*(number.view(shape).to(example.dtype) for number in path(time)))


def mix(clean: Tensor, noise: Tensor, c: Coefficients) -> Tensor:
    """x_t = a x_0 + s e: (B, ...)."""
    return c.signal * clean + c.noise * noise


class Target(NamedTuple):
    """What a network is to predict, and how the parts follow from it.

    `of(parts, coefficients)` is the target, and `parts(predicted, noisy, coefficients)` undoes it.
    """

    of: Callable[[Parts, Coefficients], Tensor]
    parts: Callable[[Tensor, Tensor, Coefficients], Parts]


def _from_noise(predicted: Tensor, noisy: Tensor, c: Coefficients) -> Parts:
    return Parts((noisy - c.noise * predicted) / c.signal.clamp(min=SMALLEST_SIGNAL), predicted)


CLEAN = Target(lambda parts, c: parts.clean,
               lambda predicted, noisy, c: Parts(predicted, (noisy - c.signal * predicted) / c.noise))
NOISE = Target(lambda parts, c: parts.noise, _from_noise)
# The slope of the path: e - x_0 on the straight one; on the others the v of Salimans & Ho 2022, a e - s x_0.
VELOCITY = Target(lambda parts, c: c.signal_slope * parts.clean + c.noise_slope * parts.noise,
                  lambda predicted, noisy, c: Parts(c.noise_slope * noisy - c.noise * predicted,
                                                    c.signal * predicted - c.signal_slope * noisy))


def denoiser(network: Callable[..., Tensor], target: Target, path: Path, labels: Tensor | None = None) -> Denoise:
    """The denoiser that a network `network(noisy, time, labels)` makes with the target that it was trained on."""
    def denoise(noisy: Tensor, time: Tensor) -> Parts:
        return target.parts(network(noisy, time, labels), noisy, at(path, time, noisy))  # (B, ...) each
    return denoise


def guided(conditional: Denoise, unconditional: Denoise, weight: float) -> Denoise:
    """Classifier-free guidance (Ho & Salimans 2022): unconditional + weight · (conditional - unconditional).

    Weight 0 is the unconditional denoiser and 1 the conditional one; above 1 the condition is exaggerated. (The paper's
    weight is this one less 1.)
    """
    def denoise(noisy: Tensor, time: Tensor) -> Parts:
        pairs = zip(unconditional(noisy, time), conditional(noisy, time), strict=True)
        return Parts(*(without + weight * (given - without) for without, given in pairs))  # (B, ...) each
    return denoise


def bounded(denoise: Denoise, path: Path, low: float = -1.0, high: float = 1.0) -> Denoise:
    """The denoiser with its clean example held in [low, high], as the data are, and the noise that then remains."""
    def bound(noisy: Tensor, time: Tensor) -> Parts:
        clean = denoise(noisy, time).clean.clamp(low, high)  # (B, ...)
        return CLEAN.parts(clean, noisy, at(path, time, noisy))
    return bound


def exact(centers: Tensor, variance: float, path: Path) -> Denoise:
    """The best denoiser there is for data drawn around centers (M, ...) with this variance: the mean of x_0, given x_t.

    With variance 0 the data are the centers themselves: the best denoiser of a finite training set, which no network can
    beat on that set, and which leads back to nothing but its members.
    """
    flat = centers.flatten(1)  # (M, D)

    def denoise(noisy: Tensor, time: Tensor) -> Parts:
        x, c = noisy.flatten(1), at(path, time, noisy.flatten(1))  # (B, D), (B, 1) each
        total = c.signal**2 * variance + c.noise**2  # (B, 1): the variance of x_t around a · center
        # |x - a · center|² without |x|², which every center has
        away = c.signal**2 * flat.square().sum(1) - 2 * c.signal * (x @ flat.T)  # (B, M)
        center = (-away / (2 * total)).softmax(-1) @ flat  # (B, D): each center by its probability
        clean = center + c.signal * variance / total * (x - c.signal * center)  # (B, D)
        return CLEAN.parts(clean.view_as(noisy), noisy, at(path, time, noisy))

    return denoise


def posterior(parts: Parts, noisy: Tensor, now: Coefficients, then: Coefficients) -> tuple[Tensor, Tensor]:
    """Mean (B, ...) and variance of x_then, earlier than x_now, given both x_now and x_0 (Ho et al. 2020, equation 7).

    Of the way from then to now, x_now = r x_then + fresh noise, with r = a_now / a_then.
    """
    ratio = now.signal / then.signal
    share = (ratio * then.noise / now.noise) ** 2  # of x_now's variance, what x_then brought with it
    mean = then.signal * (1 - share) * parts.clean + share / ratio * noisy
    return mean, then.noise**2 * (1 - share)


def step(parts: Parts, now: Coefficients, then: Coefficients, eta: float = 0.0, fresh: Tensor | float = 0.0) -> Tensor:
    """From x_now to the earlier x_then (Song et al. 2021, DDIM, equation 12): mix the parts anew, with less noise.

    With eta above 0 a part of the noise is replaced by `fresh` noise; with 1 the step draws from `posterior`.
    """
    share = (now.signal / then.signal * then.noise / now.noise) ** 2
    new = eta**2 * then.noise**2 * (1 - share)  # the variance that is replaced
    kept = (then.noise**2 - new).clamp(min=0).sqrt()
    return then.signal * parts.clean + kept * parts.noise + new.clamp(min=0).sqrt() * fresh


@torch.no_grad()
def walk_back(denoise: Denoise, path: Path, noise: Tensor, steps: int, *, eta: float = 0.0, first: float = 1.0,
         generator: torch.Generator | None = None) -> Iterator[tuple[Tensor, Parts]]:
    """From noise (B, ...) at time 1 to time 0 in equal steps; after each the example, and the parts that were seen in the last.

    eta 0 is DDIM, deterministic; eta 1 is the ancestral sampling of DDPM. On the straight path eta 0 is `euler`. With an
    earlier time `first` the noise is taken for the noisy example of that time, where a predicted noise has a signal left to
    divide by. Raises ValueError for steps below 1, an eta outside [0, 1], and a first outside (0, 1].
    """
    check_whole("steps", steps)
    if not 0 <= eta <= 1:
        raise ValueError(f"eta must lie in [0, 1], got {eta}")
    if not 0 < first <= 1:
        raise ValueError(f"first must lie in (0, 1], got {first}")
    noisy = noise
    for now, then in pairwise(torch.linspace(first, 0, steps + 1).tolist()):
        before, after = (noise.new_full((len(noise),), time) for time in (now, then))  # (B,) each
        parts = denoise(noisy, before)  # (B, ...) each
        fresh = torch.randn(noise.shape, generator=generator, dtype=noise.dtype).to(noise.device) if eta > 0 else 0.0
        noisy = step(parts, at(path, before, noise), at(path, after, noise), eta, fresh)  # (B, ...)
        yield noisy, parts


def sample_back(denoise: Denoise, path: Path, noise: Tensor, steps: int, *, eta: float = 0.0, first: float = 1.0,
           generator: torch.Generator | None = None) -> Tensor:
    """The end of `walk_back`: examples (B, ...)."""
    ((clean, _),) = deque(walk_back(denoise, path, noise, steps, eta=eta, first=first, generator=generator), maxlen=1)
    return clean


@torch.no_grad()
def euler(velocity: Callable[[Tensor, Tensor], Tensor], noise: Tensor, steps: int) -> Tensor:
    """Follow dx/dt = velocity(x (B, ...), time (B,)) from noise at time 1 to time 0 in equal straight steps: (B, ...)."""
    check_whole("steps", steps)
    noisy = noise
    for now, then in pairwise(torch.linspace(1, 0, steps + 1).tolist()):
        noisy = noisy + (then - now) * velocity(noisy, noise.new_full((len(noise),), now))  # (B, ...)
    return noisy
