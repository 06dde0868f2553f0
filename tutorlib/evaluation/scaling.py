"""Scaling laws: the loss as a floor and a power of each size, L = E + A / N^a + B / D^b (Hoffmann et al. 2022, equation 2).

Beside them what a budget buys: the FLOPs of a training, the best of several models that cost the same, and the power with
which the best size grows.
"""

import math
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor

from tutorlib.arguments import check_counts

ROUNDS, POINTS = 5, 25  # of the search for the exponents: each round looks at POINTS values and then zooms in
SMALLEST, LARGEST = 0.02, 2.0  # exponents that are looked at

# What FLOPs cost, for all pages: an A100's bfloat16 FLOPs a second by its data sheet, the share that the smallest Llama 2
# reached of it, and the price of an hour, which is an assumption.
PEAK, UTILIZATION, DOLLARS = 3.12e14, 0.39, 2.0


class ScalingLaw(NamedTuple):
    """L = floor + the sum of scale / size^exponent: floor is a number, scales and exponents are (k,), one for each size."""

    floor: float
    scales: Tensor
    exponents: Tensor

    def predict(self, sizes: Tensor) -> Tensor:
        """The loss at sizes (n, k) -> (n,). Raises ValueError for sizes of another k, or not positive."""
        if sizes.dim() != 2 or sizes.size(1) != len(self.scales):
            raise ValueError(f"sizes must have the shape (n, {len(self.scales)}), got {tuple(sizes.shape)}")
        _check_positive("sizes", sizes)
        return self.floor + sizes.double() ** -self.exponents @ self.scales


def fit_scaling_law(sizes: Tensor, losses: Tensor, *, floor: bool = True) -> ScalingLaw:
    """Fit the law to losses (n,) at sizes (n, k): k is 1 for parameters or tokens alone, 2 for both.

    Given the exponents the law is linear in floor and scales, which least squares then finds without any start value. So the
    exponents are searched on a grid, ever finer around the best, among laws with no negative term. The residuals are those of
    the loss itself; Hoffmann et al. take a Huber loss of its logarithm. `floor=False` sets the floor to 0. Raises ValueError
    for shapes that do not fit, sizes or losses that are not positive and finite, fewer losses than the law has numbers, and
    losses that rise.
    """
    sizes, losses = sizes.double(), losses.double()
    _check(sizes, losses, floor)
    low, high = (torch.full((sizes.size(1),), bound, dtype=torch.float64) for bound in (SMALLEST, LARGEST))
    best = low
    for _ in range(ROUNDS):
        axes = [torch.logspace(*torch.stack([a, b]).log10().tolist(), POINTS, dtype=torch.float64)
                for a, b in zip(low, high, strict=True)]
        exponents = torch.tensor(list(product(*(axis.tolist() for axis in axes))), dtype=torch.float64)  # (G, k)
        _, errors = _solve(sizes, losses, exponents, floor)
        best = exponents[errors.argmin()]  # (k,)
        if errors.min() == torch.inf:
            raise ValueError("losses must fall with every size: no law without a negative term comes near them")
        step = torch.stack([axis[1] / axis[0] for axis in axes])
        low, high = (best / step).clamp(min=SMALLEST), (best * step).clamp(max=LARGEST)
    terms = _solve(sizes, losses, best[None], floor)[0][0]  # (k + 1,)
    return ScalingLaw(terms[-1].item() if floor else 0.0, terms[:sizes.size(1)], best)


class Optimum(NamedTuple):
    """The lowest point of a parabola in ln N: loss = loss at the best size + bend (ln N - ln size)^2."""

    size: float
    loss: float
    bend: float

    def predict(self, sizes: Tensor) -> Tensor:
        """The loss at sizes (n,) -> (n,). Raises ValueError for sizes that are not positive."""
        _check_positive("sizes", sizes)
        return self.loss + self.bend * (sizes.double().log() - math.log(self.size)) ** 2


