"""What is wrong with a set of labeled examples, made on purpose, and which of them to keep."""

import torch
from torch import Tensor

from tutorlib.arguments import check_counts


def wrong_labels(labels: Tensor, share: float, classes: int, *, generator: torch.Generator) -> Tensor:
    """Labels (N,) of which `share`, drawn at random, are replaced by another class, each as likely (symmetric noise).

    Exactly round(share N) of them are wrong. Raises ValueError for a share outside 0 to 1, fewer than two classes, labels that
    are no integers from 0 to classes - 1.
    """
    check_counts(classes=classes)
    if not 0 <= share <= 1:
        raise ValueError(f"share must be from 0 to 1, got {share}")
    if classes < 2:
        raise ValueError(f"classes must be at least 2, so that there is a wrong one, got {classes}")
    _check_labels(labels)
    if len(labels) and labels.max() >= classes:
        raise ValueError(f"labels must be below classes = {classes}, got {labels.max()}")
    chosen = torch.randperm(len(labels), generator=generator)[:round(share * len(labels))].to(labels.device)  # (M,)
    shift = torch.randint(1, classes, (len(chosen),), generator=generator).to(labels.device)  # never 0: always another
    spoiled = labels.clone()
    spoiled[chosen] = (labels[chosen] + shift) % classes
    return spoiled


def distance_to_mean(examples: Tensor, labels: Tensor) -> Tensor:
    """How far each example (N, ...) lies from the mean of its class, (N,): small is typical, large is unusual.

    Raises ValueError for labels (N,) that are no integers from 0 on, or are not as many.
    """
    _check_labels(labels)
    if examples.dim() < 2 or len(examples) != len(labels):
        raise ValueError(f"examples must be (N, ...) with a label each, got {tuple(examples.shape)} and {len(labels)} labels")
    rows = examples.flatten(1)  # (N, P)
    counts = labels.bincount().clamp(min=1)  # (C,)
    sums = rows.new_zeros(len(counts), rows.size(1)).index_add_(0, labels, rows)  # (C, P)
    return (rows - (sums / counts[:, None])[labels]).norm(dim=1)


def keep_lowest(scores: Tensor, labels: Tensor, keep: int) -> Tensor:
    """The places, ascending, of the `keep` examples of lowest score of each class; give -scores for the highest.

    As many of each class, because a choice that also changes the shares of the classes would be two choices.
    Raises ValueError where scores and labels are not both (N,), or a class has fewer than `keep`.
    """
    check_counts(keep=keep)
    _check_labels(labels)
    if scores.shape != labels.shape:
        raise ValueError(f"scores must be {tuple(labels.shape)}, as labels are, got {tuple(scores.shape)}")
    kept = []
    for label in labels.unique():
        places = (labels == label).nonzero()[:, 0]  # (n,)
        if len(places) < keep:
            raise ValueError(f"keep must be at most {len(places)}, as many as there are of class {label}, got {keep}")
        kept.append(places[scores[places].argsort(stable=True)[:keep]])
    return torch.cat(kept).sort().values


def _check_labels(labels: Tensor) -> None:
    if labels.dim() != 1 or labels.is_floating_point() or labels.dtype == torch.bool or (len(labels) and labels.min() < 0):
        raise ValueError(f"labels must be (N,) integers from 0 on, got {labels.dtype} of shape {tuple(labels.shape)}")
