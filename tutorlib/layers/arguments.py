"""Where tokens enter a model."""

import torch
from torch import Tensor


def check_tokens(name: str, tokens: Tensor, vocabulary: int) -> None:
    """Raise ValueError unless `tokens` is a (B, T) tensor of integers in [0, vocabulary)."""
    if tokens.dim() != 2 or tokens.dtype not in (torch.int64, torch.int32):
        raise ValueError(f"{name} must be integer tokens of shape (B, length), got {tokens.dtype} {tuple(tokens.shape)}")
    if tokens.numel() and not 0 <= int(tokens.min()) <= int(tokens.max()) < vocabulary:
        raise ValueError(f"{name} must lie in [0, {vocabulary}), the vocabulary, got values from {int(tokens.min())} to "
                         f"{int(tokens.max())}")
