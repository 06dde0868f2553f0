"""What a machine can do at most: so many operations and so many bytes a second, and which of the two a piece of work meets.

Source: Williams, Waterman & Patterson 2009.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from tutorlib.arguments import check_counts


@dataclass(frozen=True)
class Roofline:
    """The two limits, both above 0."""

    flops: float  # floating-point operations a second, a multiply-add counted as two
    bandwidth: float  # bytes a second, from memory

    def __post_init__(self) -> None:
        for name in ("flops", "bandwidth"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")

    @property
    def ridge(self) -> float:
        """The operations a byte at which both limits meet. Below it memory is what limits, above it arithmetic."""
        return self.flops / self.bandwidth

    def attainable(self, intensity: float) -> float:
        """Operations a second at most, for work that does `intensity` operations for every byte it fetches."""
        return min(self.flops, intensity * self.bandwidth)

    def seconds(self, operations: float, fetched: float) -> float:
        """The least time for so many operations on so many fetched bytes, if the two overlap wholly."""
        return max(operations / self.flops, fetched / self.bandwidth)


def measure_roofline(dtype: torch.dtype = torch.float32, *, size: int = 768, megabytes: int = 192, rounds: int = 4,
                     clock: Callable[[], float] = time.process_time) -> Roofline:
    """What this machine reaches with the threads that PyTorch has: in a square matrix product, and in the sum of a long vector.

    The best of several rounds, since other programs can only take time. `size` is the side of the matrices, `megabytes` the
    vector's, to be larger than any cache. Raises ValueError for counts below 1.
    """
    check_counts(size=size, megabytes=megabytes, rounds=rounds)
    left, right = torch.randn(2, size, size).to(dtype)
    long = torch.ones(megabytes * 10**6 // 4)  # float32, which is read as fast as any
    product = min(_seconds(lambda: left @ right, clock) for _ in range(rounds + 1))
    read = min(_seconds(long.sum, clock) for _ in range(rounds))
    return Roofline(2 * size**3 / product, 4 * len(long) / read)


def _seconds(function: Callable[[], object], clock: Callable[[], float]) -> float:
    start = clock()
    function()
    return max(clock() - start, 1e-9)
