"""Smaller weights for inference: one int8 a weight, one scale an output (symmetric absmax quantization, round to nearest).

Generating a token reads every weight once, so the bytes of the weights set the pace. Two faces: `Int8Linear` stores int8
and computes in the dtype of its input: the definition. `PackedInt8Linear` holds the same integers in PyTorch's int8 kernel,
which is several times as fast for a few rows and rounds its input too, to 7 bits, with one scale for all rows of a call.
"""

import copy
import warnings

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def absmax_int8(weight: Tensor) -> tuple[Tensor, Tensor]:
    """weight (out, in) -> integers (out, in) int8 in [-127, 127] and scale (out, 1): weight ≈ integers · scale.

    The scale of a row is its largest magnitude / 127, so an entry is off by at most scale / 2. A row of zeros has scale 1.
    Raises ValueError for anything but a matrix of finite floats.
    """
    if weight.dim() != 2 or not weight.is_floating_point() or not weight.isfinite().all():
        raise ValueError(f"weight must be a matrix of finite floats (out, in), got {weight.dtype} {tuple(weight.shape)}")
    largest = weight.float().abs().amax(dim=1, keepdim=True)  # (out, 1)
    scale = torch.where(largest > 0, largest / 127, 1.0)
    return (weight.float() / scale).round().to(torch.int8), scale


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
        """(..., in) -> (..., out)."""
        outputs = F.linear(inputs, self.integers.to(inputs.dtype)) * self.scale.to(inputs.dtype)  # (..., out)
        return outputs if self.bias is None else outputs + self.bias.to(inputs.dtype)


class PackedInt8Linear(nn.Module):
    """`Int8Linear` on PyTorch's dynamic int8 kernel (`torch.ao.nn.quantized.dynamic.Linear`): float32 in and out, on the CPU.

    That module is deprecated in favor of the package torchao; where a release of torch lacks it, use `Int8Linear`.
    """

    def __init__(self, layer: nn.Linear):
        super().__init__()
        from torch.ao.nn.quantized.dynamic import Linear  # only here: importing it is slow, and it will go

        integers, scale = absmax_int8(layer.weight.detach())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its going
            zeros = torch.zeros(layer.out_features, dtype=torch.long)
            weight = torch.quantize_per_channel(integers.float() * scale, scale[:, 0].double(), zeros, 0, torch.qint8)
            self.kernel = Linear(layer.in_features, layer.out_features, bias_=layer.bias is not None)
        self.kernel.set_weight_bias(weight, None if layer.bias is None else layer.bias.detach().float())

    def forward(self, inputs: Tensor) -> Tensor:
        """(..., in) float32 -> (..., out)."""
        return self.kernel(inputs)


def quantize(model: nn.Module, *, packed: bool = False) -> nn.Module:
    """The model for inference with every `nn.Linear` in int8, an output matrix that is tied to the embedding among them.

    What stays in floats - embedding, norms, convolutions - is shared with `model`, which is left as it is. `packed` chooses
    `PackedInt8Linear`. Raises ValueError where the model has no linear layer, or `packed` is asked for off the CPU.
    """
    if not any(isinstance(module, nn.Linear) for module in model.modules()):
        raise ValueError(f"model: {type(model).__name__} has no nn.Linear to quantize")
    if packed and any(weight.device.type != "cpu" for weight in model.parameters()):
        raise ValueError("packed=True needs a model on the CPU; elsewhere use packed=False")
    make = PackedInt8Linear if packed else Int8Linear
    shared = {id(weight): weight for weight in model.parameters()}
    return _replace(copy.deepcopy(model, shared), make).eval()


def _replace(module: nn.Module, make: type[nn.Module]) -> nn.Module:
    if isinstance(module, nn.Linear):
        return make(module)
    for name, child in module.named_children():
        setattr(module, name, _replace(child, make))
    return module


def weight_bytes(model: nn.Module) -> int:
    """Bytes of the parameters and buffers of a model, a tensor that is used twice counted once; packed layers count too."""
    tensors = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}.values()
    packed = [module.kernel.weight() for module in model.modules() if isinstance(module, PackedInt8Linear)]
    stored = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    return stored + sum(weight.numel() + 4 * weight.size(0) for weight in packed)
