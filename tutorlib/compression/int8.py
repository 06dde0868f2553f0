"""Smaller weights for inference: one int8 a weight, one scale an output (symmetric absmax quantization, round to nearest).

Generating a token reads every weight once, so the bytes of the weights set the pace. Two faces with the same integers:
`Int8Linear` computes in the dtype of its input, the definition; `FusedInt8Linear` is made for generation, a token at a time.
"""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tutorlib.device import has_fast_bfloat16
from tutorlib.layers.linears import replace_linears

FEW_ROWS = 16  # up to here the fused kernel is the faster one
LARGE = 2**17  # weights of a matrix; from here on a product of many rows in bfloat16 is worth casting the matrix for it
KERNEL_STEP = 16  # it reads so many inputs at a time, and past the end of a row that is no multiple of it


def absmax_int8(weight: Tensor) -> tuple[Tensor, Tensor]:
    """weight (out, in) -> integers (out, in) int8 in [-127, 127] and scale (out, 1): weight ≈ integers · scale.

    The scale of a row is its largest magnitude / 127, so an entry is off by at most scale / 2. A row of zeros, or
    of numbers too small for such a scale, has scale 1.
    Raises ValueError for anything but a matrix of finite floats.
    """
    if weight.dim() != 2 or not weight.is_floating_point() or not weight.isfinite().all():
        raise ValueError(f"weight must be a matrix of finite floats (out, in), got {weight.dtype} {tuple(weight.shape)}")
    scale = weight.float().abs().amax(dim=1, keepdim=True) / 127  # (out, 1)
    scale = torch.where(scale > 0, scale, 1.0)
    return (weight.float() / scale).round().to(torch.int8), scale


def packed(model: nn.Module, vectors: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """The state of a language model whose output matrix is its embedding, without that copy, as it is kept or sent.

    Every matrix (out, in) is int8 and has its scales (out, 1) beside it, as `NAME.scale`; what is no matrix has the dtype
    `vectors`. A matrix that came from such integers gives the same ones again.
    """
    tensors = {}
    for name, tensor in model.state_dict().items():
        if name == "output.weight":
            continue
        if tensor.dim() == 2:
            tensors[name], tensors[f"{name}.scale"] = (part.contiguous() for part in absmax_int8(tensor))
        else:
            tensors[name] = tensor.to(vectors).contiguous()
    return tensors


def unpacked(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state for `load_state_dict`, in float32: every matrix within half a step of what was packed."""
    state = {name: tensor.float() * tensors.get(f"{name}.scale", 1.0)  # (out, in) times (out, 1)
             for name, tensor in tensors.items() if not name.endswith(".scale")}
    return state | {"output.weight": state["embedding.weight"]}


class Int8Linear(nn.Module):
    """x Wᵀ + b with W = integers · scale. One byte a weight; the product is that of the dequantized matrix.

    The scale belongs to an output, so it multiplies after the sum over the inputs and the integers are used as they are.
    """

    def __init__(self, layer: nn.Linear):
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        integers, scale = absmax_int8(layer.weight.detach())
        self.register_buffer("integers", integers)  # (out, in)
        self.register_buffer("scale", scale[:, 0])  # (out,)
        self.register_buffer("bias", None if layer.bias is None else layer.bias.detach().clone())

    def forward(self, inputs: Tensor) -> Tensor:
        """(..., in) -> (..., out). Raises ValueError for inputs that are no floats, or of another width."""
        if not inputs.is_floating_point() or inputs.shape[-1:] != (self.in_features,):
            raise ValueError(f"inputs must be floats (..., {self.in_features}), got {inputs.dtype} {tuple(inputs.shape)}")
        outputs = self.product(inputs)  # (..., out)
        return outputs if self.bias is None else outputs + self.bias.to(inputs.dtype)

    def product(self, inputs: Tensor) -> Tensor:
        """x Wᵀ in the dtype of the inputs: (..., in) -> (..., out)."""
        if inputs.dtype == torch.float16:  # a sum of integers would overflow before it is scaled
            return self.product(inputs.float()).half()
        return F.linear(inputs, self.integers.to(inputs.dtype)) * self.scale.to(inputs.dtype)  # (..., out)


class FusedInt8Linear(Int8Linear):
    """`Int8Linear` for a CPU, in bfloat16: inputs and sums are rounded to it, and then scaled in float32.

    Up to `FEW_ROWS` rows, as in generation, take the kernel that PyTorch has for 8-bit weights, which never writes them out as
    floats. More rows are multiplied in bfloat16 where the processor has instructions for it and the matrix is `LARGE`.
    Elsewhere, and for few rows whose length is not a multiple of `KERNEL_STEP`, the product is that of `Int8Linear`.

    PyTorch marks the kernel with an underscore: another release may change it, and the tests would say so.
    """

    def __init__(self, layer: nn.Linear):
        super().__init__(layer)
        self.many_in_bfloat16 = self.integers.numel() >= LARGE and has_fast_bfloat16("cpu")

    def product(self, inputs: Tensor) -> Tensor:
        """x Wᵀ, rounded to bfloat16 as the class says: (..., in) -> (..., out)."""
        rows = inputs.reshape(-1, self.in_features)  # (N, in)
        few = len(rows) <= FEW_ROWS
        if few and self.in_features % KERNEL_STEP == 0:
            ones = torch.ones(self.out_features, dtype=torch.bfloat16)  # it would have the scale in bfloat16: ours is exact
            sums = torch._weight_int8pack_mm(rows.bfloat16(), self.integers, ones)  # (N, out)
        elif not few and self.many_in_bfloat16:
            sums = F.linear(rows.bfloat16(), self.integers.bfloat16())  # (N, out)
        else:
            return super().product(inputs)
        return (sums * self.scale).to(inputs.dtype).view(*inputs.shape[:-1], -1)  # (..., out)


def quantize(model: nn.Module, *, fused: bool = False) -> nn.Module:
    """The model for inference with every `nn.Linear` in int8, an output matrix that is tied to the embedding among them.

    What stays in floats - embedding, norms, convolutions - is shared with `model`, which is left as it is. `fused` chooses
    `FusedInt8Linear`. Raises ValueError where the model has no linear layer, or `fused` is asked for off the CPU.
    """
    if not any(type(module) is nn.Linear for module in model.modules()):
        raise ValueError(f"model: {type(model).__name__} has no nn.Linear to quantize")
    if fused and any(weight.device.type != "cpu" for weight in model.parameters()):
        raise ValueError("fused=True needs a model on the CPU; elsewhere use fused=False")
    shared = {id(weight): weight for weight in model.parameters()}
    return replace_linears(copy.deepcopy(model, shared), FusedInt8Linear if fused else Int8Linear).eval()


def weight_bytes(model: nn.Module) -> int:
    """Bytes of the parameters and buffers of a model, a tensor that is used twice counted once."""
    tensors = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}.values()
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
