"""Fewer weights: single ones set to zero, or whole hidden units taken out, at once or along a schedule.

A zero in a dense matrix is stored and multiplied like any other number (erratum S11); a hidden unit that is gone is neither.
"""

import torch
from torch import Tensor, nn

from tutorlib.compression.quantization import matrices
from tutorlib.layers.feed_forward import FeedForward


def magnitude_mask(weight: Tensor, share: float) -> Tensor:
    """True for the weights that stay: all but the `share` of the smallest magnitude (Han et al. 2015).

    Exactly round(share · N) are False; of equal magnitudes those that come first go first. Raises ValueError for a share
    outside [0, 1].
    """
    _check_share(share)
    order = weight.detach().abs().flatten().argsort(stable=True)  # (N,) the smallest first
    mask = torch.ones(weight.numel(), dtype=torch.bool, device=weight.device)
    mask[order[:round(share * weight.numel())]] = False
    return mask.view(weight.shape)


def two_of_four(weight: Tensor) -> Tensor:
    """True for the two largest of every four neighbors of a row: the pattern that sparse tensor cores multiply (2:4).

    weight (out, in) -> (out, in). Raises ValueError where four does not divide the row (Mishra et al. 2021).
    """
    if weight.dim() != 2 or weight.shape[1] % 4:
        raise ValueError(f"weight must be (out, in) with `in` a multiple of 4, got {tuple(weight.shape)}")
    fours = weight.detach().abs().unflatten(1, (-1, 4))  # (out, in / 4, 4)
    kept = fours.topk(2, -1).indices
    return torch.zeros_like(fours, dtype=torch.bool).scatter_(-1, kept, True).flatten(1)


def cubic_schedule(step: int, begin: int, end: int, final: float) -> float:
    """The share that is gone after `step` steps: 0 until `begin`, `final` from `end` on, fast first and slowly at last.

    final · (1 - (1 - t)³) with t = (step - begin) / (end - begin) (Zhu and Gupta 2017, equation 1, from 0).
    Raises ValueError for a share outside [0, 1] or an end that is not after the beginning.
    """
    _check_share(final, "final")
    if not begin < end:
        raise ValueError(f"end must come after begin, got begin {begin} and end {end}")
    t = min(max((step - begin) / (end - begin), 0.0), 1.0)
    return final * (1 - (1 - t) ** 3)


class Pruner:
    """Keeps a share of the model's matrices at zero while it is trained: call it before each step's forward pass.

    Each matrix loses the same share of its own weights. What the optimizer has moved away from zero is set back; a weight
    that has been taken out stays out, since its magnitude is the smallest when the next share is chosen.
    Raises ValueError where the model has none of the matrices `names`.
    """

    def __init__(self, model: nn.Module, names: list[str] | None = None):
        found = matrices(model)
        if unknown := sorted(set(names or []) - set(found)):
            raise ValueError(f"names: {unknown[0]!r} is no matrix of a linear layer or an embedding of the model")
        self.weights = {name: model.get_parameter(name) for name in (found if names is None else names)}
        self.masks = {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in self.weights.items()}

    @torch.no_grad()
    def __call__(self, share: float | None = None) -> None:
        """Set to zero what is out; with a `share`, choose first what is out from the weights as they are now."""
        for name, weight in self.weights.items():
            weight.mul_(self.masks[name])  # or what is out could come back
            if share is not None:
                self.masks[name] = magnitude_mask(weight, share)
                weight.mul_(self.masks[name])

    @property
    def share(self) -> float:
        """Of the weights under its care that are out."""
        masks = self.masks.values()
        return 1 - sum(mask.sum().item() for mask in masks) / sum(mask.numel() for mask in masks)


@torch.no_grad()
def unit_scores(layer: FeedForward, moments: Tensor | None = None) -> Tensor:
    """What each hidden unit matters, (F,): the length of its outgoing weights, times its root mean square if that is known.

    moments (F, F): the mean of h hᵀ over the inputs of `layer.contract`, as `input_moments` gives it. With them the score is
    what the output would lose were the unit set to zero, root mean square. Without them the length of the unit's incoming
    weights stands for its size. Raises ValueError for moments of another shape.
    """
    outgoing = layer.contract.weight.norm(dim=0)  # (F,)
    if moments is None:
        return outgoing * layer.expand.weight.norm(dim=1)
    if moments.shape != (len(outgoing), len(outgoing)):
        raise ValueError(f"moments must be ({len(outgoing)}, {len(outgoing)}), one row a unit, got {tuple(moments.shape)}")
    return outgoing * moments.diagonal().clamp_min(0).sqrt()


@torch.no_grad()
def keep_units(layer: FeedForward, kept: Tensor) -> FeedForward:
    """A new feed-forward network of the hidden units `kept` (indices) alone: smaller matrices, fewer products.

    Raises ValueError where no unit is kept or one is none of the layer's.
    """
    hidden, width = layer.expand.weight.shape
    if kept.dim() != 1 or not len(kept) or not 0 <= kept.min() <= kept.max() < hidden:
        raise ValueError(f"kept must be indices in [0, {hidden}), at least one, got {kept.tolist()[:5]}")
    like = layer.expand.weight
    small = FeedForward(width, len(kept), bias=layer.expand.bias is not None, dropout=layer.dropout.p)
    small = small.to(device=like.device, dtype=like.dtype)
    small.activation = layer.activation
    small.expand.weight.copy_(layer.expand.weight[kept])
    small.contract.weight.copy_(layer.contract.weight[:, kept])
    if layer.expand.bias is not None:
        small.expand.bias.copy_(layer.expand.bias[kept])
        small.contract.bias.copy_(layer.contract.bias)
    return small.train(layer.training)


def _check_share(share: float, name: str = "share") -> None:
    if not 0 <= share <= 1:
        raise ValueError(f"{name} must be from 0 to 1, got {share}")
