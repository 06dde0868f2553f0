"""The contrastive loss of pairs: each image is to pick its text out of the batch, each text its image (Radford et al. 2021)."""

import torch
import torch.nn.functional as F
from torch import Tensor


def contrastive_loss(logits: Tensor) -> Tensor:
    """Half the cross-entropy along the rows plus half of that along the columns, nats a pair; the truth is the diagonal.

    logits (B, B), row i an image, column j a text: how well they fit. Raises ValueError for another shape.
    """
    if logits.dim() != 2 or logits.size(0) != logits.size(1) or not len(logits):
        raise ValueError(f"logits must be square, (B, B), a row an image and a column a text, got {tuple(logits.shape)}")
    truth = torch.arange(len(logits), device=logits.device)  # (B,)
    return (F.cross_entropy(logits, truth) + F.cross_entropy(logits.T, truth)) / 2
