"""Convolution of images: from its definition, as one matrix product, and as the kernel that runs; pooling; receptive fields.

As everywhere in the field, "convolution" is cross-correlation: the kernel is not flipped.
"""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tutorlib.arguments import check_counts, check_whole
from tutorlib.layers.activations import activation_named
from tutorlib.layers.arguments import check_images
from tutorlib.layers.normalization import BatchNorm


def output_size(size: int, kernel_size: int, stride: int = 1, padding: int = 0) -> int:
    """How many positions a window of `kernel_size` pixels has along a side of `size` pixels.

    It is (size + 2 padding - kernel_size) // stride + 1. Raises ValueError where the window does not fit once, and for a
    negative padding or a stride below 1.
    """
    check_counts(size=size, kernel_size=kernel_size, stride=stride)
    check_whole("padding", padding, least=0)
    if size + 2 * padding < kernel_size:
        raise ValueError(f"kernel_size must be at most size + 2 padding = {size + 2 * padding}, got {kernel_size}")
    return (size + 2 * padding - kernel_size) // stride + 1


def windows(images: Tensor, kernel_size: int, stride: int = 1, padding: int = 0, value: float = 0.0) -> Tensor:
    """Every window of the padded images: (B, C, H, W) -> (B, C, H', W', K, K), without padding a view that copies nothing.

    Entry [b, c, p, q, i, j] is the padded pixel (stride p + i, stride q + j); the padding is `value`. Raises ValueError for
    images of another shape, and what `output_size` refuses.
    """
    check_images(images)
    for size in images.shape[-2:]:
        output_size(size, kernel_size, stride, padding)  # refuses a window that does not fit
    padded = F.pad(images, [padding] * 4, value=value) if padding else images  # (B, C, H + 2 padding, W + 2 padding)
    return padded.unfold(2, kernel_size, stride).unfold(3, kernel_size, stride)


def conv2d(images: Tensor, weight: Tensor, bias: Tensor | None = None, *, stride: int = 1, padding: int = 0, groups: int = 1,
           form: str = "fused") -> Tensor:
    """y[o, p, q] = bias[o] + the sum over c, i, j of weight[o, c, i, j] · x[c, stride p + i, stride q + j].

    images (B, C, H, W), weight (O, C / groups, K, K), bias (O,) -> (B, O, H', W'), where H' = `output_size(H, K, ...)`
    (Goodfellow et al. 2016, equation 9.6). With groups, each O / groups maps of the output see their own C / groups channels.
    The forms give the same numbers: "window" adds up one shifted image for each place in the kernel, "columns" writes the
    windows into the columns of a matrix and multiplies once, "fused" is PyTorch's kernel.
    Raises ValueError where shapes disagree or the form is unknown.
    """
    if form not in FORMS:
        raise ValueError(f"form must be one of {list(FORMS)}, got {form!r}")
    if images.dim() != 4 or weight.dim() != 4 or weight.shape[2] != weight.shape[3]:
        raise ValueError("images must be (B, C, H, W) and weight (O, C, K, K), "
                         f"got {tuple(images.shape)} and {tuple(weight.shape)}")
    if images.shape[1] != groups * weight.shape[1] or len(weight) % groups:
        raise ValueError(f"weight must have C / groups channels and O a multiple of groups = {groups}, "
                         f"got {tuple(weight.shape)} for C = {images.shape[1]}")
    for size in images.shape[-2:]:
        output_size(size, weight.size(-1), stride, padding)  # refuses a window that does not fit
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"bias must be (O,) = ({len(weight)},), got {tuple(bias.shape)}")  # it would be broadcast
    outputs = FORMS[form](images, weight, stride, padding, groups)  # (B, O, H', W')
    return outputs if bias is None else outputs + bias.view(-1, 1, 1)


def _by_window(images: Tensor, weight: Tensor, stride: int, padding: int, groups: int) -> Tensor:
    kernel_size = weight.shape[-1]
    height, width = (output_size(size, kernel_size, stride, padding) for size in images.shape[-2:])
    padded = F.pad(images, [padding] * 4).unflatten(1, (groups, -1))  # (B, G, C/G, ...)
    kernels = weight.unflatten(0, (groups, -1))  # (G, O/G, C/G, K, K)
    total = 0
    for i in range(kernel_size):
        for j in range(kernel_size):
            rows, columns = slice(i, i + stride * height, stride), slice(j, j + stride * width, stride)
            shifted = padded[..., rows, columns]  # (B, G, C/G, H', W')
            total = total + torch.einsum("bgchw,goc->bgohw", shifted, kernels[..., i, j])
    return total.flatten(1, 2)  # (B, O, H', W')


