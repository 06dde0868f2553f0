"""What a number of cases, and a threshold on a probability, are worth: intervals, rates, costs and net benefit."""

import math
from collections.abc import Callable
from statistics import NormalDist

import torch
from torch import Tensor

from tutorlib.evaluation.risk import split_by_label


def wilson_interval(events: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Between which rates so many events in independent trials leave room (Wilson 1927, the score interval).

    Unlike the rate plus or minus two standard errors it has a width at 0 and at `trials` events. Raises ValueError for no
    trials, for events outside [0, trials] and for a confidence outside (0, 1).
    """
    if not 0 <= events <= trials or trials < 1:
        raise ValueError(f"events must lie in [0, trials] and trials be at least 1, got {events} and {trials}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence}")
    z, rate = NormalDist().inv_cdf((1 + confidence) / 2), events / trials
    middle = rate + z**2 / (2 * trials)
    reach = z * math.sqrt(rate * (1 - rate) / trials + z**2 / (4 * trials**2))
    return max(0.0, (middle - reach) / (1 + z**2 / trials)), min(1.0, (middle + reach) / (1 + z**2 / trials))


def bootstrap_interval(measure: Callable[[Tensor, Tensor], float], scores: Tensor, labels: Tensor, *, repeats: int = 1000,
                       confidence: float = 0.95, generator: torch.Generator | None = None) -> tuple[float, float]:
    """Between which values a measure of scores (N,) and labels (N,), 0 or 1, lies when the cases are drawn again.

    Events and non-events are each drawn with replacement, so that their numbers stay; the interval leaves equal shares of the
    draws on either side. Raises ValueError for other labels or shapes, a class without a case, and fewer than 20 repeats.
    """
    split_by_label(scores, labels)
    if repeats < 20:
        raise ValueError(f"repeats must be at least 20, got {repeats}")
    groups = [(labels == value).nonzero()[:, 0] for value in (0, 1)]
    drawn = []
    for _ in range(repeats):
        rows = torch.cat([rows[torch.randint(len(rows), (len(rows),), generator=generator)] for rows in groups])
        drawn.append(measure(scores[rows], labels[rows]))
    tail = (1 - confidence) / 2
    low, high = torch.tensor(drawn, dtype=torch.float64).quantile(torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    return low, high


def sensitivity_specificity(probabilities: Tensor, labels: Tensor, threshold: float) -> tuple[float, float]:
    """The share of events (label 1) with an alarm, a probability of `threshold` or more, and of non-events without one.

    probabilities (N,), labels (N,). Raises ValueError for other labels or shapes and for a class without a case.
    """
    events, others = split_by_label(probabilities, labels, "probabilities")
    return (events >= threshold).double().mean().item(), (others < threshold).double().mean().item()


def expected_cost(probabilities: Tensor, labels: Tensor, threshold: float, *, miss: float, alarm: float = 1.0,
                  rate: float | None = None) -> float:
    """The mean cost of a case, where a missed event costs `miss` and a false alarm `alarm`.

    `rate` is the share of events where the rule is used; None: the share among the labels. Raises ValueError as
    `sensitivity_specificity` does, for negative costs and for a rate outside [0, 1].
    """
    if miss < 0 or alarm < 0:
        raise ValueError(f"miss and alarm must not be negative, got {miss} and {alarm}")
    sensitivity, specificity = sensitivity_specificity(probabilities, labels, threshold)
    rate = labels.double().mean().item() if rate is None else rate
    if not 0 <= rate <= 1:
        raise ValueError(f"rate must lie in [0, 1], got {rate}")
    return rate * (1 - sensitivity) * miss + (1 - rate) * (1 - specificity) * alarm


def cheapest_threshold(miss: float, alarm: float = 1.0) -> float:
    """The probability from which an alarm is the cheaper mistake: p miss = (1 - p) alarm. Right for calibrated probabilities.

    Raises ValueError for costs that are not positive.
    """
    if not (miss > 0 and alarm > 0):
        raise ValueError(f"miss and alarm must be positive, got {miss} and {alarm}")
    return alarm / (alarm + miss)


def net_benefit(probabilities: Tensor, labels: Tensor, threshold: float) -> float:
    """True alarms a case, less false ones at the price that the threshold implies (Vickers and Elkin 2006).

    To alarm nobody is worth 0, to find all events without a false alarm their share. Raises ValueError as
    `sensitivity_specificity` does and for a threshold outside (0, 1).
    """
    if not 0 < threshold < 1:
        raise ValueError(f"threshold must lie between 0 and 1, got {threshold}")
    true, false = ((part >= threshold).sum().item() / len(labels)
                   for part in split_by_label(probabilities, labels, "probabilities"))
    return true - false * threshold / (1 - threshold)
