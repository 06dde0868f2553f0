"""Probabilities held to what happened: against scikit-learn, by draws that are calibrated, and what is refused."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tutorlib.evaluation.calibration import answered_at, expected_calibration_error, fit_temperature


def drawn(number=20_000, seed=0):
    generator = torch.Generator().manual_seed(seed)
    scores = 2 * torch.randn(number, generator=generator, dtype=torch.float64)
    return scores, (torch.rand(number, generator=generator) < scores.sigmoid()).long()


def test_the_error_is_the_mean_distance_of_scikit_learns_curve():
    from sklearn.calibration import calibration_curve

    scores, labels = drawn(1000)
    was, said = calibration_curve(labels.numpy(), (3 * scores).sigmoid().numpy(), n_bins=10, strategy="quantile")
    assert expected_calibration_error((3 * scores).sigmoid(), labels, 10) == pytest.approx(abs(was - said).mean(), abs=1e-6)


def test_the_error_by_hand():
    p, labels = torch.tensor([0.2, 0.4, 0.6, 0.8, 0.9]), torch.tensor([0, 1, 1, 1, 0])
    assert expected_calibration_error(p, labels, 1) == pytest.approx(0.02)  # .58 said, .6 was
    assert expected_calibration_error(p, labels, 2) == pytest.approx(3 / 5 * abs(0.4 - 2 / 3) + 2 / 5 * 0.35)


@pytest.mark.parametrize(("temperature", "shift"), [(0.5, 0.0), (3.0, 0.0), (1.0, 2.0), (4.0, -1.5)])
def test_the_temperature_comes_back(temperature, shift):
    scores, labels = drawn()
    found = fit_temperature(scores * temperature + shift, labels, shift=True)
    assert found == (pytest.approx(temperature, rel=0.06), pytest.approx(shift, abs=0.12 * max(1, temperature)))
    if not shift:
        assert fit_temperature(scores * temperature, labels) == (pytest.approx(temperature, rel=0.06), 0.0)


def test_the_temperature_is_the_best_one():
    scores, labels = drawn(500)
    loss = lambda t: torch.nn.functional.binary_cross_entropy_with_logits(scores * 2 / t, labels.double()).item()  # noqa: E731
    best = fit_temperature(scores * 2, labels)[0]
    assert loss(best) < min(loss(best * 1.02), loss(best / 1.02))


def test_a_temperature_lowers_the_error_and_keeps_the_order():
    scores, labels = drawn()
    temperature, _ = fit_temperature(5 * scores, labels)
    cured = (5 * scores / temperature).sigmoid()
    assert expected_calibration_error(cured, labels) < 0.02 < 0.08 < expected_calibration_error((5 * scores).sigmoid(), labels)


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=30), st.sampled_from([0.5, 0.8, 0.95, 1.0]))
def test_the_least_confidence_by_brute_force(pairs, wanted):
    sure, right = torch.tensor([float(c) for c, _ in pairs]), torch.tensor([hit for _, hit in pairs])
    fit = [c for c in sure.tolist() if right[sure >= c].double().mean().item() >= wanted]
    assert answered_at(sure, right, wanted) == min(fit, default=math.inf)


def test_refusals():
    with pytest.raises(ValueError, match="scores separate the labels"):
        fit_temperature(torch.tensor([-1.0, -2.0, 1.0]), torch.tensor([0, 0, 1]))
    with pytest.raises(ValueError, match="scores separate the labels"):
        fit_temperature(torch.tensor([3.0, 2.0, 5.0]), torch.tensor([0, 0, 1]), shift=True)
    for labels in (torch.tensor([1, 1]), torch.tensor([1])):
        with pytest.raises(ValueError, match="must both be"):
            fit_temperature(torch.tensor([1.0, 2.0]), labels)
    with pytest.raises(ValueError, match="bins must be 1 to 2"):
        expected_calibration_error(torch.tensor([0.1, 0.9]), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="must both be"):
        answered_at(torch.tensor([0.1, 0.9]), torch.tensor([True]), 0.9)
    with pytest.raises(ValueError, match=r"wanted must lie in \(0, 1\], got 0"):
        answered_at(torch.tensor([0.1]), torch.tensor([True]), 0)
