"""Losses: of a classifier on a batch, of logits over a sequence."""

import torch.nn.functional as F
from torch import Tensor, nn

NO_CLASS = -(2**63)  # PyTorch would otherwise pass over targets of -100 without a word


def cross_entropy(model: nn.Module, batch: tuple[Tensor, Tensor], label_smoothing: float = 0.0) -> Tensor:
    """Mean cross-entropy in nats an example, a scalar: the loss that `train` asks of a classifier.

    batch = (inputs (B, ...), labels), the labels either (B,) classes or (B, C) probabilities; the model gives logits (B, C).
    """
    inputs, labels = batch
    return F.cross_entropy(model(inputs), labels, label_smoothing=label_smoothing)


def token_cross_entropy(logits: Tensor, targets: Tensor, ignore: int | None = None, label_smoothing: float = 0.0) -> Tensor:
    """Mean cross-entropy in nats a token, a scalar.

    logits (..., V), targets (...) of token ids. Positions whose target is `ignore` (padding, say) do not count.
    Label smoothing mixes the target with the uniform distribution (Szegedy et al., 2016, section 7).
    Raises ValueError where the shapes disagree or every position is ignored.
    """
    if logits.shape[:-1] != targets.shape:
        raise ValueError(f"targets must have the shape {tuple(logits.shape[:-1])} of the logits, got {tuple(targets.shape)}")
    if ignore is not None and (targets == ignore).all():
        raise ValueError(f"targets: every position is {ignore}, which is ignored; expected at least one other")
    return F.cross_entropy(
        logits.flatten(0, -2),  # (..., V) -> (N, V)
        targets.flatten(),  # (...) -> (N,)
        ignore_index=NO_CLASS if ignore is None else ignore,
        label_smoothing=label_smoothing,
    )
