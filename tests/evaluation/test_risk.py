"""Scores for a rare event: against the definitions, by brute force, and by what must not change."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tutorlib.evaluation.risk import area_error, area_under_roc, calibration_bins, rate_left_open, shifted_prior

LABELLED = st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=40).filter(
    lambda pairs: len({event for _, event in pairs}) == 2)


def tensors(pairs):
    return torch.tensor([float(score) for score, _ in pairs]), torch.tensor([int(event) for _, event in pairs])


@given(LABELLED)
def test_the_area_is_the_share_of_pairs_in_order(pairs):
    scores, labels = tensors(pairs)
    won = [1.0 if a > b else 0.5 if a == b else 0.0
           for a, event in pairs if event for b, other in pairs if not other]
    assert area_under_roc(scores, labels) == pytest.approx(sum(won) / len(won), abs=1e-12)


@given(LABELLED)
def test_the_area_knows_ranks_only_and_turns_with_the_sign(pairs):
    scores, labels = tensors(pairs)
    area = area_under_roc(scores, labels)
    assert area_under_roc(scores.exp(), labels) == pytest.approx(area)
    assert area_under_roc(-scores, labels) == pytest.approx(1 - area)
    assert area_under_roc(scores, 1 - labels) == pytest.approx(1 - area)


def test_the_error_of_the_area_is_its_spread_over_draws():
    """For scores whose distributions Hanley and McNeil assume, exponential ones: events larger by a factor."""
    torch.manual_seed(0)
    labels = torch.tensor([1] * 40 + [0] * 200)
    scores = torch.distributions.Exponential(1.0).sample((400, 240)) * torch.where(labels == 1, 4.0, 1.0)
    areas = torch.tensor([area_under_roc(row, labels) for row in scores])
    assert areas.mean().item() == pytest.approx(0.8, abs=0.01)
    assert area_error(0.8, 40, 200) == pytest.approx(areas.std().item(), rel=0.12)
    assert area_error(1.0, 5, 5) == 0


def test_bins_of_a_calibrated_forecast_agree_and_hold_all():
    torch.manual_seed(0)
    p = torch.rand(40000)
    table = calibration_bins(p, (torch.rand(40000) < p).long(), 10)
    assert table.shape == (10, 3) and table[:, 2].sum() == 40000
    assert (table[:, 0] - table[:, 1]).abs().max() < 0.03 and (table[1:, 0] > table[:-1, 0]).all()
    small = calibration_bins(torch.tensor([0.9, 0.1, 0.2]), torch.tensor([1, 0, 1]), 2)
    torch.testing.assert_close(small, torch.tensor([[0.15, 0.5, 2], [0.9, 1, 1]], dtype=torch.float64))


@given(st.floats(0.01, 0.99), st.floats(0.01, 0.99), st.floats(0.05, 20))
def test_a_shifted_prior_is_bayes_rule(before, after, likelihoods):
    """likelihoods: how much likelier the finding is with the event than without."""
    p, q = (torch.tensor([rate * likelihoods / (rate * likelihoods + 1 - rate)], dtype=torch.float64)
            for rate in (before, after))
    torch.testing.assert_close(shifted_prior(p, before, after), q)
    torch.testing.assert_close(shifted_prior(q, after, before), p)


def test_a_shifted_prior_keeps_the_order_and_the_ends():
    p = torch.tensor([0.0, 0.2, 0.5, 1.0])
    shifted = shifted_prior(p, 0.5, 0.01)
    assert shifted.tolist() == sorted(shifted.tolist()) and shifted[0] == 0 and shifted[-1] == 1
    assert shifted[2].item() == pytest.approx(0.01)


@given(st.integers(1, 10**6), st.floats(0.5, 0.999))
def test_no_failure_has_the_left_over_probability_at_the_rate_left_open(trials, confidence):
    rate = rate_left_open(trials, confidence)
    assert math.exp(trials * math.log1p(-rate)) == pytest.approx(1 - confidence, rel=1e-6)


def test_the_rule_of_three():
    assert rate_left_open(1000) == pytest.approx(3 / 1000, rel=0.01)


@pytest.mark.parametrize("call, message", [
    (lambda: area_under_roc(torch.zeros(3), torch.zeros(2)), r"scores and labels must both be \(N,\), got \(3,\) and \(2,\)"),
    (lambda: area_under_roc(torch.zeros(2), torch.tensor([0, 2])), "labels must be 0 or 1, got 0 to 2"),
    (lambda: area_under_roc(torch.zeros(2), torch.ones(2)), "labels must hold both 0 and 1, got 0 and 2"),
    (lambda: area_under_roc(torch.tensor([0, math.nan]), torch.tensor([0, 1])), "scores must be numbers, got NaN"),
    (lambda: area_error(1.2, 3, 3), r"area must lie in \[0, 1\], got 1.2"),
    (lambda: area_error(0.5, 0, 3), "events and others must be at least 1, got 0 and 3"),
    (lambda: calibration_bins(torch.tensor([0.5, 1.5]), torch.tensor([0, 1]), 1), "probabilities must lie in .* got 0.5"),
    (lambda: calibration_bins(torch.tensor([0.5, 0.6]), torch.tensor([0, 1]), 3), "bins must be 1 to 2, .* got 3"),
    (lambda: shifted_prior(torch.tensor([0.5]), 0.5, 1.0), "after must lie between 0 and 1, got 1.0"),
    (lambda: shifted_prior(torch.tensor([0.5]), 0.0, 0.5), "before must lie between 0 and 1, got 0.0"),
    (lambda: rate_left_open(0), "trials must be positive, got 0"),
    (lambda: rate_left_open(10, 1.0), "confidence must lie between 0 and 1, got 1.0"),
])
def test_what_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
