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


def cross_attention_weights(model: nn.Module, source: Tensor, target: Tensor,
                            source_mask: Tensor | None = None) -> list[Tensor]:
    """The weights (B, H, T, S) with which each decoder layer of a `Transformer` reads its source, first layer first.

    source (B, S), target (B, T) and source_mask (B, S) are those of its call. Row t belongs to the prediction of the token
    behind target t. They are computed once more in the explicit form; nothing is changed, and no gradient is kept. Raises
    ValueError for a model without `norm_first`.
    """
    if not model.config.norm_first:
        raise ValueError("model must have norm_first=True: what its cross-attention reads is then the output of its norm")
    queries: list[Tensor] = []
    layers = model.layers.decoder.layers
    hooks = [layer.cross_attention_norm.register_forward_hook(lambda _, __, output: queries.append(output)) for layer in layers]
    with removed_after(hooks), torch.no_grad():
        memory = model.encode(source, source_mask)  # (B, S, D)
        model.decode(target, memory, source_mask)
        return [layer.cross_attention(query, memory, padding_mask=source_mask, return_weights=True)[1]
                for layer, query in zip(layers, queries, strict=True)]
