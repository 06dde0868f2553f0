"""Weights in a few bits: a grid of equally spaced values for a tensor, a row or a group of it, and two ways to round to it.

`round_to_nearest` takes each weight by itself. `gptq` looks at what the layer is given: it rounds the weights of a column, and
lets the columns after it, which are still floats, take over the error (Frantar et al. 2023; Hassibi and Stork 1993).
"""

import copy
from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tutorlib.arguments import check_whole
from tutorlib.layers.linears import replace_linears

LARGEST_BITS = 8
LARGEST = 65504 // 2  # of a weight, so that no difference of two leaves float16


class Quantized(NamedTuple):
    """weight ≈ integers · scale + minimum, where each number of a grid stands for `columns / groups` neighbors of a row."""

    integers: Tensor  # (out, in) uint8, each below 2^bits
    scale: Tensor  # (out, groups) float16; (1, 1) for a whole tensor
    minimum: Tensor  # as scale
    bits: int

    @property
    def weight(self) -> Tensor:
        """The matrix that it stands for, (out, in) float32."""
        grid = [_spread(part.float(), self.integers.shape) for part in (self.scale, self.minimum)]  # (out, in) each
        return self.integers * grid[0] + grid[1]

    @property
    def nbytes(self) -> int:
        """What it takes on disk, in bytes, with the integers packed without gaps and two bytes for each number of a grid."""
        return -(-self.integers.numel() * self.bits // 8) + 2 * (self.scale.numel() + self.minimum.numel())


def grid(weight: Tensor, bits: int, group: int | str = "row") -> tuple[Tensor, Tensor]:
    """weight (out, in) -> scale and minimum, float16: 2^bits equal steps from the smallest weight to the largest.

    One pair for the whole "tensor" (1, 1), for each "row" (out, 1), or for every `group` neighbors of a row (out, in / group),
    as in GGUF's Q4_1. The scale is (largest - smallest) / (2^bits - 1). Raises ValueError for a weight that is no matrix of
    finite floats, bits outside 1 to 8, or a group that does not divide the row.
    """
    _check_weight(weight)
    check_bits(bits)
    if weight.numel() and not (largest := weight.abs().max().item()) <= LARGEST:
        raise ValueError(f"weight must be within {LARGEST} of 0, where float16 ends, got {largest:g}")
    parts = _grouped(weight.float(), group)  # (out, groups, in / groups), or (1, 1, out · in)
    low, high = parts.amin(-1), parts.amax(-1)  # (out, groups) each
    scale = ((high - low) / (2**bits - 1)).half()
    return torch.where(scale > 0, scale, 1.0), low.half()


def round_to_nearest(weight: Tensor, bits: int, group: int | str = "row") -> Quantized:
    """Each weight to the nearest point of its `grid`: off by scale / 2 at most, and by what float16 does to the grid's ends.

    Raises ValueError as `grid` does.
    """
    scale, minimum = grid(weight, bits, group)
    steps = (weight.float() - _spread(minimum.float(), weight.shape)) / _spread(scale.float(), weight.shape)
    return Quantized(steps.round().clamp(0, 2**bits - 1).to(torch.uint8), scale, minimum, bits)


def gptq(weight: Tensor, moments: Tensor, bits: int, group: int | str = "row", damping: float = 0.01) -> Quantized:
    """Round column after column, and let the columns that are left take over each error: the outputs change least.

    weight (out, in); moments (in, in) the mean of x xᵀ over the layer's inputs. With U the upper Cholesky factor of the
    inverse moments, an error e of column j is spread over the columns k > j as -e U[j, k] / U[j, j] (Frantar et al. 2023,
    algorithm 1, without its blocks). `damping` times the mean of the diagonal is added to it, and an input that is always 0
    changes nothing. The grid is that of the weights before any column has moved.
    Raises ValueError as `grid` does, for moments of another shape, and for a damping that is not above 0.
    """
    scale, minimum = grid(weight, bits, group)
    upper = _spreading(moments, weight.shape[1], damping)  # (in, in)
    left, integers = weight.float().clone(), torch.empty(weight.shape, dtype=torch.uint8)
    scales, lows = (_spread(part.float(), weight.shape) for part in (scale, minimum))  # (out, in) each
    for j in range(weight.shape[1]):
        steps = ((left[:, j] - lows[:, j]) / scales[:, j]).round().clamp(0, 2**bits - 1)  # (out,)
        error = (left[:, j] - steps * scales[:, j] - lows[:, j]) / upper[j, j]  # (out,)
        left[:, j + 1:] -= error[:, None] * upper[j, j + 1:]  # (out, in - j - 1)
        integers[:, j] = steps
    return Quantized(integers, scale, minimum, bits)


def _spreading(moments: Tensor, width: int, damping: float) -> Tensor:
    """The upper triangular U with Uᵀ U = (moments + damping)⁻¹, (in, in)."""
    whole = damped(moments, width, damping)
    return torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(whole)), upper=True).float()


