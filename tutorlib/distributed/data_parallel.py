"""The same model everywhere, each process its part of the batch, and one sum of gradients a step.

Over P processes the sum of a vector of n bytes costs each of them 2 (P - 1) / P n bytes in a ring (Patarasuk and Yuan 2009),
whatever P is; through one process in the middle it costs that one 2 (P - 1) n.
"""

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn


def as_vector(values: Tensor) -> Tensor:
    """`values` itself, a contiguous vector (n,), whose pieces are views; ValueError for anything else."""
    if values.dim() != 1 or not values.is_contiguous():
        raise ValueError(f"values must be a contiguous vector (n,), got the shape {tuple(values.shape)}")
    return values


def ring_all_reduce(values: Tensor) -> int:
    """Sum `values` (n,) over all processes, in place; the bytes that this one sent.

    P - 1 turns add: a piece, an n-th part of P, goes round, and each process adds its own. P - 1 turns spread the finished
    pieces. Raises ValueError for what is no contiguous vector: its pieces must be views.
    """
    rank, size = dist.get_rank(), dist.get_world_size()
    pieces, sent = as_vector(values).tensor_split(size), 0  # P of (n / P,), views of values
    for turn in range(2 * (size - 1)):
        outgoing, place = pieces[(rank - turn) % size], pieces[(rank - turn - 1) % size]
        incoming = torch.empty_like(place)
        exchange(outgoing, (rank + 1) % size, incoming, (rank - 1) % size)
        place.copy_(place + incoming if turn < size - 1 else incoming)  # add, then spread
        sent += outgoing.nbytes
    return sent


def exchange(outgoing: Tensor, to: int, incoming: Tensor, source: int) -> None:
    """Send one tensor to a process and receive another, both at once: one after the other, a ring would wait for itself."""
    messages = [dist.P2POp(dist.isend, outgoing, to), dist.P2POp(dist.irecv, incoming, source)]
    for request in dist.batch_isend_irecv(messages):
        request.wait()


def star_all_reduce(values: Tensor) -> int:
    """The same sum through process 0, which receives every vector, adds, and sends the sum back; the bytes sent."""
    rank, size = dist.get_rank(), dist.get_world_size()
    if rank:
        dist.send(values, 0)
        dist.recv(values, 0)
        return values.nbytes
    for other in range(1, size):
        incoming = torch.empty_like(values)
        dist.recv(incoming, other)
        values += incoming
    for other in range(1, size):
        dist.send(values, other)
    return (size - 1) * values.nbytes


def average_gradients(model: nn.Module) -> int:
    """Give every process the mean of all processes' gradients, by one ring for all parameters; the bytes sent.

    With equal parts of a batch and a loss that is a mean, that is the gradient of the whole batch. Parameters without a
    gradient are left out, which must be the same ones everywhere. `nn.parallel.DistributedDataParallel` does this in pieces
    of 25 MB, during the backward pass (Li et al. 2020).
    """
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    whole = torch.cat([gradient.flatten() for gradient in gradients])  # (n,)
    sent = ring_all_reduce(whole)
    whole /= dist.get_world_size()
    sizes = [gradient.numel() for gradient in gradients]
    for gradient, part in zip(gradients, whole.split(sizes), strict=True):
        gradient.copy_(part.view_as(gradient))
    return sent


def own_rows(batch: Sequence[Tensor], rank: int | None = None, size: int | None = None) -> tuple[Tensor, ...]:
    """This process's part of a batch of tensors (B, ...): B / P rows that stand together.

    Raises ValueError where P does not divide B: parts of different size would need weights in the mean of the gradients.
    """
    rank = dist.get_rank() if rank is None else rank
    size = dist.get_world_size() if size is None else size
    if len(batch[0]) % size:
        raise ValueError(f"batch must have a number of rows that {size} processes divide, got {len(batch[0])}")
    each = len(batch[0]) // size
    return tuple(tensor[rank * each:(rank + 1) * each] for tensor in batch)
