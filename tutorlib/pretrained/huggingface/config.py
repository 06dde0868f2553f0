"""What the conversions share: an option of a config that ours lacks is refused, and so is a module that the config belies."""

import copy
from typing import Any

import torch
from torch import nn

from tutorlib.layers.compiled import plain_name
from tutorlib.pretrained.weights import refusal

ACTIVATIONS = {"relu": "relu", "gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "silu": "silu",
               "swish": "silu", "quick_gelu": "quick_gelu"}  # their name: ours
NO_MATTER = ("training", "padding_idx", "layer_idx", "gradient_checkpointing")  # what an output does not depend on


def require(model: nn.Module, **supported: Any) -> None:
    """Refuse a config whose options are not the given ones; one that this version of the library lacks is no option."""
    for option, value in supported.items():
        if getattr(model.config, option, value) != value:
            raise refusal(model, option, getattr(model.config, option), f"{option}={value}")


def our_activation(model: nn.Module, option: str) -> str:
    """Our name of an activation. Raises ValueError where ours has none."""
    name = getattr(model.config, option)
    if name not in ACTIVATIONS:
        raise refusal(model, option, name, f"one of {sorted(ACTIVATIONS)}")
    return ACTIVATIONS[name]


def check_modules(model: nn.Module) -> None:
    """Refuse a model that was changed after it was built: ours is made from the config, which would then not tell.

    Each module is compared with that of a model built anew from the config, without storage: its class, and its numbers, as
    eps, dropout, strides or heads. A norm or dropout must be in the mode of the whole, since ours takes that for all.
    """
    with torch.device("meta"):
        expected = type(model)(copy.deepcopy(model.config))
    modules = {plain_name(name): module for name, module in model.named_modules(remove_duplicate=False)}
    for name, peer in expected.named_modules():
        if name in modules:
            _check_module(model, name, modules[name], peer)
        elif not name.startswith("pooler"):  # a BertModel may be built without
            raise refusal(model, name, None, f"{type(peer).__name__}, as its config says")


def _check_module(model: nn.Module, name: str, module: nn.Module, peer: nn.Module) -> None:
    if type(module) is not type(peer):
        raise refusal(model, name, type(module).__name__, f"{type(peer).__name__}, as its config says")
    for option, value in vars(peer).items():
        actual = getattr(module, option, None)
        numbers = isinstance(value, int | float | tuple) or isinstance(actual, int | float | tuple)
        if numbers and actual != value and option not in NO_MATTER and not option.startswith("_"):
            raise refusal(model, f"{name}.{option}", actual, f"{value}, as its config says")
    if isinstance(module, nn.Dropout | nn.BatchNorm2d) and module.training != model.training:
        raise refusal(model, f"{name}.training", module.training, f"the mode of the whole model, {model.training}")
