"""Each process keeps some heads of every attention and some units of every feed-forward network (Shoeybi et al. 2019).

    columns, then rows:   y = sum over processes of  f(x A_p) B_p,   A = [A_1 ... A_P],  B = [B_1; ...; B_P]

The first product needs nothing from others, for a head or a unit needs only its own columns; the second gives a part of
every output, and one sum over the processes a sublayer makes it whole. In the backward pass the sum is at the other end.
"""

import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd import Function
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

from tutorlib.distributed.sharded import process_mesh

COLUMNS = ("attention.query", "attention.key", "attention.value", "feed_forward.expand")
ROWS = ("attention.output", "feed_forward.contract")


class Enter(Function):
    """The same input for every process's columns; backward, the sum of what their columns say of it."""

    @staticmethod
    def forward(context, states: Tensor) -> Tensor:
        """The states as they are."""
        return states.view_as(states)

    @staticmethod
    def backward(context, gradient: Tensor) -> Tensor:
        """The sum of all processes' gradients."""
        gradient = gradient.contiguous()
        dist.all_reduce(gradient)
        return gradient


class Leave(Function):
    """The sum of every process's part of the output; backward, the same gradient for each part."""

    @staticmethod
    def forward(context, states: Tensor) -> Tensor:
        """The sum of all processes' states."""
        states = states.contiguous().clone()
        dist.all_reduce(states)
        return states

    @staticmethod
    def backward(context, gradient: Tensor) -> Tensor:
        """The gradient as it is."""
        return gradient


class ColumnParallel(nn.Module):
    """A process's share of the outputs of a linear layer: (..., D) -> (..., F / P). Its input has to pass `Enter`."""

    def __init__(self, linear: nn.Linear, rank: int, size: int):
        super().__init__()
        _check_divides("outputs", linear.out_features, size)
        self.weight = nn.Parameter(linear.weight.detach().chunk(size)[rank].clone())  # (F / P, D)
        self.bias = None if linear.bias is None else nn.Parameter(linear.bias.detach().chunk(size)[rank].clone())  # (F / P,)

    def forward(self, states: Tensor) -> Tensor:
        return nn.functional.linear(states, self.weight, self.bias)


class RowParallel(nn.Module):
    """A linear layer of which a process has the rows for its share of the inputs: (..., F / P) -> (..., D), summed over all."""

    def __init__(self, linear: nn.Linear, rank: int, size: int):
        super().__init__()
        _check_divides("inputs", linear.in_features, size)
        self.weight = nn.Parameter(linear.weight.detach().chunk(size, dim=1)[rank].clone())  # (D, F / P)
        self.bias = None if linear.bias is None else nn.Parameter(linear.bias.detach().clone())  # (D,), added once

    def forward(self, states: Tensor) -> Tensor:
        whole = Leave.apply(nn.functional.linear(states, self.weight))  # (..., D)
        return whole if self.bias is None else whole + self.bias


def split_by_hand(model: nn.Module, rank: int, size: int) -> nn.Module:
    """The model, changed in place, with `ColumnParallel` and `RowParallel` in every layer: the form to be read.

    Query, key and value share one `Enter`, so that a layer sums four times a step: twice forward, twice backward. Raises
    ValueError as `split_layers` does.
    """
    check_heads(model, size)
    for layer in model.layers:
        for sublayer in (layer.attention, layer.feed_forward):
            sublayer.register_forward_pre_hook(lambda _, inputs: (Enter.apply(inputs[0]), *inputs[1:]))
        for names, part in ((COLUMNS, ColumnParallel), (ROWS, RowParallel)):
            for name in names:
                parent, _, own = name.rpartition(".")
                setattr(layer.get_submodule(parent), own, part(layer.get_submodule(name), rank, size))
    return model


def split_layers(model: nn.Module, mesh: DeviceMesh | None = None) -> nn.Module:
    """The same by PyTorch's own `parallelize_module`, whose parameters know that they are pieces of a whole.

    Make the optimizer afterwards, with `foreach=False`: whole parameters and pieces are not mixed in one call. Raises
    ValueError where the number of processes does not divide the heads or the hidden width.
    """
    mesh = mesh or process_mesh(next(model.parameters()).device)
    check_heads(model, mesh.size())
    plan = dict.fromkeys(COLUMNS, ColwiseParallel()) | dict.fromkeys(ROWS, RowwiseParallel())
    for layer in model.layers:
        parallelize_module(layer, mesh, plan)
    return model


def check_heads(model: nn.Module, size: int) -> None:
    """Raise ValueError unless `size` processes divide the heads and the hidden width of every layer."""
    if not hasattr(model, "layers") or not all(hasattr(layer.feed_forward, "expand") for layer in model.layers):
        raise ValueError(f"model must have layers of attention and a feed-forward network of two matrices, as GPT has, "
                         f"got {type(model).__name__}")
    for layer in model.layers:
        _check_divides("heads", layer.attention.num_key_value_heads, size)
        _check_divides("hidden units", layer.feed_forward.expand.out_features, size)


def _check_divides(what: str, number: int, size: int) -> None:
    if number % size:
        raise ValueError(f"the number of processes must divide the {what}, got {number} {what} and {size} processes")
