"""What messages cost: a latency for each, and bytes over a bandwidth; from it a step of many processes (Hockney 1994)."""

from collections.abc import Sequence
from typing import NamedTuple

import torch

from tutorlib.arguments import check_counts
from tutorlib.distributed.pipeline import bubble


class Link(NamedTuple):
    """Seconds that a message takes before its first byte, and bytes a second after it."""

    latency: float
    bandwidth: float


def ring_bytes(size: float, processes: int) -> float:
    """Bytes that each process sends to sum `size` bytes in a ring: 2 (P - 1) / P of them."""
    check_counts(processes=processes)
    return 2 * (processes - 1) / processes * size


def ring_seconds(size: float, processes: int, link: Link) -> float:
    """2 (P - 1) messages of size / P bytes, one after another."""
    return 2 * (processes - 1) * link.latency + ring_bytes(size, processes) / link.bandwidth


def fit_link(sizes: Sequence[float], seconds: Sequence[float], processes: int) -> Link:
    """The link that explains times of rings best, by least squares of the relative errors.

    Raises ValueError for fewer than two sizes, for one process, and where the fit has no positive latency and bandwidth.
    """
    if len(sizes) != len(seconds) or len(set(sizes)) < 2 or processes < 2:
        raise ValueError(f"sizes and seconds must be at least two pairs, of rings of at least 2 processes, got {len(sizes)} "
                         f"sizes, {len(seconds)} times and {processes} processes")
    times = torch.tensor(seconds, dtype=torch.float64)  # (N,)
    terms = torch.tensor([[2 * (processes - 1), ring_bytes(size, processes)] for size in sizes], dtype=torch.float64)  # (N, 2)
    latency, per_byte = torch.linalg.lstsq(terms / times[:, None], torch.ones_like(times)[:, None]).solution.flatten().tolist()
    if latency <= 0 or per_byte <= 0:
        raise ValueError(f"seconds must grow with sizes from a positive start, got a latency of {latency:.3g} s and "
                         f"{per_byte:.3g} s a byte")
    return Link(latency, 1 / per_byte)


class Layout(NamedTuple):
    """How processes are arranged: D x K x P of data, pipeline and tensor parallel; microbatches that a pipeline gets a step."""

    data: int
    stages: int
    tensor: int
    microbatches: int


class StepParts(NamedTuple):
    """Seconds of a step: arithmetic, and what waits for tensor-parallel sums, for the pipeline and for the gradients."""

    compute: float
    tensor: float
    pipeline: float
    data: float

    @property
    def busy(self) -> float:
        """The share of the step that is arithmetic."""
        return self.compute / sum(self)


def step_parts(layout: Layout, *, compute: float, tensor_bytes: float, tensor_sums: int, gradient_bytes: float, inside: Link,
               between: Link) -> StepParts:
    """The seconds of a step in which nothing overlaps: the worst case of a layout.

    compute: seconds of arithmetic that a process has to do in a step. A microbatch makes `tensor_sums` sums of `tensor_bytes`
    over `inside`; after the step `gradient_bytes` of each process are summed over `between`.
    """
    tensor = layout.microbatches * tensor_sums * ring_seconds(tensor_bytes, layout.tensor, inside)
    share = bubble(layout.stages, layout.microbatches)
    waiting = (compute + tensor) * share / (1 - share)
    return StepParts(compute, tensor, waiting, ring_seconds(gradient_bytes, layout.data, between))
