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
from tutorlib.layers import fold_batch_norms
from tutorlib.layers.linears import replace_linears


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


def prepare(model: nn.Module, weights: torch.dtype = torch.float32) -> nn.Module:
    """A copy for inference with weights of this type; in floats batch norms are folded, in float32 matrices turned too.

    float32 gives the same results to rounding. bfloat16 takes two bytes a weight and computes in it; int8 one byte, for
    generation a row or a few at a time (`ScaledInt8Linear`). Raises ValueError for another type, for bfloat16 where the
    processor has no instructions for it, and for int8 off the CPU or in a model without linear layers.
    """
    device = next(model.parameters()).device
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
