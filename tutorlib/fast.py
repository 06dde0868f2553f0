"""The fast room: the same weights, the same results, less time. Every other room is left as it is; nothing here is a default.

What pays depends on the processor, the library and the shape, so each switch can be thrown alone and measured: `roofline` says
what the machine could do at most. Results are equal to rounding in float32, and within the rounding of the weights else.
"""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from tutorlib.compression.int8 import FEW_ROWS, KERNEL_STEP, FusedInt8Linear
from tutorlib.data.batches import LengthBuckets
from tutorlib.device import has_fast_bfloat16
from tutorlib.layers import GatedFeedForward, KeyValueCache, MultiHeadAttention, RotaryPosition, fold_batch_norms
from tutorlib.layers.fused import fused_attention
from tutorlib.layers.linears import replace_linears
from tutorlib.layers.masks import join_padding
from tutorlib.layers.position import Rotation
from tutorlib.models import GPT, Llama


class ScaledInt8Linear(FusedInt8Linear):
    """`FusedInt8Linear` whose scale the kernel itself multiplies by: one pass less over the outputs of every product.

    The kernel takes the scale in bfloat16. So the scale is rounded first and the integers are chosen for the rounded one: the
    weights are as near as before, but for one part in 256 of a step.
    """

    def __init__(self, layer: nn.Linear):
        super().__init__(layer)
        self.register_buffer("short_scale", self.scale.bfloat16())  # (out,)
        self.scale = self.short_scale.float()
        weight = layer.weight.detach().float()
        self.integers = (weight / self.scale[:, None]).round().clamp(-127, 127).to(torch.int8)  # (out, in)

    def product(self, inputs: Tensor) -> Tensor:
        """x Wᵀ, rounded to bfloat16: (..., in) -> (..., out)."""
        rows = inputs.reshape(-1, self.in_features)  # (N, in)
        if len(rows) > FEW_ROWS or self.in_features % KERNEL_STEP:
            return super().product(inputs)
        outputs = torch._weight_int8pack_mm(rows.bfloat16(), self.integers, self.short_scale)  # (N, out)
        return outputs.to(inputs.dtype).view(*inputs.shape[:-1], -1)  # (..., out)


def column_major(model: nn.Module) -> nn.Module:
    """A copy in which every matrix with more outputs than inputs lies in memory input by input. Values and shapes are the same.

    A product with a single row then reads each input's weights in one run, and adds them to all outputs at once; some libraries
    are up to twice as fast so, for one row. A tied output matrix stays tied.
    """
    return _turn(copy.deepcopy(model).eval().requires_grad_(False))


def _turn(fast: nn.Module) -> nn.Module:
    """`column_major` in place."""
    turned: dict[nn.Parameter, nn.Parameter] = {}
    for layer in fast.modules():
        if type(layer) is nn.Linear and layer.out_features > layer.in_features:
            turned[layer.weight] = nn.Parameter(layer.weight.t().contiguous().t(), requires_grad=False)  # (out, in)
    for module in fast.modules():
        for name, weight in list(module.named_parameters(recurse=False)):
            if weight in turned:
                setattr(module, name, turned[weight])
    return fast


