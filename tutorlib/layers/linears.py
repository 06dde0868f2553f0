"""A walk over the linear layers of a model, for what takes their place: smaller weights, low-rank additions."""

from collections.abc import Callable

from torch import nn


def replace_linears(model: nn.Module, make: Callable[[nn.Linear], nn.Module]) -> nn.Module:
    """The model with `make(layer)` in the place of every `nn.Linear`, changed in place; or `make(model)` where it is one.

    A layer that stands in two places is made once and stays shared. A subclass of `nn.Linear` is left as it is, since it may
    compute something else; what `make` puts in is not searched again. Raises ValueError where there is no linear layer.
    """
    places = [(name, module) for name, module in model.named_modules(remove_duplicate=False) if type(module) is nn.Linear]
    if not places:
        raise ValueError(f"model: {type(model).__name__} has no nn.Linear")
    made = {layer: make(layer) for layer in dict.fromkeys(layer for _, layer in places)}  # each once, in order
    for name, layer in places:
        parent, _, own = name.rpartition(".")
        setattr(model.get_submodule(parent), own, made[layer])
    return made.get(model, model)
