"""Which inputs a stack of attention layers drew from: the weights of each layer, and their product through all of them."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tutorlib.interpretation.hooks import removed_after
from tutorlib.layers import MultiHeadAttention


def attention_weights(model: nn.Module, *inputs: Tensor) -> list[Tensor]:
    """The weights (B, H, T, S) of every `MultiHeadAttention` in `model`, in the order in which `model(*inputs)` calls them.

    The fused kernel never stores them, so each layer computes them once more in the explicit form. Nothing is changed, and no
    gradient is kept. Raises ValueError for a model that calls no such layer.
    """
    found: list[Tensor] = []

    def note(layer: MultiHeadAttention, positional: tuple, keywords: dict, _: Tensor) -> None:
        found.append(layer.forward(*positional, **{**keywords, "return_weights": True})[1])  # (B, H, T, S)

    hooks = [layer.register_forward_hook(note, with_kwargs=True) for layer in model.modules()
             if isinstance(layer, MultiHeadAttention)]
    with removed_after(hooks), torch.no_grad():
        model(*inputs)
    if not found:
        raise ValueError(f"model must call a MultiHeadAttention, got {type(model).__name__}, which calls none")
    return found


def attention_rollout(weights: Sequence[Tensor]) -> Tensor:
    """How much of each input reaches each place of the last layer, if a layer passes on what its weights say.

    Abnar and Zuidema (2020), section 3. With A_l the mean of layer l's weights over its heads and I the identity, which stands
    for the residual connection, the rollout is the product of all layers, the last one on the left::

        rollout = Ã_N ... Ã_2 Ã_1,   Ã_l = A_l / 2 + I / 2

    weights: one (B, H, T, T) a layer, first layer first -> (B, T, T). Row t says where place t of the last layer comes from;
    it sums to 1. Values, feed-forward networks and the real size of the residual branch are ignored.
    Raises ValueError for no layers, and for weights that are not square and of one shape.
    """
    if not weights:
        raise ValueError("weights must hold at least one layer, got none")
    batch, _, places, _ = weights[0].shape
    rollout = torch.eye(places, dtype=weights[0].dtype, device=weights[0].device).expand(batch, -1, -1)  # (B, T, T)
    for layer in weights:
        if layer.dim() != 4 or (layer.size(0), *layer.shape[2:]) != (batch, places, places):
            raise ValueError(f"weights must be (B, H, T, T) = ({batch}, H, {places}, {places}), got {tuple(layer.shape)}")
        rollout = (layer.mean(1) @ rollout + rollout) / 2  # (B, T, T)
    return rollout
