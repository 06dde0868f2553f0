"""Learning-rate schedules: functions from the step, counted from 0, to a factor of the optimizer's learning rate.

Steps are whole numbers. Raises ValueError for a warm-up that is negative or leaves no step of `total`.
"""

import math
from collections.abc import Callable
from numbers import Integral

Schedule = Callable[[int], float]


def constant() -> Schedule:
    """Always 1."""
    return lambda step: 1.0


def warmup_linear(warmup: int, total: int) -> Schedule:
    """Up from 1/warmup to 1 in `warmup` steps, then down a straight line that reaches 0 after `total` steps."""
    _check(warmup, total)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return max(0.0, (total - step) / (total - warmup))

    return factor


def warmup_cosine(warmup: int, total: int) -> Schedule:
    """Up from 1/warmup to 1, then down half a cosine to 0 after `total` steps.

    The cosine is equation 5 of Loshchilov and Hutter (2017), without restarts.
    """
    _check(warmup, total)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        done = min(1.0, (step - warmup) / (total - warmup))
        return (1 + math.cos(math.pi * done)) / 2

    return factor


def warmup_inverse_sqrt(warmup: int) -> Schedule:
    """Up to 1 in `warmup` steps, then down with the inverse square root of the step: sqrt(warmup / n).

    Vaswani et al. (2017), section 5.3, equation 3, whose n counts from 1, so that n = step + 1:

        rate(n) = width^-0.5 * min(n^-0.5, n * warmup^-1.5)

    The factor here is sqrt(warmup) * min(n^-0.5, n * warmup^-1.5), which peaks at 1. With the optimizer's learning rate set
    to (width * warmup)^-0.5 the product is the paper's rate.
    """
    if not (isinstance(warmup, Integral) and warmup >= 1):
        raise ValueError(f"warmup must be at least 1 step, got {warmup}")
    return lambda step: math.sqrt(warmup) * min((step + 1) ** -0.5, (step + 1) * warmup**-1.5)


def _check(warmup: int, total: int) -> None:
    if not isinstance(total, Integral):
        raise ValueError(f"total must be a whole number of steps, got {total}")
    if not (isinstance(warmup, Integral) and 0 <= warmup < total):
        raise ValueError(f"warmup must be at least 0 and fewer than all {total} steps, got {warmup}")