def damped(moments: Tensor, width: int, damping: float) -> Tensor:
    """moments (in, in) with `damping` times the mean of the diagonal added to it, in float64: it can be inverted.

    Raises ValueError for moments of another width and a damping that is not above 0.
    """
    if moments.shape != (width, width):
        raise ValueError(f"moments must be ({width}, {width}), one row an input, got {tuple(moments.shape)}")
    if not damping > 0:
        raise ValueError(f"damping must be above 0, got {damping}")
    whole = moments.double()
    mean = whole.diagonal().mean().clamp_min(torch.finfo(torch.float32).tiny)
    return whole + damping * mean * torch.eye(width, dtype=torch.float64, device=moments.device)


@torch.no_grad()
def input_moments(model: nn.Module, batches: Iterable[tuple]) -> dict[str, Tensor]:
    """The mean of x xᵀ over what each `nn.Linear` is given, (in, in), by the name of the layer's weight in the model.

    A batch is the tuple of the model's arguments. A weight that is shared with another module has the name that
    `named_parameters` gives it. Raises ValueError where the model has no linear layer or there is no batch.
    """
    names = {id(weight): name for name, weight in model.named_parameters()}
    layers = {names[id(layer.weight)]: layer for layer in model.modules() if isinstance(layer, nn.Linear)}
    if not layers:
        raise ValueError(f"model: {type(model).__name__} has no nn.Linear")
    sums, counts = {}, dict.fromkeys(layers, 0)

    def hook_for(name: str) -> Callable:
        def hook(layer: nn.Module, given: tuple[Tensor]) -> None:
            rows = given[0].detach().float().flatten(0, -2)  # (N, in)
            sums[name] = sums.get(name, 0.0) + rows.T @ rows  # (in, in)
            counts[name] += len(rows)
        return hook

    hooks = [layer.register_forward_pre_hook(hook_for(name)) for name, layer in layers.items()]
    try:
        for batch in batches:
            model(*batch)
    finally:
        for hook in hooks:
            hook.remove()
    if not sums:
        raise ValueError("batches must hold at least one batch, got none")
    return {name: total / counts[name] for name, total in sums.items()}


# -- models and files -------------------------------------------------------------------------------------------------


def matrices(model: nn.Module) -> dict[str, Tensor]:
    """The weights of all linear layers and embeddings by their names, each once: what is worth making smaller."""
    kept = {id(module.weight) for module in model.modules() if isinstance(module, nn.Linear | nn.Embedding)}
    return {name: weight.detach() for name, weight in model.named_parameters() if id(weight) in kept}


def with_weights(model: nn.Module, weights: dict[str, Tensor]) -> nn.Module:
    """A copy of the model with other weights under these names, in evaluation mode; shared weights stay shared.

    Raises ValueError for a name that the model lacks, or another shape.
    """
    own, changed = copy.deepcopy(model), dict(model.named_parameters())
    for name, weight in weights.items():
        if name not in changed or changed[name].shape != weight.shape:
            expected = tuple(changed[name].shape) if name in changed else f"one of {', '.join(list(changed)[:3])}, ..."
            raise ValueError(f"weights: {name!r} of the shape {tuple(weight.shape)}; expected {expected}")
        own.get_parameter(name).data.copy_(weight)
    return own.eval()


def pack_bits(integers: Tensor, bits: int) -> Tensor:
    """Integers below 2^bits, any shape -> bytes (N,) uint8 without gaps: eight numbers of 3 bits are three bytes."""
    check_bits(bits)
    low, high = (integers.min().item(), integers.max().item()) if integers.numel() else (0, 0)
    if not 0 <= low <= high < 2**bits:
        raise ValueError(f"integers must lie in [0, {2**bits}), got from {low} to {high}")
    places = torch.arange(bits, device=integers.device)
    single = (integers.flatten().int()[:, None] >> places & 1).flatten()  # (numbers · bits,) lowest bit first
    octets = F.pad(single, (0, -len(single) % 8)).view(-1, 8)
    return (octets << torch.arange(8, device=integers.device)).sum(1).to(torch.uint8)  # (N,)


