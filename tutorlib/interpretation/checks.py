"""Whether a map means anything: does it find what was planted, and does it change when the weights do?"""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn


def share_found(maps: Tensor, places: Tensor) -> Tensor:
    """Of the places (B, N) of each example, the share among the N largest entries of its map (B, S): (B,).

    For one place it says whether the map's largest entry stands there. Equal entries are taken in order, so a constant map
    must not be asked. Raises ValueError for shapes that do not fit.
    """
    if maps.dim() != 2 or places.dim() != 2 or maps.size(0) != places.size(0) or places.size(1) > maps.size(1):
        raise ValueError(f"maps must be (B, S) and places (B, N), got {tuple(maps.shape)} and {tuple(places.shape)}")
    top = maps.topk(places.size(1), dim=1).indices  # (B, N)
    return (top[:, :, None] == places[:, None, :]).any(1).to(torch.get_default_dtype()).mean(1)  # (B,)


def with_shuffled_weights(model: nn.Module, generator: torch.Generator,
                          which: Callable[[str], bool] = lambda name: True) -> nn.Module:
    """A copy whose parameters, those with a name that `which` accepts, are permuted each within itself (Adebayo et al. 2018).

    The numbers of every tensor stay, so its scale does too; what was learned is their order. The model is left as it is.
    """
    shuffled = copy.deepcopy(model)
    with torch.no_grad():
        for name, parameter in shuffled.named_parameters():
            if which(name):
                order = torch.randperm(parameter.numel(), generator=generator).to(parameter.device)
                parameter.copy_(parameter.flatten()[order].view_as(parameter))
    return shuffled
