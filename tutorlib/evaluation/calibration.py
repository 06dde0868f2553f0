"""Does a probability mean what it says, and what can be answered if nine of ten answers, or nineteen of twenty, must be right?

`calibration_bins` of `evaluation.risk` is the diagram; here are its number, the cure with one or two numbers, and the choice of
what to leave unanswered. Scores are logits: ln p / (1 - p), above zero for the class 1.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from tutorlib.evaluation.risk import calibration_bins
from tutorlib.minimum import minimize


def expected_calibration_error(probabilities: Tensor, labels: Tensor, bins: int = 10) -> float:
    """The mean distance between what is said and what was, over groups that are equally large up to one.

        sum over groups of  n_g / N * abs(mean probability - share of events)

    probabilities (N,) of an event, labels (N,) of 0 and 1 (Naeini et al. 2015, with groups of equal number). Raises what
    `calibration_bins` raises.
    """
    said, was, count = calibration_bins(probabilities, labels, bins).T  # (bins,) each
    return ((said - was).abs() * count).sum().item() / len(labels)


def fit_temperature(scores: Tensor, labels: Tensor, *, shift: bool = False) -> tuple[float, float]:
    """T and b for which sigmoid((score - b) / T) has the least mean -ln p of the labels; b is 0 without `shift`.

    scores (N,), labels (N,) of 0 and 1, of a development set (Guo et al. 2017; with the shift: Platt 1999). By L-BFGS in
    float64. Raises ValueError where the shapes differ, one of the classes is missing, or the scores separate the classes, so
    that the smaller T the better.
    """
    if scores.dim() != 1 or scores.shape != labels.shape or not 0 < labels.double().mean() < 1:
        raise ValueError(f"scores and labels must both be (N,), with labels 0 and 1, got {tuple(scores.shape)} and "
                         f"{tuple(labels.shape)} with {sorted(set(labels.tolist()))}")
    scores, targets = scores.double(), labels.double()
    low, high = scores[targets == 1].min(), scores[targets == 0].max()
    if low > max(high, 0 if not shift else high):
        raise ValueError(f"scores separate the labels (from {low:g} and to {high:g}), so no temperature is best")
    scale = scores.std().clamp(min=1e-9)
    slope, offset = (torch.zeros((), dtype=torch.float64, requires_grad=True) for _ in range(2))  # ln of the slope; b
    moved = [slope, offset] if shift else [slope]
    minimize(lambda: F.binary_cross_entropy_with_logits((scores / scale - offset) * slope.exp(), targets), moved,
             tolerance=1e-9)
    return (scale * (-slope).exp()).item(), (offset * scale).item()


def answered_at(confidences: Tensor, right: Tensor, wanted: float) -> float:
    """The least confidence for which, of all answers at least as sure, a share of `wanted` is right; inf where there is none.

    confidences (N,), larger where surer, right (N,) of booleans, of a development set: above the returned value one answers,
    below it one passes on (Chow 1970). Raises ValueError where the shapes differ or are empty, or wanted is outside (0, 1].
    """
    if confidences.dim() != 1 or confidences.shape != right.shape or not len(right):
        raise ValueError(f"confidences and right must both be (N,), got {tuple(confidences.shape)} and {tuple(right.shape)}")
    if not 0 < wanted <= 1:
        raise ValueError(f"wanted must lie in (0, 1], got {wanted}")
    order = confidences.argsort(descending=True)
    sure, hits = confidences[order], right[order].double().cumsum(0)
    share = hits / torch.arange(1, len(right) + 1, device=hits.device)
    last_of_ties = torch.cat([sure[:-1] > sure[1:], sure.new_ones(1, dtype=torch.bool)])
    fit = ((share >= wanted) & last_of_ties).nonzero()
    return sure[fit[-1, 0]].item() if len(fit) else float("inf")
