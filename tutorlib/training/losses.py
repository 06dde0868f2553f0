"""Losses: of a classifier on a batch, of logits over a sequence or over the pixels of images.

All look at the values of classes and probabilities and refuse what is none. Not on CUDA, where that would make the CPU wait in
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


def pixel_cross_entropy(logits: Tensor, classes: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean cross-entropy in nats a pixel, a scalar; with `weight` (C,) a mean in which each pixel counts as its class does.

    logits (B, C, H, W), classes (B, H, W) of integers. Raises ValueError where the shapes disagree, a class is not in [0, C),
    or a weight is negative.
    """
    num_classes = _check_pixels(logits, classes)
    if weight is not None:
        if weight.shape != (num_classes,) or not (weight >= 0).all():
            raise ValueError(f"weight must be ({num_classes},) numbers of at least 0, one a class, got {weight}")
        weight = weight.to(logits)
    return F.cross_entropy(logits, classes.long(), weight=weight)


def dice_loss(logits: Tensor, classes: Tensor) -> Tensor:
    """1 - the mean over the classes of 2 Σ p y / (Σ p + Σ y), a scalar: overlap instead of a count of pixels.

    p are the probabilities, y is 1 on the pixels of the class, and the sums run over all pixels of the batch; only the classes
    that stand in it count. After Milletari et al. 2016, who square p and y in the denominator. logits (B, C, H, W), classes
    (B, H, W) of integers. Raises ValueError where the shapes disagree or a class is not in [0, C).
    """
    num_classes = _check_pixels(logits, classes)
    probabilities = logits.float().softmax(1)  # (B, C, H, W)
    truth = F.one_hot(classes.long(), num_classes).movedim(-1, 1).to(probabilities)  # (B, C, H, W)
    both, either = ((probabilities * truth).sum((0, 2, 3)), (probabilities + truth).sum((0, 2, 3)))  # (C,) each
    present = truth.sum((0, 2, 3)) > 0  # (C,)
    return 1 - (2 * both / either)[present].mean()


def _check_pixels(logits: Tensor, classes: Tensor) -> int:
    """The number of classes."""
    if logits.dim() != 4 or classes.shape != (logits.size(0), *logits.shape[2:]):
        raise ValueError("logits must be (B, C, H, W) and classes (B, H, W), "
                         f"got {tuple(logits.shape)} and {tuple(classes.shape)}")
    if classes.is_floating_point() or classes.is_complex() or classes.dtype == torch.bool:
        raise ValueError(f"classes must be integers, got {classes.dtype}")
    if classes.device.type not in ("cuda", "meta"):
        _check_classes("classes", classes, logits.size(1), NO_CLASS)
    return logits.size(1)


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