def _by_columns(images: Tensor, weight: Tensor, stride: int, padding: int, groups: int) -> Tensor:
    patches = windows(images, weight.shape[-1], stride, padding)  # (B, C, H', W', K, K)
    height, width = patches.shape[2:4]
    columns = patches.permute(0, 1, 4, 5, 2, 3).reshape(len(images), groups, -1, height * width)  # (B, G, C/G K K, H' W')
    rows = weight.reshape(groups, len(weight) // groups, -1)  # (G, O/G, C/G K K)
    return (rows @ columns).reshape(len(images), -1, height, width)  # (B, O, H', W')


def _by_kernel(images: Tensor, weight: Tensor, stride: int, padding: int, groups: int) -> Tensor:
    return F.conv2d(images, weight, stride=stride, padding=padding, groups=groups)


FORMS = {"fused": _by_kernel, "window": _by_window, "columns": _by_columns}


def max_pool2d(images: Tensor, kernel_size: int, stride: int | None = None, padding: int = 0) -> Tensor:
    """The largest pixel of every window, (B, C, H, W) -> (B, C, H', W'); the stride is the kernel's size unless given.

    Raises ValueError where the padding leaves a window without a pixel.
    """
    if padding >= kernel_size:
        raise ValueError(f"padding must be less than kernel_size = {kernel_size}, got {padding}")
    return windows(images, kernel_size, kernel_size if stride is None else stride, padding, value=float("-inf")).amax((-2, -1))


def avg_pool2d(images: Tensor, kernel_size: int, stride: int | None = None, padding: int = 0) -> Tensor:
    """The mean of every window, padding counted as zeros, (B, C, H, W) -> (B, C, H', W'); stride as in `max_pool2d`."""
    return windows(images, kernel_size, kernel_size if stride is None else stride, padding).mean((-2, -1))


def receptive_field(layers: list[tuple[int, int]]) -> int:
    """Side, in pixels of the input, of what one output of stacked windows sees.

    `layers` are (kernel_size, stride), first to last. Each adds (kernel_size - 1) steps; a step is the product of the strides
    before it.
    """
    side, step = 1, 1
    for kernel_size, stride in layers:
        side += (kernel_size - 1) * step
        step *= stride
    return side


class ConvNorm(nn.Module):
    """Convolution without bias, batch norm, activation: the unit of which residual networks are made.

    The padding keeps the size at stride 1; the norm's own shift takes the place of a bias. Weights start as in He et al. 2015.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, *, stride: int = 1, groups: int = 1,
                 activation: str | None = "relu"):
        super().__init__()
        check_counts(in_channels=in_channels, out_channels=out_channels, kernel_size=kernel_size, stride=stride, groups=groups)
        self.activation = nn.Identity() if activation is None else activation_named(activation)
        self.convolution = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, groups=groups,
                                     bias=False)
        self.norm = BatchNorm(out_channels)
        nn.init.kaiming_normal_(self.convolution.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, O, H', W')."""
        return self.activation(self.norm(self.convolution(images)))


def fold_batch_norms(model: nn.Module) -> nn.Module:
    """A copy of `model` for inference in which every `ConvNorm` is one convolution, with a bias, and no norm.

    At test time batch norm is a fixed scale and shift of each channel, so it can be multiplied into the kernel before it:
    with s = weight / √(variance + eps), the kernel becomes s · kernel, and the bias is the norm's own less s · mean. The copy
    is in evaluation mode and asks for no gradients.
    """
    folded = copy.deepcopy(model).eval().requires_grad_(False)
    for unit in folded.modules():
        if isinstance(unit, ConvNorm):
            norm, convolution = unit.norm, unit.convolution
            scale = norm.weight / (norm.running_var + norm.eps).sqrt()  # (O,)
            convolution.weight.mul_(scale.view(-1, 1, 1, 1))
            convolution.bias = nn.Parameter(norm.bias - norm.running_mean * scale, requires_grad=False)
            unit.norm = nn.Identity()
    return folded
