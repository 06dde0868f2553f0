"""A model that `torch.compile` has wrapped: the module inside, and the names that it has without the wrapper."""

from torch import nn

COMPILED = "_orig_mod"  # under this name `torch.compile` keeps the module that it wraps


def unwrapped(module: nn.Module) -> nn.Module:
    """The module itself, where `torch.compile` has wrapped it."""
    return getattr(module, COMPILED, module)


def plain_name(name: str) -> str:
    """A name in a model, without the parts that `torch.compile` puts into it."""
    return ".".join(part for part in name.split(".") if part != COMPILED)
