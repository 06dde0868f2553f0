"""Intervals, rates and costs: against the definitions, scipy and scikit-learn, and by what must not change."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tutorlib.evaluation.diagnosis import (
    bootstrap_interval,
    cheapest_threshold,
    expected_cost,
    net_benefit,
    sensitivity_specificity,
    wilson_interval,
)
from tutorlib.evaluation.risk import area_under_roc

P = torch.tensor([0.1, 0.4, 0.35, 0.8, 0.6, 0.05])
Y = torch.tensor([0, 0, 1, 1, 0, 0])


@given(st.integers(0, 50), st.integers(1, 50), st.floats(0.5, 0.999))
def test_wilson_is_scipys(events, more, confidence):
    from scipy.stats import binomtest

    trials = events + more
    expected = binomtest(events, trials).proportion_ci(confidence, method="wilson")
    assert wilson_interval(events, trials, confidence) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_wilson_has_a_width_without_an_event():
    low, high = wilson_interval(0, 100)
    assert low == 0 and 0.03 < high < 0.04
    assert wilson_interval(100, 100) == pytest.approx((1 - high, 1))


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=4, max_size=30).filter(
    lambda pairs: len({event for _, event in pairs}) == 2), st.floats(0.05, 0.95))
def test_rates_are_those_of_the_confusion_matrix(pairs, threshold):
    from sklearn.metrics import confusion_matrix

    p, y = torch.tensor([a for a, _ in pairs]), torch.tensor([int(b) for _, b in pairs])
    (tn, fp), (fn, tp) = confusion_matrix(y, p >= threshold, labels=[0, 1])
    assert sensitivity_specificity(p, y, threshold) == pytest.approx((tp / (tp + fn), tn / (tn + fp)))
    assert expected_cost(p, y, threshold, miss=7, alarm=2) == pytest.approx((7 * fn + 2 * fp) / len(y))
    assert net_benefit(p, y, threshold) == pytest.approx((tp - fp * threshold / (1 - threshold)) / len(y))


def test_a_rate_weighs_the_two_kinds_of_mistake():
    assert expected_cost(P, Y, 0.5, miss=10, alarm=1, rate=0.2) == pytest.approx(0.2 * 0.5 * 10 + 0.8 * 0.25)


def test_the_cheapest_threshold_is_the_cheapest_of_a_calibrated_forecast():
    torch.manual_seed(0)
    p = torch.rand(200_000, dtype=torch.float64)
    y = (torch.rand(200_000, dtype=torch.float64) < p).long()
    costs = {t / 20: expected_cost(p, y, t / 20, miss=4) for t in range(1, 20)}
    assert cheapest_threshold(4) == 0.2 and min(costs, key=costs.get) == pytest.approx(0.2)


def test_net_benefit_of_nobody_and_of_the_perfect():
    assert net_benefit(torch.zeros(6), Y, 0.5) == 0
    assert net_benefit(Y.float(), Y, 0.3) == pytest.approx(1 / 3)


def test_the_interval_covers_as_often_as_it_says():
    torch.manual_seed(0)
    dice, inside = torch.Generator().manual_seed(0), 0
    for _ in range(100):
        y = torch.tensor([0] * 60 + [1] * 60)
        low, high = bootstrap_interval(area_under_roc, torch.randn(120) + y, y, repeats=200, generator=dice)
        inside += low <= 0.7602 <= high  # Phi(1 / sqrt 2)
    assert 88 <= inside <= 99


def test_each_class_keeps_its_number():
    seen = []
    bootstrap_interval(lambda s, y: seen.append(y.sum().item()) or 0.0, P, Y, repeats=20)
    assert set(seen) == {2}


@pytest.mark.parametrize("call, message", [
    (lambda: wilson_interval(3, 2), "events must lie in [0, trials] and trials be at least 1, got 3 and 2"),
    (lambda: wilson_interval(0, 0), "got 0 and 0"),
    (lambda: wilson_interval(1, 2, 1.0), "confidence must lie between 0 and 1, got 1.0"),
    (lambda: bootstrap_interval(area_under_roc, P, Y, repeats=3), "repeats must be at least 20, got 3"),
    (lambda: sensitivity_specificity(P, Y[:3], 0.5), "probabilities and labels must both be (N,), got (6,) and (3,)"),
    (lambda: sensitivity_specificity(P, Y + 1, 0.5), "labels must be 0 or 1, got 1 to 2"),
    (lambda: sensitivity_specificity(P, 0 * Y, 0.5), "labels must hold both 0 and 1, got 6 and 0"),
    (lambda: expected_cost(P, Y, 0.5, miss=-1), "miss and alarm must not be negative, got -1 and 1.0"),
    (lambda: expected_cost(P, Y, 0.5, miss=1, rate=2), "rate must lie in [0, 1], got 2"),
    (lambda: cheapest_threshold(0), "miss and alarm must be positive, got 0 and 1.0"),
    (lambda: net_benefit(P, Y, 1.0), "threshold must lie between 0 and 1, got 1.0"),
])
def test_refusals(call, message):
    with pytest.raises(ValueError) as error:
        call()
    assert message in str(error.value)