class MergedAttention(nn.Module):
    """A `MultiHeadAttention` attending to itself, with its projections as one matrix and queries and keys turned together.

    A token costs one product instead of three, and half the small operations: for a single row these take as long as the
    products do. Takes and gives what the attention that it is made of does, without weights and without a mask over pairs.
    """

    def __init__(self, attention: MultiHeadAttention, rotary: "DoubledRotary | None"):
        super().__init__()
        parts = (attention.query, attention.key, attention.value)
        self.heads = attention.num_heads, attention.num_key_value_heads
        self.head_width, self.rotary, self.output = attention.head_width, rotary, attention.output
        self.projections = _merged(parts)

    def forward(self, states: Tensor, mask: None = None, *, padding_mask: Tensor | None = None, causal: bool = False,
                cache: KeyValueCache | None = None, rotation: Rotation | None = None) -> Tensor:
        """(B, T, D) -> (B, T, D), as `MultiHeadAttention.forward`."""
        query_heads, key_heads = self.heads
        heads = self.projections(states).unflatten(-1, (-1, self.head_width)).transpose(1, 2)  # (B, H + 2 H_kv, T, K)
        turned, values = heads.split((query_heads + key_heads, key_heads), dim=1)
        if self.rotary is not None:
            cos, sin = self.rotary.rotation(states, 0 if cache is None else cache.length) if rotation is None else rotation
            turned = torch.addcmul(turned * cos, turned.roll(self.head_width // 2, -1), sin)
        queries, keys = turned.split((query_heads, key_heads), dim=1)  # (B, H, T, K), (B, H_kv, T, K)
        if cache is not None:
            keys, values = cache.append(keys, values)  # (B, H_kv, S, K)
        padding = join_padding(None, padding_mask, states.size(0), keys.size(2))
        found = fused_attention(queries, keys, values, padding, causal=causal, dropout=0.0, scale=self.head_width**-0.5)
        return self.output(found.transpose(1, 2).flatten(2))


class DoubledRotary(RotaryPosition):
    """Cosines and signed sines for whole heads: x cos + roll(x, K/2) sin is x turned, in three operations instead of eight."""

    def rotation(self, states: Tensor, offset: int = 0, places: Tensor | None = None) -> Rotation:
        """As `RotaryPosition.rotation`, of the width K: cos twice, and sin first with a minus."""
        cos, sin = super().rotation(states, offset, places)
        return torch.cat([cos, cos], dim=-1), torch.cat([-sin, sin], dim=-1)


class MergedGate(nn.Module):
    """A `GatedFeedForward` whose two matrices of the same input are one."""

    def __init__(self, network: GatedFeedForward):
        super().__init__()
        self.activation, self.contract = network.activation, network.contract
        self.both = _merged((network.gate, network.expand))

    def forward(self, states: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        gate, expanded = self.both(states).chunk(2, dim=-1)  # (B, T, F) each
        return self.contract(self.activation(gate) * expanded)


def _merged(layers: tuple[nn.Linear, ...]) -> nn.Linear:
    """Linear layers of the same input as one, their outputs side by side."""
    first = layers[0]
    one = nn.Linear(first.in_features, sum(layer.out_features for layer in layers), bias=first.bias is not None,
                    device="meta").to(first.weight.dtype)
    one.weight = nn.Parameter(torch.cat([layer.weight.detach() for layer in layers]), requires_grad=False)
    if first.bias is not None:
        one.bias = nn.Parameter(torch.cat([layer.bias.detach() for layer in layers]), requires_grad=False)
    return one


def merged(model: GPT | Llama) -> nn.Module:
    """A copy for inference in which projections of the same input are one product. What is not merged is shared with `model`.

    Raises ValueError for a model that is neither GPT nor Llama.
    """
    if not isinstance(model, GPT | Llama):
        raise ValueError(f"model must be a GPT or a Llama, got {type(model).__name__}")
    fast = copy.deepcopy(model, {id(weight): weight for weight in model.parameters()}).eval()
    doubled: dict[nn.Module | None, DoubledRotary | None] = {None: None}
    for layer in fast.layers:
        rotary = layer.attention.rotary
        if rotary not in doubled:
            doubled[rotary] = DoubledRotary(rotary.head_width, rotary.base)
        layer.attention = MergedAttention(layer.attention, doubled[rotary])
        if isinstance(layer.feed_forward, GatedFeedForward):
            layer.feed_forward = MergedGate(layer.feed_forward)
    return fast


def prepare(model: nn.Module, weights: torch.dtype = torch.float32) -> nn.Module:
    """A copy for inference with weights of this type: projections merged, batch norms folded, in float32 matrices turned.

    float32 gives the same results to rounding. bfloat16 takes two bytes a weight and computes in it; int8 one byte, for
    generation a row or a few at a time (`ScaledInt8Linear`). Raises ValueError for another type, for bfloat16 where the
    processor has no instructions for it, and for int8 off the CPU or in a model without linear layers.
    """
    device = next(model.parameters()).device
    model = merged(model) if isinstance(model, GPT | Llama) else model
    if weights == torch.float32:
        return _turn(fold_batch_norms(model))
    if weights == torch.bfloat16:
        if not has_fast_bfloat16(device):
            raise ValueError(f"weights=torch.bfloat16 needs a processor with instructions for it; {device} here has none")
        return fold_batch_norms(model).bfloat16()
    if weights != torch.int8:
        raise ValueError(f"weights must be torch.float32, torch.bfloat16 or torch.int8, got {weights}")
    if device.type != "cpu":
        raise ValueError(f"weights=torch.int8 needs a model on the CPU, got {device}")
    shared = {id(weight): weight for weight in model.parameters()}  # what stays in floats is not copied
    return replace_linears(copy.deepcopy(model, shared), ScaledInt8Linear).eval()


def in_buckets(run: Callable[[Tensor, Tensor], Tensor], tokens: Tensor, attention_mask: Tensor, batch_size: int = 8) -> Tensor:
    """`run(tokens, attention_mask)` on groups of rows of like length, each cut to its longest: the same rows, in their order.

    tokens and attention_mask (B, T), padded on the right, 1 = a token; `run` gives (b, t, ...), whose padding is set to zero.
    Raises ValueError for a mask of another shape, or with a token behind padding.
    """
    real = attention_mask.bool()
    if attention_mask.shape != tokens.shape or (~real[:, :-1] & real[:, 1:]).any():
        raise ValueError(f"attention_mask must have the tokens' shape {tuple(tokens.shape)}, its zeros on the right, "
                         f"got {tuple(attention_mask.shape)}")
    lengths = real.sum(dim=1)  # (B,)
    result = None
    for rows in LengthBuckets(lengths, batch_size):
        longest = int(lengths[rows].max())
        mask = real[rows, :longest]  # (b, t)
        states = run(tokens[rows, :longest], attention_mask[rows, :longest])  # (b, t, ...)
        if result is None:
            result = states.new_zeros(*tokens.shape, *states.shape[2:])  # (B, T, ...)
        result[rows, :longest] = states * mask.view(*mask.shape, *[1] * (states.dim() - 2))
    return result
