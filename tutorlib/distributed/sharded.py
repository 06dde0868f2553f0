"""Each process keeps an equal share of weights, gradients and moments, and borrows the rest a layer at a time.

Zhao et al. 2023 (FSDP), after Rajbhandari et al. 2020 (ZeRO). A checkpoint of pieces is read back by any number of processes.
"""

import os
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as pieces
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from tutorlib.arguments import check_counts

WEIGHT, GRADIENT, MOMENTS = 4, 4, 8  # bytes a parameter in float32; Adam keeps two moments


def process_mesh(device: torch.device | str = "cpu") -> DeviceMesh:
    """All processes in one row."""
    return init_device_mesh(torch.device(device).type, (dist.get_world_size(),))


def shard(model: nn.Module, mesh: DeviceMesh | None = None) -> nn.Module:
    """The model, changed in place, of whose every parameter this process keeps 1 / P.

    Each of `model.layers` is a unit: gathered before it computes, given back after. What lies outside the layers is one unit
    more, which stays. Make the optimizer afterwards: the parameters are new ones. Raises ValueError where there are no layers.
    """
    if not isinstance(getattr(model, "layers", None), nn.ModuleList):
        raise ValueError(f"model must have its layers in an nn.ModuleList called layers, got {type(model).__name__}")
    mesh = mesh or process_mesh(next(model.parameters()).device)
    for layer in model.layers:
        fully_shard(layer, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def own_part(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor: its piece of a distributed one, else all."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def bytes_held(model: nn.Module, optimizer: Optimizer) -> dict[str, int]:
    """The bytes of weights, gradients and moments that this process holds now."""
    parameters = list(model.parameters())
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    moments = [value for state in optimizer.state.values() for value in state.values()
               if isinstance(value, Tensor) and value.dim()]  # the count of steps is no moment
    return {name: sum(own_part(tensor).nbytes for tensor in tensors)
            for name, tensors in (("weights", parameters), ("gradients", gradients), ("moments", moments))}


def bytes_a_process(parameters: int, processes: int, *, stage: int = 3) -> float:
    """16 bytes a parameter in float32 with Adam, of which each process keeps the whole or its share.

    stage 0 divides nothing (data parallel), 1 the moments, 2 the gradients too, 3 the weights too (Rajbhandari et al. 2020,
    figure 1, there with weights of two bytes). Raises ValueError for other stages.
    """
    check_counts(parameters=parameters, processes=processes)
    if stage not in (0, 1, 2, 3):
        raise ValueError(f"stage must be 0, 1, 2 or 3, got {stage}")
    shared = sum(part for part, divided in ((MOMENTS, 1), (GRADIENT, 2), (WEIGHT, 3)) if stage >= divided)
    return parameters * (WEIGHT + GRADIENT + MOMENTS - shared + shared / processes)


def save_pieces(folder: str | os.PathLike, model: nn.Module, optimizer: Optimizer, done: int) -> None:
    """Every process writes what it holds into the folder, at once (torch.distributed.checkpoint)."""
    pieces.save(_pieces(model, optimizer, done), checkpoint_id=folder)


def load_pieces(folder: str | os.PathLike, model: nn.Module, optimizer: Optimizer) -> int:
    """Put into model and optimizer what any number of processes wrote, each process reading its own part; the steps done."""
    state = _pieces(model, optimizer, 0)
    pieces.load(state, checkpoint_id=folder)
    set_state_dict(model, optimizer, model_state_dict=state["model"], optim_state_dict=state["optimizer"])
    return int(state["done"])


def _pieces(model: nn.Module, optimizer: Optimizer, done: int) -> dict[str, Any]:
    weights, moments = get_state_dict(model, optimizer)
    return {"model": weights, "optimizer": moments, "done": torch.tensor(done)}
