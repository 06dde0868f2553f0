"""Layer normalization and its root-mean-square variant: as formulas, and as modules on PyTorch's kernels."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def layer_norm(states: Tensor, weight: Tensor, bias: Tensor | None = None, eps: float = 1e-5) -> Tensor:
    """(x - mean) / √(variance + eps) · weight + bias over the last dimension (Ba, Kiros & Hinton 2016).

    states (..., D), weight and bias (D,). The variance is the biased one, divided by D, and eps stands under the root.
    """
    mean = states.mean(dim=-1, keepdim=True)  # (..., 1)
    variance = states.var(dim=-1, keepdim=True, unbiased=False)  # (..., 1)
    normalized = (states - mean) / (variance + eps).sqrt() * weight  # (..., D)
    return normalized if bias is None else normalized + bias


def rms_norm(states: Tensor, weight: Tensor, eps: float = 1e-6) -> Tensor:
    """x / √(mean of x² + eps) · weight over the last dimension (Zhang & Sennrich 2019). states (..., D), weight (D,)."""
    return states * (states.square().mean(dim=-1, keepdim=True) + eps).rsqrt() * weight


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
