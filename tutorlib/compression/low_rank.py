"""Two thin matrices for one: out · in weights become (out + in) · rank."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tutorlib.compression.quantization import damped


def factorize(weight: Tensor, rank: int, moments: Tensor | None = None, damping: float = 1e-4) -> tuple[Tensor, Tensor]:
    """weight (out, in) -> left (out, rank), right (rank, in), whose product is nearest to it among all of this rank.

    Nearest in its entries (Eckart and Young 1936); or, with the moments (in, in) of the layer's inputs, in its outputs: with
    S Sᵀ = moments, the mean squared length of W x - L R x is that of (W - L R) S: W S is cut, and S is taken out again.
    Raises ValueError for a rank outside 1 to the smaller side, moments of another shape, and a damping that is not above 0.
    """
    _check_matrix(weight, rank)
    if moments is None:
        return _cut(weight.double(), rank, weight.dtype)
    root = torch.linalg.cholesky(damped(moments, weight.shape[1], damping))  # (in, in) lower
    left, right = _cut(weight.double() @ root, rank, torch.float64)
    right = torch.linalg.solve_triangular(root, right, upper=False, left=False)  # right root⁻¹
    return left.to(weight.dtype), right.to(weight.dtype)


def rank_for(weight: Tensor, share: float) -> int:
    """The largest rank whose two factors have at most `share` of the weights of the matrix, at least 1."""
    if not share > 0:
        raise ValueError(f"share must be above 0, got {share}")
    out, width = weight.shape
    return max(1, min(int(share * out * width / (out + width)), out, width))


class LowRankLinear(nn.Module):
    """(x Rᵀ) Lᵀ + b: two products in the place of one."""

    def __init__(self, layer: nn.Linear, rank: int, moments: Tensor | None = None):
        super().__init__()
        left, right = factorize(layer.weight.detach(), rank, moments)
        self.left, self.right = nn.Parameter(left), nn.Parameter(right)  # (out, rank), (rank, in)
        self.bias = None if layer.bias is None else nn.Parameter(layer.bias.detach().clone())

    def forward(self, inputs: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        return F.linear(F.linear(inputs, self.right), self.left, self.bias)  # (..., rank) between the two


def _cut(weight: Tensor, rank: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The `rank` largest singular values, their roots on either side."""
    U, S, Vh = torch.linalg.svd(weight, full_matrices=False)
    root = S[:rank].sqrt()
    return (U[:, :rank] * root).to(dtype), (root[:, None] * Vh[:rank]).to(dtype)


def _check_matrix(weight: Tensor, rank: int) -> None:
    if weight.dim() != 2 or not 1 <= rank <= min(weight.shape):
        raise ValueError(f"rank must be from 1 to the smaller side of the weight {tuple(weight.shape)}, got {rank}")
