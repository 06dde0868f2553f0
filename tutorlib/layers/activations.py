"""The functions between linear maps, by the names that the field gives them."""

from collections.abc import Callable
from functools import partial

import torch.nn.functional as F
from torch import Tensor


def quick_gelu(x: Tensor) -> Tensor:
    """x sigmoid(1.702 x), an approximation of GELU (Hendrycks & Gimpel 2016), which CLIP was trained with."""
    return x * (1.702 * x).sigmoid()


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu, "relu6": F.relu6, "gelu": F.gelu, "gelu_tanh": partial(F.gelu, approximate="tanh"), "silu": F.silu,
    "tanh": F.tanh, "sigmoid": F.sigmoid, "quick_gelu": quick_gelu}


def activation_named(name: str) -> Callable[[Tensor], Tensor]:
    """One of `ACTIVATIONS`. Raises ValueError for another name."""
    if name not in ACTIVATIONS:
        raise ValueError(f"activation must be one of {sorted(ACTIVATIONS)}, got {name!r}")
    return ACTIVATIONS[name]
