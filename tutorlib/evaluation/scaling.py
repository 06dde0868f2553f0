"""Scaling laws: the loss as a floor and a power of each size, L = E + A / N^a + B / D^b (Hoffmann et al. 2022, equation 2)."""

from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor

ROUNDS, POINTS = 5, 25  # of the search for the exponents: each round looks at POINTS values and then zooms in
SMALLEST, LARGEST = 0.02, 2.0  # exponents that are looked at


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


def _check_positive(name: str, values: Tensor) -> None:
    wrong = values[~((values > 0) & values.isfinite())]  # also what is NaN
    if len(wrong):
        raise ValueError(f"{name} must be positive and finite, got {wrong[0]:g}")
