"""Layer, root-mean-square and batch normalization: as formulas, and as modules on PyTorch's kernels."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tutorlib.layers.arguments import check_images, check_width


def layer_norm(states: Tensor, weight: Tensor, bias: Tensor | None = None, eps: float = 1e-5) -> Tensor:
    """(x - mean) / √(variance + eps) · weight + bias over the last dimension (Ba, Kiros & Hinton 2016).

    states (..., D), weight and bias (D,). The variance is the biased one, divided by D, and eps stands under the root.
    Raises ValueError for a weight of another width.
    """
    check_width("weight", weight, states.size(-1))
    if bias is not None:
        check_width("bias", bias, states.size(-1))
    mean = states.mean(dim=-1, keepdim=True)  # (..., 1)
    variance = states.var(dim=-1, keepdim=True, unbiased=False)  # (..., 1)
    normalized = (states - mean) / (variance + eps).sqrt() * weight  # (..., D)
    return normalized if bias is None else normalized + bias


def rms_norm(states: Tensor, weight: Tensor, eps: float = 1e-6) -> Tensor:
    """x / √(mean of x² + eps) · weight over the last dimension (Zhang & Sennrich 2019). states (..., D), weight (D,).

    Raises ValueError for a weight of another width.
    """
    check_width("weight", weight, states.size(-1))
    return states * (states.square().mean(dim=-1, keepdim=True) + eps).rsqrt() * weight


def batch_norm(images: Tensor, mean: Tensor, variance: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
    """(x - mean) / √(variance + eps) · weight + bias for each channel (Ioffe & Szegedy 2015, algorithm 1).

    images (B, C, H, W); the others (C,). In training, mean and variance are those of the batch over B, H and W, the variance
    divided by B·H·W; at test time they are running averages. Raises ValueError for shapes that do not fit.
    """
    check_images(images)
    for name, each in {"mean": mean, "variance": variance, "weight": weight, "bias": bias}.items():
        if each.shape != images.shape[1:2]:
            raise ValueError(f"{name} must have the shape (C,) = ({images.size(1)},), got {tuple(each.shape)}")
    mean, variance, weight, bias = (each.view(-1, 1, 1) for each in (mean, variance, weight, bias))  # (C, 1, 1)
    return (images - mean) / (variance + eps).sqrt() * weight + bias


class LayerNorm(nn.Module):
    """`layer_norm` with a learned weight and bias, on PyTorch's fused kernel."""

    def __init__(self, width: int, eps: float = 1e-5, bias: bool = True):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width)) if bias else None
        self.eps = eps

    def forward(self, states: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        return F.layer_norm(states, self.weight.shape, self.weight, self.bias, self.eps)


class RMSNorm(nn.Module):
    """`rms_norm` with a learned weight, on PyTorch's fused kernel."""

    def __init__(self, width: int, eps: float = 1e-6):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, states: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        return F.rms_norm(states, self.weight.shape, self.weight, self.eps)


class BatchNorm(nn.Module):
    """`batch_norm` with a learned weight and bias, on PyTorch's fused kernel.

    In training mode it uses the statistics of the batch, and moves `running_mean` and `running_var` (unbiased, divided by
    B·H·W - 1) toward them by the share `momentum`; in evaluation mode it uses those two.
    """

    def __init__(self, channels: int, eps: float = 1e-5, momentum: float = 0.1):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.eps, self.momentum = eps, momentum

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W). Raises ValueError for images of another shape."""
        check_images(images)
        return F.batch_norm(images, self.running_mean, self.running_var, self.weight, self.bias, self.training, self.momentum,
                            self.eps)
