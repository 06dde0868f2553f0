"""Losses: of a classifier on a batch, of logits over a sequence.

Both look at the values of classes and probabilities and refuse what is none. Not on CUDA, where that would make the CPU wait in
every step: there the kernel's own assertion ends the run at a class outside the range, a mean over nothing is NaN, and
probabilities are taken as they are.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NO_CLASS = -(2**63)  # PyTorch would otherwise pass over targets of -100 without a word
ROUNDING = 0.01  # by which the sum of probabilities may miss 1, in bfloat16 too


def cross_entropy(model: nn.Module, batch: tuple[Tensor, Tensor], label_smoothing: float = 0.0) -> Tensor:
    """Mean cross-entropy in nats an example, a scalar: the loss that `train` asks of a classifier.

    batch = (inputs (B, ...), labels), the labels either (B,) classes, which are integers, or (B, C) probabilities, which are
    floating-point numbers; the model gives logits (B, C). Examples of the class `NO_CLASS` do not count.
    Raises ValueError for other shapes, classes outside [0, C), probabilities that are negative or have another sum than 1, and
    a label smoothing outside [0, 1].
    """
    inputs, labels = batch
    logits = model(inputs)  # (B, C)
    if logits.dim() != 2:
        raise ValueError(f"model must give logits of shape (B, C), got {tuple(logits.shape)}")
    if not labels.is_floating_point():
        return _of_classes(logits, labels, "labels", NO_CLASS, label_smoothing)
    _check_smoothing(label_smoothing)
    if labels.shape != logits.shape:
        raise ValueError(f"labels that are probabilities must have the shape {tuple(logits.shape)} of the logits, "
                         f"got {tuple(labels.shape)}")
    _check_probabilities(labels)
    return F.cross_entropy(logits, labels, label_smoothing=label_smoothing)


def token_cross_entropy(logits: Tensor, targets: Tensor, ignore: int | None = None, label_smoothing: float = 0.0) -> Tensor:
    """Mean cross-entropy in nats a token, a scalar.

    logits (..., V), targets (...) of token ids. Positions whose target is `ignore` (padding, say), by default `NO_CLASS`, do
    not count. Label smoothing mixes the target with the uniform distribution (Szegedy et al., 2016, section 7).
    Raises ValueError where the shapes disagree, a target is no token, every position is ignored, or a label smoothing lies
    outside [0, 1].
    """
    return _of_classes(logits, targets, "targets", NO_CLASS if ignore is None else ignore, label_smoothing)


def _of_classes(logits: Tensor, classes: Tensor, name: str, ignore: int, label_smoothing: float) -> Tensor:
    if logits.dim() < 2:
        raise ValueError(f"logits must have the shape (..., V), of two dimensions or more, got {tuple(logits.shape)}")
    if logits.shape[:-1] != classes.shape:
        raise ValueError(f"{name} must have the shape {tuple(logits.shape[:-1])} of the logits, got {tuple(classes.shape)}")
    if classes.is_floating_point() or classes.is_complex() or classes.dtype == torch.bool:
        raise ValueError(f"{name} must be integers, got {classes.dtype}")
    _check_smoothing(label_smoothing)
    classes = classes.long()
    if classes.device.type not in ("cuda", "meta"):
        _check_classes(name, classes[classes != ignore], logits.size(-1), ignore)
    return F.cross_entropy(
        logits.flatten(0, -2),  # (..., V) -> (N, V)
        classes.flatten(),  # (...) -> (N,)
        ignore_index=ignore,
        label_smoothing=label_smoothing,
    )


def _check_classes(name: str, counted: Tensor, num_classes: int, ignore: int) -> None:
    if not len(counted):
        raise ValueError(f"{name}: every position is {ignore}, which is ignored; expected at least one other")
    if not 0 <= counted.min() <= counted.max() < num_classes:
        raise ValueError(f"{name} must lie in [0, {num_classes}), got values from {counted.min()} to {counted.max()}")


def _check_probabilities(labels: Tensor) -> None:
    if not len(labels):
        raise ValueError("labels must be those of at least one example, got none")
    if labels.device.type in ("cuda", "meta"):
        return
    if not (labels >= 0).all():
        raise ValueError(f"labels that are probabilities must not be negative, got {labels.min()}")
    if not ((sums := labels.sum(-1)) - 1).abs().max() <= ROUNDING:  # (B,)
        raise ValueError(f"labels that are probabilities must have the sum 1, got sums from {sums.min()} to {sums.max()}")


def _check_smoothing(label_smoothing: float) -> None:
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing must be a share from 0 to 1, got {label_smoothing}")
