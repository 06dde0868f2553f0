"""How good are scores for a rare event: ranking, calibration, and what no event at all can prove."""

import math

import torch
from torch import Tensor


def area_under_roc(scores: Tensor, labels: Tensor) -> float:
    """The probability that an event's score is above a non-event's, ties counted half: the area under the ROC curve.

    scores (N,), labels (N,), 0 or 1. Raises ValueError where the shapes differ, a label is neither, one of the two is missing,
    or a score is not a number. (Mann and Whitney 1947; Hanley and McNeil 1982.)
    """
    events, others = split_by_label(scores, labels)
    order = torch.cat([events, others]).unique(return_inverse=True)[1]  # equal scores, equal places
    size = int(order.max()) + 1
    with_event = order[:len(events)].bincount(minlength=size).double()
    without = order[len(events):].bincount(minlength=size).double()
    below = without.cumsum(0) - without / 2  # of each place: non-events below it, and half of those at it
    return ((with_event * below).sum() / (len(events) * len(others))).item()


def area_error(area: float, events: int, others: int) -> float:
    """The standard error of an area under the ROC curve, from so many events and non-events (Hanley and McNeil 1982).

    Raises ValueError for an area outside [0, 1] and for counts below 1.
    """
    if not 0 <= area <= 1:
        raise ValueError(f"area must lie in [0, 1], got {area}")
    if events < 1 or others < 1:
        raise ValueError(f"events and others must be at least 1, got {events} and {others}")
    two_events = area / (2 - area)  # both of two events above a non-event
    two_others = 2 * area**2 / (1 + area)  # an event above both of two non-events
    variance = (area * (1 - area) + (events - 1) * (two_events - area**2) + (others - 1) * (two_others - area**2))
    return math.sqrt(max(variance, 0.0) / (events * others))


def calibration_bins(probabilities: Tensor, labels: Tensor, bins: int) -> Tensor:
    """(bins, 3): the mean probability, the share of events and the count, of groups that are equally large up to one.

    The groups are made in the order of the probabilities (N,). Raises ValueError as `area_under_roc` does, for probabilities
    outside [0, 1], and for fewer than one or more than N bins.
    """
    split_by_label(probabilities, labels)
    if not ((probabilities >= 0) & (probabilities <= 1)).all():
        raise ValueError(f"probabilities must lie in [0, 1], got {probabilities.min():g} to {probabilities.max():g}")
    if not 1 <= bins <= len(labels):
        raise ValueError(f"bins must be 1 to {len(labels)}, as many as there are labels, got {bins}")
    order = probabilities.argsort()
    groups = zip(probabilities[order].double().tensor_split(bins), labels[order].double().tensor_split(bins), strict=True)
    return torch.stack([torch.stack([p.mean(), y.mean(), y.new_tensor(float(len(y)))]) for p, y in groups])


def shifted_prior(probabilities: Tensor, before: float, after: float) -> Tensor:
    """What probabilities become where the event has the rate `after` and not `before`, and each class looks as it did.

    By Bayes' rule the odds are multiplied by the ratio of the prior odds (Saerens, Latinne and Decaestecker 2002). Any shape;
    same shape. Raises ValueError for a rate outside (0, 1).
    """
    for name, rate in (("before", before), ("after", after)):
        if not 0 < rate < 1:
            raise ValueError(f"{name} must lie between 0 and 1, got {rate}")
    ratio = after * (1 - before) / (before * (1 - after))
    return probabilities * ratio / (probabilities * ratio + (1 - probabilities))


def rate_left_open(trials: float, confidence: float = 0.95) -> float:
    """The largest rate of failure that so many independent trials without one leave open: (1 - rate)^trials = 1 - confidence.

    About 3 / trials at 95 %. Raises ValueError for trials that are not positive and for a confidence outside (0, 1).
    """
    if not trials > 0:
        raise ValueError(f"trials must be positive, got {trials}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence}")
    return -math.expm1(math.log1p(-confidence) / trials)


def split_by_label(scores: Tensor, labels: Tensor, name: str = "scores") -> tuple[Tensor, Tensor]:
    """The scores (N,) of events, label 1, and of non-events, label 0.

    Raises ValueError, calling the scores by `name`, where the shapes differ, a label is neither, one of the two is missing, or
    a score is not a number.
    """
    if scores.dim() != 1 or scores.shape != labels.shape:
        raise ValueError(f"{name} and labels must both be (N,), got {tuple(scores.shape)} and {tuple(labels.shape)}")
    if not ((labels == 0) | (labels == 1)).all():
        raise ValueError(f"labels must be 0 or 1, got {labels.min():g} to {labels.max():g}")
    if scores.isnan().any():
        raise ValueError(f"{name} must be numbers, got NaN")
    events, others = scores[labels == 1], scores[labels == 0]
    if not len(events) or not len(others):
        raise ValueError(f"labels must hold both 0 and 1, got {len(others)} and {len(events)}")
    return events, others
