"""Federated averaging between real processes: rank 0 is the server, every other rank a client (torch.distributed, gloo)."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from tutorlib.training.federated import average, message_bytes


class Served(NamedTuple):
    """What the server knows at the end: the weights (P,), and of each round the clients that answered and the bytes sent."""

    weights: Tensor
    answered: list[list[int]]
    bytes: list[int]


def serve(weights: Tensor, sizes: Sequence[int], rounds: int) -> Served:
    """The server: sends the weights (P,) to every client that is left, waits for what comes back, averages it.

    `sizes[c]` is the number of examples of client c, which is rank c + 1. A client whose connection breaks is dropped, and the
    others go on. Raises ValueError where the sizes are not those of the clients, ConnectionError where none is left.
    """
    if len(sizes) != dist.get_world_size() - 1:
        raise ValueError(f"sizes must be those of the {dist.get_world_size() - 1} clients, got {len(sizes)}")
    left, answered, travelled = list(range(len(sizes))), [], []
    for turn in range(rounds):
        sent = [client for client in left if reached(dist.send, weights, client)]
        replies = {client: torch.empty_like(weights) for client in sent}
        left = [client for client in sent if reached(dist.recv, replies[client], client)]
        if not left:
            raise ConnectionError(f"no client is left in round {turn}")
        weights = average([replies[client] for client in left], [sizes[client] for client in left])
        answered.append(left)
        travelled.append((len(sent) + len(left)) * message_bytes(weights))
    return Served(weights, answered, travelled)


def reached(call: Callable[[Tensor, int], object], message: Tensor, client: int) -> bool:
    """Whether sending to a client, or receiving from it, went through."""
    try:
        call(message, client + 1)
    except RuntimeError:  # the other end is gone
        return False
    return True


def take_part(weights: Tensor, rounds: int, train: Callable[[Tensor, int], Tensor]) -> None:
    """A client: receives weights of the shape of `weights`, trains them on what only it can see, sends them back.

    `train(weights, round)` gives the new weights (P,); the data are in it and nowhere else.
    """
    for turn in range(rounds):
        received = torch.empty_like(weights)
        dist.recv(received, 0)
        dist.send(train(received, turn), 0)
