"""`training.train` on many processes: what of a model, a batch, a gradient's norm and a checkpoint differs there.

A checkpoint is one file that holds everything, whatever the processes held: a run goes on with another number of processes,
in another way of dividing the work, or in one process.
"""

import math
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, Shard, distribute_tensor
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from torch.utils._pytree import tree_map_only

from tutorlib.data.batches import numbered_generator
from tutorlib.distributed.data_parallel import own_rows
from tutorlib.distributed.sharded import own_part, shard
from tutorlib.distributed.tensor import split_layers
from tutorlib.training.resuming import read_run, restore_random, save_run

WAYS = ("data", "sharded", "tensor")


class Divided(NamedTuple):
    """The parts of a run that differ on many processes; `training.train` takes them."""

    model: nn.Module  # what the optimizer moves and a checkpoint holds
    forward: nn.Module  # what the loss calls
    batches: Callable[[int], tuple[Tensor, ...]]
    parts: dict[str, Callable]  # of `train`: clip, save, resume

    def loss(self, plain: Callable[[nn.Module, Any], Tensor]) -> Callable[[nn.Module, Any], Tensor]:
        """The loss with its value that of all processes, and the gradient of its own: the mean is taken of gradients."""
        def of_all(model: nn.Module, batch: Any) -> Tensor:
            own = plain(self.forward, batch)
            everywhere = own.detach().clone()
            dist.all_reduce(everywhere)
            return own + (everywhere / dist.get_world_size() - own.detach())
        return of_all


def divide(model: nn.Module, batches: Callable[[int], tuple[Tensor, ...]], way: str, seed: int = 0) -> Divided:
    """Divide a run over the processes of the group: way "data", "sharded" or "tensor".

    The model is the same everywhere at first, and `batches(step)` is the whole batch, the same everywhere. In "data" and
    "sharded" each process takes its rows of it, in "tensor" all of them. Dropout is drawn anew for each step and process,
    from `seed`, so that a resumed run draws the same. Make the optimizer of `Divided.model` afterwards. Raises ValueError for
    another way, or where the model or the batch cannot be divided.
    """
    if way not in WAYS:
        raise ValueError(f"way must be one of {', '.join(WAYS)}, got {way!r}")
    if way == "tensor":
        if any(module.p for module in model.modules() if isinstance(module, nn.Dropout)):
            raise ValueError('model must have no dropout in the way "tensor": processes would drop different states')
        split_layers(model)
        return Divided(model, model, batches, PARTS)
    own_rows(batches(0))  # refuses what does not divide
    rank, size = dist.get_rank(), dist.get_world_size()

    def rows(step: int) -> tuple[Tensor, ...]:
        torch.manual_seed(numbered_generator(seed, step * size + rank).initial_seed())
        return own_rows(batches(step))

    return Divided(model, DistributedDataParallel(model) if way == "data" else shard(model), rows, PARTS)


def clip_norm(parameters: Iterable[nn.Parameter], limit: float) -> Tensor:
    """`nn.utils.clip_grad_norm_` for parameters of which some are pieces: the squares of all pieces are summed first."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    squares = {True: own_part(gradients[0]).new_zeros(()), False: own_part(gradients[0]).new_zeros(())}
    for gradient in gradients:
        squares[_is_divided(gradient)] += own_part(gradient).square().sum()
    dist.all_reduce(squares[True])
    norm = (squares[True] + squares[False]).sqrt()
    if limit < math.inf:
        for gradient in gradients:
            own_part(gradient).mul_((limit / (norm + 1e-6)).clamp(max=1.0))
    return norm


def save_whole(path: str | os.PathLike, model: nn.Module, optimizer: Optimizer, generators: Sequence[torch.Generator],
               history: dict[str, list], about: dict[str, Any] | None) -> None:
    """`save_run` of the whole: all processes give their pieces, the first one writes, and the others wait until it has."""
    whole = tree_map_only(DTensor, DTensor.full_tensor, (dict(model.state_dict()), optimizer.state_dict()))
    if dist.get_rank() == 0:
        save_run(path, *(_Holds(state) for state in whole), generators, history, about)
    dist.barrier()


def resume_whole(path: str | os.PathLike, model: nn.Module, optimizer: Optimizer, generators: Sequence[torch.Generator],
                 steps: int) -> dict[str, list]:
    """`resume_run` where model and optimizer are divided: each process reads the file and keeps its own pieces."""
    state = read_run(path, model, optimizer, generators, steps)
    parameters_of = dict(model.named_parameters(remove_duplicate=False))  # a tied matrix has two names
    model.load_state_dict({name: _cut(value, parameters_of.get(name)) for name, value in state["model"].items()})
    numbers = [number for group in state["optimizer"]["param_groups"] for number in group["params"]]
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    of = dict(zip(numbers, parameters, strict=True))
    moments = {number: {name: _cut(value, of[number]) for name, value in found.items()}
               for number, found in state["optimizer"]["state"].items()}
    groups = [saved | {name: own[name] for name in ("foreach", "fused")}  # how a step is computed is this run's affair
              for saved, own in zip(state["optimizer"]["param_groups"], optimizer.param_groups, strict=True)]
    optimizer.load_state_dict({"state": moments, "param_groups": groups})
    restore_random(state["random"], generators)
    return state["history"]


PARTS = {"clip": clip_norm, "save": save_whole, "resume": resume_whole}


class _Holds:
    """What has a state and nothing else: the whole model's, the whole optimizer's."""

    def __init__(self, state: dict[str, Any]):
        self.state = state

    def state_dict(self) -> dict[str, Any]:
        return self.state


def _is_divided(tensor: Tensor) -> bool:
    return isinstance(tensor, DTensor) and any(isinstance(place, Shard) for place in tensor.placements)


def _cut(value: Any, like: Tensor | None) -> Any:
    """A saved tensor, divided as the parameter that it belongs to; a number, or what belongs to a whole one, as it is."""
    if isinstance(like, DTensor) and isinstance(value, Tensor) and value.shape == like.shape:
        return distribute_tensor(value.to(like.device), like.device_mesh, like.placements)
    return value

