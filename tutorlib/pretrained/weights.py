"""What every conversion does: refuse by name what ours lacks, build without storage, fill with copies of the weights."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


def refusal(module: nn.Module, option: str, value: object, supported: str) -> ValueError:
    return ValueError(f"{type(module).__name__}({option}={value}) is not supported, only {supported}")


def assign(ours: nn.Module, weights: dict[str, Tensor | None]) -> nn.Module:
    """Load a copy of every weight, keeping device and dtype; all must be there and fit."""
    state = {name: weight.detach().clone(memory_format=torch.contiguous_format)  # a transposed one would keep its strides
             for name, weight in weights.items() if weight is not None}
    ours.load_state_dict(state, strict=True, assign=True)
    return ours


def empty(build: Callable[[], nn.Module]) -> nn.Module:
    """A module without storage, which `assign` then fills: no time is lost drawing weights that are thrown away."""
    with torch.device("meta"):
        return build()