def unpack_bits(octets: Tensor, bits: int, shape: tuple[int, ...]) -> Tensor:
    """What `pack_bits` was given, uint8 of the shape `shape`. Raises ValueError where the bytes are too few or too many."""
    check_bits(bits)
    count = torch.Size(shape).numel()
    if len(octets) != -(-count * bits // 8):
        raise ValueError(f"octets must be {-(-count * bits // 8)} bytes for {tuple(shape)} of {bits} bits, got {len(octets)}")
    if bits in (4, 8) and not count % 2:  # the same numbers, without a detour through single bits
        return (octets if bits == 8 else torch.stack([octets & 15, octets >> 4], 1)).reshape(shape)
    single = (octets[:, None] >> torch.arange(8, device=octets.device) & 1).flatten()[:count * bits]
    values = single.view(count, bits).int() << torch.arange(bits, device=octets.device)  # (numbers, bits)
    return values.sum(1).to(torch.uint8).view(shape)


class QuantizedLinear(nn.Module):
    """x Wᵀ + b from packed integers, unpacked anew in every call: the memory of `bits` a weight, and no time gained."""

    def __init__(self, layer: nn.Linear, quantized: Quantized):
        super().__init__()
        if quantized.integers.shape != layer.weight.shape:
            raise ValueError(f"quantized must be {tuple(layer.weight.shape)}, got {tuple(quantized.integers.shape)}")
        self.bits, self.shape = quantized.bits, tuple(layer.weight.shape)
        self.register_buffer("packed", pack_bits(quantized.integers, quantized.bits))
        self.register_buffer("scale", quantized.scale)
        self.register_buffer("minimum", quantized.minimum)
        self.register_buffer("bias", None if layer.bias is None else layer.bias.detach().clone())

    def forward(self, inputs: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        integers = unpack_bits(self.packed, self.bits, self.shape)
        weight = Quantized(integers, self.scale, self.minimum, self.bits).weight.to(inputs.dtype)  # (out, in)
        return F.linear(inputs, weight, None if self.bias is None else self.bias.to(inputs.dtype))


class FusedInt4Linear(QuantizedLinear):
    """`QuantizedLinear` of 4 bits for a CPU, in bfloat16, by the kernel that PyTorch has: it unpacks in its registers.

    Groups are of 32, 64, 128 or 256; outputs a multiple of 16. PyTorch marks the kernel with an underscore: another release
    may change it, and the tests would say so. Raises ValueError for other bits, groups or outputs.
    """

    def __init__(self, layer: nn.Linear, quantized: Quantized):
        super().__init__(layer, quantized)
        self.group = self.shape[1] // quantized.scale.shape[1]
        if quantized.bits != 4 or self.group not in (32, 64, 128, 256) or self.shape[0] % 16:
            raise ValueError("quantized must have 4 bits, groups of 32, 64, 128 or 256 and outputs a multiple of 16, got "
                             f"{quantized.bits} bits, groups of {self.group}, {self.shape[0]} outputs")
        self.packed = torch._convert_weight_to_int4pack_for_cpu(quantized.integers.int(), 1)
        scale = quantized.scale.float()  # (out, groups)
        middle = quantized.minimum.float() + 8 * scale  # the kernel counts its integers from -8
        self.register_buffer("grids", torch.stack([scale.T, middle.T], -1).bfloat16().contiguous())  # (groups, out, 2)
        del self.scale, self.minimum

    def forward(self, inputs: Tensor) -> Tensor:
        """(..., in) -> (..., out), rounded to bfloat16 on the way."""
        rows = inputs.reshape(-1, self.shape[1]).bfloat16()  # (N, in)
        sums = torch.ops.aten._weight_int4pack_mm_for_cpu(rows, self.packed, self.group, self.grids)  # (N, out)
        outputs = sums.to(inputs.dtype).view(*inputs.shape[:-1], -1)  # (..., out)
        return outputs if self.bias is None else outputs + self.bias.to(inputs.dtype)


def quantize_linears(model: nn.Module, bits: int, group: int | str = "row", *, fused: bool = False) -> nn.Module:
    """A copy of the model for inference whose linear layers hold packed integers, rounded to nearest.

    `fused` chooses `FusedInt4Linear`. Raises ValueError as `grid` and the layers do, and where there is no linear layer.
    """
    kind = FusedInt4Linear if fused else QuantizedLinear
    shared = {id(weight): weight for weight in model.parameters()}
    return replace_linears(copy.deepcopy(model, shared),
                           lambda layer: kind(layer, round_to_nearest(layer.weight.detach(), bits, group))).eval()


def check_bits(bits: int) -> None:
    """Raise ValueError where no byte holds so many bits."""
    check_whole("bits", bits)
    if bits > LARGEST_BITS:
        raise ValueError(f"bits must be from 1 to {LARGEST_BITS}, got {bits}")


def _check_weight(weight: Tensor) -> None:
    if weight.dim() != 2 or not weight.is_floating_point() or not weight.isfinite().all():
        raise ValueError(f"weight must be a matrix of finite floats (out, in), got {weight.dtype} {tuple(weight.shape)}")


def _grouped(weight: Tensor, group: int | str) -> Tensor:
    """(out, in) -> (out, groups, in / groups): what shares a scale lies along the last dimension."""
    if group == "tensor":
        return weight.reshape(1, 1, -1)
    size = weight.shape[1] if group == "row" else group
    if not isinstance(size, int) or size < 1 or weight.shape[1] % size:
        raise ValueError(f'group must be "tensor", "row" or a divisor of the {weight.shape[1]} inputs, got {group!r}')
    return weight.unflatten(1, (-1, size))


def _spread(part: Tensor, shape: torch.Size) -> Tensor:
    """(out, groups) or (1, 1) -> (out, in): each number to all weights of its group."""
    return part.expand(shape) if part.shape[1] == 1 else part.repeat_interleave(shape[1] // part.shape[1], 1)
