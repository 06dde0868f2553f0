"""A keyword spotter judged over hours: how often it is silent where it should speak, and speaks where it should be silent."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Point(NamedTuple):
    """At this threshold, so many of the keywords were missed (a share), and so many false alarms came in an hour."""

    threshold: float
    missed: float
    alarms: float


def peaks(scores: Tensor, apart: int) -> list[tuple[int, float]]:
    """The places and heights of a stream's (T,) highest scores, highest first, none within `apart` frames of a higher one.

    Raises ValueError for `apart` below 1.
    """
    if apart < 1:
        raise ValueError(f"apart must be at least 1, got {apart}")
    around = torch.nn.functional.max_pool1d(scores[None, None].double(), 2 * apart + 1, 1, apart)[0, 0]
    kept: list[tuple[int, float]] = []
    places = (scores.double() == around).nonzero()[:, 0].tolist()
    for place in places:
        if not kept or place - kept[-1][0] > apart:  # of a plateau of equal scores the first
            kept.append((place, scores[place].item()))
    return sorted(kept, key=lambda peak: -peak[1])


def operating_curve(found: Sequence[tuple[int, float]], spoken: Sequence[tuple[int, int]], hours: float) -> list[Point]:
    """Misses against false alarms, a point for each threshold at which either changes, from the strictest on.

    `found` are peaks, `spoken` the intervals of frames in which a keyword ends, both of one stream of so many `hours`.
    A second peak in one interval counts as nothing. Raises ValueError where nothing is spoken or the hours are not positive.
    """
    if not spoken or not hours > 0:
        raise ValueError(f"spoken must be at least one and hours above 0, got {len(spoken)} and {hours}")
    heard: set[int] = set()
    alarms, points = 0, [Point(float("inf"), 1.0, 0.0)]
    for place, score in sorted(found, key=lambda peak: -peak[1]):
        inside = [number for number, (start, end) in enumerate(spoken) if start <= place <= end]
        if not inside:
            alarms += 1
        heard.update(inside)
        point = Point(score, 1 - len(heard) / len(spoken), alarms / hours)
        points[-1:] = [point] if points[-1].threshold == score else [points[-1], point]
    return points


def missed_at(points: Sequence[Point], alarms: float) -> float:
    """The smallest share missed with at most so many false alarms an hour."""
    return min(point.missed for point in points if point.alarms <= alarms)
