"""What every conversion does: rename by a table, refuse by name what ours lacks, build without storage, fill, tie again."""

import re
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

from tutorlib.layers.compiled import plain_name


def refusal(module: nn.Module, option: str, value: object, supported: object) -> ValueError:
    return ValueError(f"{type(module).__name__}({option}={value}) is not supported, only {supported}")


def rename(theirs: Mapping[str, Tensor], table: Mapping[str, str], left_behind: Iterable[str] = (),
           source: str = "model") -> dict[str, Tensor]:
    """Their tensors under our names.

    The table maps the names of tensors, or of modules, whose weight and bias follow; `{}` stands for the same number on both
    sides, and the first entry that fits counts. `left_behind` are names of this form that ours does without. Raises ValueError
    for a tensor that fits none, and for two that would have one place; `source` says there where the tensors are from.
    """
    places: dict[str, str | None] = dict.fromkeys(left_behind) | dict(table)  # what stays may lie in a module that comes
    ours: dict[str, Tensor] = {}
    for name, tensor in theirs.items():
        found = _find(plain_name(name), places)
        if found is None:
            raise ValueError(f"the tensor {name} of the {source} has no counterpart in ours")
        entry, numbers, rest = found
        if places[entry] is None:
            continue
        own = places[entry].format(*numbers) + rest
        if own in ours:
            raise ValueError(f"the tensor {name} of the {source} has the place of another, {own}")
        ours[own] = tensor
    return ours


def _find(name: str, places: Mapping[str, str | None]) -> tuple[str, list[str], str] | None:
    """The first entry that fits a tensor, the numbers at its `{}`, and what follows where the entry is a module."""
    for entry in places:
        pattern = re.escape(entry).replace(r"\{\}", r"(\d+)")
        if match := re.fullmatch(pattern + r"(\.\w+)?", name):
            *numbers, rest = match.groups(default="")
            return entry, numbers, rest
    return None


def fill(build: Callable[[], nn.Module], weights: Mapping[str, Tensor | None], *, copy: bool = True) -> nn.Module:
    """What `build` makes, filled with the weights. Raises what `assign` raises."""
    return assign(empty(build), weights, copy=copy)


def empty(build: Callable[[], nn.Module]) -> nn.Module:
    """A module without storage, which `assign` then fills: no time is lost drawing weights that are thrown away."""
    with torch.device("meta"):
        return build()


def assign(ours: nn.Module, weights: Mapping[str, Tensor | None], *, copy: bool = True) -> nn.Module:
    """`ours` with the weights, given by our names: copies of them, or themselves, which takes no second room.

    Device and dtype are the weights'. What is one tensor in theirs is one in ours. All parameters can be trained, also where
    theirs were frozen. A weight that is None is left out. Raises ValueError unless names and shapes are those of `ours` and
    every tensor then has values.
    """
    given = {name: weight for name, weight in weights.items() if weight is not None}
    _check(ours, given)
    parameters = dict(ours.named_parameters(remove_duplicate=False))
    tensors: dict[tuple, Tensor] = {}
    for name, weight in given.items():
        if tensor_identity(weight) not in tensors:
            tensor = weight.detach()
            if copy:  # contiguous, since a transposed one would keep its strides
                tensor = tensor.clone(memory_format=torch.contiguous_format)
            tensors[tensor_identity(weight)] = nn.Parameter(tensor) if name in parameters else tensor
    ours.load_state_dict({name: tensors[tensor_identity(weight)] for name, weight in given.items()}, strict=True, assign=True)
    return ours


def tensor_identity(weight: Tensor) -> tuple:
    """Equal for two tensors that are the same numbers in the same place, as tied weights are."""
    return weight.device, weight.data_ptr(), weight.shape, weight.stride()


def is_tied(weights: Mapping[str, Tensor], name: str, other: str) -> bool:
    """Whether two weights are one tensor."""
    return tensor_identity(weights[name]) == tensor_identity(weights[other])


def _check(ours: nn.Module, given: Mapping[str, Tensor]) -> None:
    """Raise ValueError, in words, unless the weights fit."""
    kind, places = type(ours).__name__, ours.state_dict()
    if missing := sorted(places.keys() - given.keys()):
        raise ValueError(f"the weights lack {len(missing)} of the {len(places)} tensors of {kind}: {', '.join(missing[:5])}")
    if unknown := sorted(given.keys() - places.keys()):
        raise ValueError(f"{kind} has no place for {len(unknown)} of {len(given)} weights: {', '.join(unknown[:5])}")
    for name, weight in given.items():
        if weight.shape != places[name].shape:
            raise ValueError(f"{name} of {kind} must have the shape {tuple(places[name].shape)}, got {tuple(weight.shape)}")
        if weight.is_floating_point() != places[name].is_floating_point():
            raise ValueError(f"{name} of {kind} must be {places[name].dtype} or the like, got {weight.dtype}")
        if weight.is_meta:
            raise ValueError(f"{name} is to be filled with a tensor on the device 'meta', which has no values")
    for name, buffer in ours.named_buffers():
        if buffer.is_meta and name not in places:  # one that no state dict holds, as a table that is computed
            raise ValueError(f"{name} of {kind} was built without storage, and no weight fills it")