def fit_isoflop(sizes: Tensor, losses: Tensor) -> Optimum:
    """The best size among models that cost the same: a parabola through losses (n,) in the logarithm of sizes (n,).

    This is the second approach of Hoffmann et al. (2022), section 3.2. Raises ValueError for shapes that do not fit, values
    that are not positive and finite, fewer than three different sizes, a parabola without a bottom, and a bottom outside the
    sizes: what lies there was not measured.
    """
    sizes, losses = sizes.double(), losses.double()
    _check_pairs(sizes=sizes, losses=losses)
    if len(sizes.unique()) < 3:
        raise ValueError(f"sizes must have at least 3 different values, got {len(sizes.unique())}")
    middle = sizes.log().mean()
    x = sizes.log() - middle  # (n,)
    bend, slope, level = torch.linalg.lstsq(torch.stack([x**2, x, torch.ones_like(x)], 1), losses[:, None]).solution[:, 0]
    if bend <= 0:
        raise ValueError(f"losses must have a lowest point in between: the parabola bends down, by {bend:.3g}")
    size = (middle - slope / (2 * bend)).exp().item()
    if not sizes.min() < size < sizes.max():
        raise ValueError(f"the best size must lie between the sizes, {sizes.min():.4g} to {sizes.max():.4g}, got {size:.4g}")
    return Optimum(size, (level - slope**2 / (4 * bend)).item(), bend.item())


class Power(NamedTuple):
    """y = scale x^exponent."""

    scale: float
    exponent: float

    def predict(self, x: float) -> float:
        """y at a positive x."""
        return self.scale * x**self.exponent


def fit_power(x: Tensor, y: Tensor) -> Power:
    """The line through the logarithms of x (n,) and y (n,), by least squares.

    Raises ValueError for shapes that do not fit, values that are not positive and finite, and fewer than two different x.
    """
    x, y = x.double(), y.double()
    _check_pairs(x=x, y=y)
    if len(x.unique()) < 2:
        raise ValueError(f"x must have at least 2 different values, got {len(x.unique())}")
    away = x.log() - x.log().mean()  # (n,)
    exponent = (away @ y.log() / away.square().sum()).item()
    return Power((y.log().mean() - exponent * x.log().mean()).exp().item(), exponent)


def training_flops(vocabulary: int, length: int, width: int, layers: int) -> int:
    """FLOPs that a GPT takes to train on one token: 6 (12 n w^2 + V w + 2 n T w), hidden scores of attention included.

    n layers of width w whose feed-forward networks are 4 w wide, texts of T tokens, a vocabulary of V. Norms, biases,
    activations and the optimizer are left out. Raises ValueError for sizes that are no whole numbers from 1 on.
    """
    check_counts(vocabulary=vocabulary, length=length, width=width, layers=layers)
    return 6 * (12 * layers * width**2 + vocabulary * width + 2 * layers * length * width)


def _solve(sizes: Tensor, losses: Tensor, exponents: Tensor, floor: bool) -> tuple[Tensor, Tensor]:
    """For each row of exponents (G, k): the best scales and floor (G, k + floor), and the sum of squares (G,)."""
    columns = sizes ** -exponents[:, None, :]  # (G, n, k)
    if floor:
        columns = torch.cat([columns, torch.ones_like(columns[..., :1])], dim=2)
    units = columns.norm(dim=1, keepdim=True)  # (G, 1, k + floor): columns of very different size would lose digits
    terms = torch.linalg.lstsq(columns / units, losses[None, :, None].expand(len(exponents), -1, -1)).solution  # (G, k + 1, 1)
    errors = (columns / units @ terms).squeeze(2).sub(losses).square().sum(dim=1)  # (G,)
    terms = terms.squeeze(2) / units.squeeze(1)
    return terms, errors.masked_fill((terms < 0).any(dim=1), torch.inf)


def _check(sizes: Tensor, losses: Tensor, floor: bool) -> None:
    if sizes.dim() != 2 or losses.dim() != 1 or len(sizes) != len(losses):
        raise ValueError(f"sizes and losses must be (n, k) and (n,), got {tuple(sizes.shape)} and {tuple(losses.shape)}")
    _check_positive("sizes", sizes)
    _check_positive("losses", losses)
    numbers = 2 * sizes.size(1) + floor
    if len(losses) < numbers:
        raise ValueError(f"losses must be at least {numbers}, as many as the law has numbers, got {len(losses)}")


def _check_pairs(**both: Tensor) -> None:
    (one, first), (other, second) = both.items()
    if first.dim() != 1 or first.shape != second.shape:
        raise ValueError(f"{one} and {other} must both be (n,), got {tuple(first.shape)} and {tuple(second.shape)}")
    for name, values in both.items():
        _check_positive(name, values)


def _check_positive(name: str, values: Tensor) -> None:
    wrong = values[~((values > 0) & values.isfinite())]  # also what is NaN
    if len(wrong):
        raise ValueError(f"{name} must be positive and finite, got {wrong[0]:g}")
