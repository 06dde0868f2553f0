"""Federated averaging: the data stay where they arose, and weights travel (McMahan et al. 2017; Li et al. 2020).

All the weights of a model are one vector here, (P,): it is what is sent, averaged and counted in bytes.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from tutorlib.arguments import check_counts, check_whole
from tutorlib.data.batches import numbered_generator

Loss = Callable[[Tensor, Tensor], Tensor]


class Client(NamedTuple):
    """One owner's examples: inputs (n, ...) and targets (n, ...)."""

    inputs: Tensor
    targets: Tensor


class Federated(NamedTuple):
    """What a federation ends with: the weights (P,), and of each round its score and the bytes that travelled in it."""

    weights: Tensor
    scores: list[float]
    bytes: list[int]


def deal(labels: Tensor, clients: int, each: int | None, generator: torch.Generator) -> list[Tensor]:
    """Which rows each client owns: about `each` labels a client, or of all labels alike where `each` is None.

    The rows (N,) are sorted by label and cut into `clients * each` shards of equal size, up to one, which are dealt out by
    chance (McMahan et al. 2017, section 3). Raises ValueError for more shards than rows.
    """
    check_counts(clients=clients, each=each)
    shards = clients * (each or 1)
    if shards > len(labels):
        raise ValueError(f"clients times each must be at most the {len(labels)} rows, got {clients} times {each or 1}")
    order = torch.randperm(len(labels), generator=generator)
    if each is not None:
        order = order[labels.cpu()[order].argsort(stable=True)]  # by label, shuffled within each
    cut = order.tensor_split(shards)
    dealt = torch.randperm(shards, generator=generator).view(clients, -1)  # (clients, each)
    return [torch.cat([cut[shard] for shard in own]) for own in dealt]


def local_update(model: nn.Module, weights: Tensor, client: Client, loss: Loss = F.cross_entropy, *, rate: float, epochs: int,
                 batch_size: int | None, proximal: float = 0.0, generator: torch.Generator) -> Tensor:
    """What a client does: from the weights (P,) that it was sent, some epochs of plain SGD on its own data -> (P,).

    `batch_size=None` takes all its data at once. With `proximal` the loss has that number times half the squared distance to
    `weights` beside it: FedProx (Li et al. 2020, algorithm 2), which pulls back to the others' weights; 0 is FedAvg. The model
    ends with the new weights.
    """
    vector_to_parameters(weights.clone(), model.parameters())
    for _ in range(epochs):
        order = torch.randperm(len(client.targets), generator=generator)  # on the CPU, so that every device shuffles alike
        for rows in order.to(client.targets.device).split(batch_size or len(order)):
            error = loss(model(client.inputs[rows]), client.targets[rows])
            slope = parameters_to_vector(torch.autograd.grad(error, list(model.parameters())))  # (P,)
            now = parameters_to_vector(model.parameters()).detach()
            vector_to_parameters(now - rate * (slope + proximal * (now - weights)), model.parameters())
    return parameters_to_vector(model.parameters()).detach()


def average(updates: Sequence[Tensor], sizes: Sequence[int]) -> Tensor:
    """What the server does: the mean of the weights (P,) that came back, each counted by its client's number of examples.

    Raises ValueError where nothing came back, or the two sequences are not equally long, or a size is below 1.
    """
    if not updates or len(updates) != len(sizes):
        raise ValueError(f"updates and sizes must be equally many and at least one, got {len(updates)} and {len(sizes)}")
    for size in sizes:
        check_whole("sizes", size)
    return sum(size / sum(sizes) * update for size, update in zip(sizes, updates))


def federate(model: nn.Module, clients: Sequence[Client], loss: Loss = F.cross_entropy, *, rounds: int, rate: float,
             epochs: int = 1, batch_size: int | None = 32, proximal: float = 0.0, seed: int = 0,
             present: Callable[[int], Sequence[int]] | None = None,
             score: Callable[[nn.Module], float] | None = None) -> Federated:
    """Federated averaging (McMahan et al. 2017, algorithm 1), all clients in one process, one after the other.

    In each round every client of `present(round)`, all by default, is sent the weights and sends its own back; a round in
    which nobody is present changes nothing. `score(model)` is asked after each round. The shuffling of a client depends on
    `seed`, round and client alone, so that who else is there changes nothing in it. The model ends with the last weights.
    Raises ValueError for arguments out of their range, for a model with buffers, and for a client that does not exist.
    """
    check_counts(rounds=rounds, epochs=epochs, batch_size=batch_size)
    check_federation(model, clients, rate, proximal)
    weights = parameters_to_vector(model.parameters()).detach().clone()  # (P,)
    scores, travelled = [], []
    for turn in range(rounds):
        here = list(range(len(clients)) if present is None else present(turn))
        if not all(0 <= number < len(clients) for number in here):
            raise ValueError(f"present must give numbers of the {len(clients)} clients, got {here} in round {turn}")
        updates = [local_update(model, weights, clients[number], loss, rate=rate, epochs=epochs, batch_size=batch_size,
                                proximal=proximal, generator=shuffler(seed, turn, number)) for number in here]
        if updates:
            weights = average(updates, [len(clients[number].targets) for number in here])
        vector_to_parameters(weights.clone(), model.parameters())
        travelled.append(2 * len(here) * message_bytes(weights))  # down and up
        scores += [] if score is None else [score(model)]
    return Federated(weights, scores, travelled)


def shuffler(seed: int, turn: int, number: int) -> torch.Generator:
    """The random numbers of one client in one round; the same in one process or in many."""
    return numbered_generator(seed, turn * 10_007 + number)


def message_bytes(weights: Tensor) -> int:
    """The size of a message that carries these weights, uncompressed."""
    return weights.numel() * weights.element_size()


def check_federation(model: nn.Module, clients: Sequence[Client], rate: float, proximal: float) -> None:
    """Raise ValueError for what no federation can work with."""
    if next(model.buffers(), None) is not None:
        raise ValueError(f"model must have no buffers, which no average is defined for here, got a {type(model).__name__} with "
                         f"{[name for name, _ in model.named_buffers()]}")
    for number, client in enumerate(clients):
        if len(client.inputs) != len(client.targets) or not len(client.targets):
            raise ValueError(f"clients[{number}] must have as many inputs as targets and at least one, got "
                             f"{len(client.inputs)} and {len(client.targets)}")
    if not clients:
        raise ValueError("clients must be at least one, got none")
    if not rate > 0:
        raise ValueError(f"rate must be positive, got {rate}")
    if not proximal >= 0:
        raise ValueError(f"proximal must be at least 0, got {proximal}")
