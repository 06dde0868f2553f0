"""The chapter on what comes next: its references agree with the package's functions."""
import pytest
import torch

from tutorlib.evaluation.risk import area_under_roc, rate_left_open, shifted_prior
from tutorlib.exercises.what_comes_next import at_another_rate, miles_needed, pairs_in_order


def test_the_references_are_the_package():
    assert rate_left_open(miles_needed(0.003, 0.9), 0.9) == pytest.approx(0.003)
    scores, labels = torch.randn(30).round(), torch.tensor([0, 1, 0] * 10)
    assert pairs_in_order(scores, labels) == pytest.approx(area_under_roc(scores, labels))
    p = torch.rand(10)
    torch.testing.assert_close(at_another_rate(p, 0.4, 0.02), shifted_prior(p, 0.4, 0.02))
