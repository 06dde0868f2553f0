"""Side by side: variants of the same work, interleaved, compared before they are timed, reported as ratios.

Machines are noisy and differ; what carries over is the ratio of two variants that ran in turn. So each round runs every
variant once, the ratio to the first one is taken within the round, and its median and quartiles over the rounds count.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Variant:
    """One way to do the work: `run()` does it once and returns an output by which it is compared with the first variant."""

    name: str
    run: Callable[[], Tensor]
    tolerance: float = 1e-4  # allowed difference, relative to the largest magnitude of the first variant's output


@dataclass(frozen=True)
class Row:
    """A variant's figures: seconds a run (median), and how many times faster than the first variant (quartiles)."""

    name: str
    seconds: float
    ratio: float
    low: float
    high: float


def compare(variants: list[Variant], rounds: int, clock: Callable[[], float] = time.process_time) -> list[Row]:
    """Check all variants against the first, warm them up, run them in turn for `rounds` rounds.

    Raises ValueError naming a variant whose output differs: a wrong result is not timed.
    """
    expected = variants[0].run().detach().float()
    for variant in variants[1:]:
        error = (variant.run().detach().float() - expected).abs().max() / expected.abs().max()
        if not error <= variant.tolerance:
            raise ValueError(f"{variant.name!r} differs from {variants[0].name!r} by {error:.1e}, "
                             f"allowed {variant.tolerance:.0e}")
    times = in_turn([variant.run for variant in variants], rounds, clock)
    return [_row(variant.name, list(zip(times[0], own, strict=True))) for variant, own in zip(variants, times, strict=True)]


def in_turn(works: Sequence[Callable[[], object]], rounds: int, clock: Callable[[], float]) -> list[list[float]]:
    """The seconds of each piece of work, a list of `rounds` each: all run once to warm up, then in turn."""
    for work in works:
        work()
    turns = [[_time(work, clock) for work in works] for _ in range(rounds)]
    return [list(own) for own in zip(*turns, strict=True)]


def _time(run: Callable[[], object], clock: Callable[[], float]) -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = clock()
    run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return clock() - start


def _row(name: str, pairs: list[tuple[float, float]]) -> Row:
    ratios = [first / own for first, own in pairs]
    low, ratio, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
    return Row(name, statistics.median(own for _, own in pairs), ratio, low, high)


def autocast(forward: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """The same work in bfloat16 where PyTorch allows it."""
    def run() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return forward()
    return run


def inference(forward: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """The same work without a record for gradients."""
    def run() -> Tensor:
        with torch.inference_mode():
            return forward()
    return run


def mean_square(output: Tensor) -> Tensor:
    """A loss for outputs that have no targets."""
    return output.float().square().mean()


def training_step(forward: Callable[[], Tensor], model: nn.Module,
                  loss: Callable[[Tensor], Tensor] = mean_square) -> Callable[[], Tensor]:
    """Forward, loss, backward, fused AdamW; compared by the gradient of the largest parameter."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0, fused=True)  # rate 0: every round does the same work
    watched = max(model.parameters(), key=lambda parameter: parameter.numel())

    def run() -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        loss(forward()).backward()
        optimizer.step()
        return torch.stack([watched.grad.norm(), watched.grad.abs().max()])
    return run
