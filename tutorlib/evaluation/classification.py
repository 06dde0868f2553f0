"""What a classifier gets right."""

import torch
from torch import Tensor, nn


def accuracy(model: nn.Module, inputs: Tensor, labels: Tensor, *, batch_size: int = 500) -> float:
    """The share of `inputs` (N, ...) for which the largest of the model's logits (N, C) is that of `labels` (N,).

    The model is asked in evaluation mode, without gradients, `batch_size` inputs at a time, and is left in the mode it was in.
    Raises ValueError where there are no inputs, or not one label for each, an integer in [0, C), and for logits of another
    shape.
    """
    if len(inputs) != len(labels) or not len(inputs):
        raise ValueError(f"inputs and labels must be equally many, at least one, got {len(inputs)} and {len(labels)}")
    if labels.dim() != 1 or labels.is_floating_point() or labels.dtype == torch.bool:
        raise ValueError(f"labels must be integers of shape (N,), got {labels.dtype} of shape {tuple(labels.shape)}")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            right = sum(_number_right(model(some), those)
                        for some, those in zip(inputs.split(batch_size), labels.split(batch_size), strict=True))
    finally:
        model.train(was_training)
    return right / len(labels)


def _number_right(logits: Tensor, labels: Tensor) -> int:
    if logits.dim() != 2 or len(logits) != len(labels):
        raise ValueError(f"model must give logits of shape ({len(labels)}, C), got {tuple(logits.shape)}")
    if not 0 <= labels.min() <= labels.max() < logits.size(1):
        raise ValueError(f"labels must lie in [0, {logits.size(1)}), got values from {labels.min()} to {labels.max()}")
    return (logits.argmax(-1) == labels).sum().item()
