"""What a classifier gets right."""

import torch
from torch import Tensor, nn


def accuracy(model: nn.Module, inputs: Tensor, labels: Tensor, *, batch_size: int = 500) -> float:
    """The share of `inputs` (N, ...) for which the largest of the model's logits (N, C) is that of `labels` (N,).

    The model is asked in evaluation mode, without gradients, `batch_size` inputs at a time, and is left in the mode it was in.
    Raises ValueError where there are no inputs, or not one label for each.
    """
    if len(inputs) != len(labels) or not len(inputs):
        raise ValueError(f"inputs and labels must be equally many, at least one, got {len(inputs)} and {len(labels)}")
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            right = sum((model(some).argmax(-1) == those).sum().item()
                        for some, those in zip(inputs.split(batch_size), labels.split(batch_size), strict=True))
    finally:
        model.train(was_training)
    return right / len(labels)
