"""Peaks and operating curves, by hand."""

import pytest
import torch

from tutorlib.evaluation.spotting import Point, missed_at, operating_curve, peaks


def test_peaks_are_highest_first_and_apart():
    scores = torch.tensor([0.0, 3, 0, 0, 5, 4, 0, 0, 0, 2])
    assert peaks(scores, 2) == [(4, 5.0), (1, 3.0), (9, 2.0)]
    assert peaks(scores, 3) == [(4, 5.0), (9, 2.0)]


def test_of_a_plateau_the_first_counts():
    assert peaks(torch.tensor([1.0, 1, 1, 0, 0, 0]), 1)[0] == (0, 1.0)
    with pytest.raises(ValueError, match="apart must be at least 1, got 0"):
        peaks(torch.zeros(3), 0)


def test_a_curve_by_hand():
    found = [(10, 5.0), (50, 4.0), (12, 3.0), (90, 2.0), (31, 2.0)]
    points = operating_curve(found, [(8, 14), (30, 33)], hours=0.5)
    assert [(point.missed, point.alarms) for point in points] == [(1, 0), (0.5, 0), (0.5, 2), (0.5, 2), (0, 4)]
    assert points[-1] == Point(2.0, 0.0, 4.0)
    assert missed_at(points, 3) == 0.5 and missed_at(points, 4) == 0 and missed_at(points, 0) == 0.5


def test_nothing_spoken_is_refused():
    with pytest.raises(ValueError, match="spoken must be at least one and hours above 0, got 0 and 1"):
        operating_curve([], [], 1)
