"""Scaling laws: what was put in comes out."""

import pytest
import torch
from torch.testing import assert_close

from tutorlib.evaluation.scaling import ScalingLaw, fit_scaling_law

N = torch.tensor([5e3, 1e4, 3e4, 1e5, 3e5], dtype=torch.float64)
D = torch.tensor([1e5, 2e5, 4e5, 1e6], dtype=torch.float64)


@pytest.mark.parametrize(("floor", "scale", "exponent"), [(1.2, 40.0, 0.4), (0.5, 7.0, 0.15), (2.0, 900.0, 0.8)])
def test_a_law_of_one_size_is_found_again(floor, scale, exponent):
    law = fit_scaling_law(N[:, None], floor + scale * N**-exponent)
    assert_close(law.exponents.item(), exponent, rtol=0.01, atol=0)
    assert_close(law.floor, floor, rtol=0.02, atol=0)
    further = torch.tensor([[3e6]])
    assert_close(law.predict(further), floor + scale * further[:, 0].double() ** -exponent, rtol=0.003, atol=0)


def test_a_law_of_two_sizes_is_found_again():
    sizes = torch.cartesian_prod(N, D)
    truth = ScalingLaw(1.3, torch.tensor([30.0, 200.0]).double(), torch.tensor([0.35, 0.5]).double())
    law = fit_scaling_law(sizes, truth.predict(sizes))
    assert_close(law.exponents, truth.exponents, rtol=0.02, atol=0)
    assert_close(law.floor, truth.floor, rtol=0.02, atol=0)
    further = torch.tensor([[1e6, 1e7]])
    assert_close(law.predict(further), truth.predict(further), rtol=0.003, atol=0)


def test_without_a_floor_the_law_is_a_line_in_logarithms():
    law = fit_scaling_law(N[:, None], 50 * N**-0.25, floor=False)
    assert law.floor == 0.0
    assert_close(law.exponents.item(), 0.25, rtol=0.001, atol=0)
    assert_close(law.scales.item(), 50.0, rtol=0.01, atol=0)


@pytest.mark.parametrize(("exponent", "found"), [(0.05, 0.05), (1.5, 1.5), (0.01, 0.02), (3.0, 2.0)])
def test_exponents_are_looked_for_from_0_02_to_2(exponent, found):
    law = fit_scaling_law(N[:, None] / 1e4, (N / 1e4) ** -exponent, floor=False)
    assert_close(law.exponents.item(), found, rtol=0.001, atol=0)


def test_a_little_noise_moves_the_prediction_little():
    noise = 0.003 * torch.randn(5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    law = fit_scaling_law(N[:, None], 1.2 + 40 * N**-0.4 + noise)
    assert_close(law.predict(torch.tensor([[1e6]])).item(), 1.2 + 40 * 1e6**-0.4, rtol=0, atol=0.02)


def test_no_term_is_negative():
    noise = 0.2 * torch.randn(5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    law = fit_scaling_law(N[:, None], 50 * N**-0.3 + noise)
    assert law.floor >= 0 and (law.scales >= 0).all()


def test_refusals():
    with pytest.raises(ValueError, match=r"sizes and losses must be \(n, k\) and \(n,\), got \(5,\) and \(5,\)"):
        fit_scaling_law(N, N)
    with pytest.raises(ValueError, match="sizes must be positive and finite, got 0"):
        fit_scaling_law(torch.zeros(5, 1), N)
    with pytest.raises(ValueError, match="losses must be at least 3, as many as the law has numbers, got 2"):
        fit_scaling_law(N[:2, None], N[:2])
    for wrong in (torch.nan, torch.inf, -1.0):
        with pytest.raises(ValueError, match=f"losses must be positive and finite, got {wrong:g}"):
            fit_scaling_law(N[:, None], torch.tensor([5, 4, wrong, 3, 2]))
        with pytest.raises(ValueError, match=f"sizes must be positive and finite, got {wrong:g}"):
            fit_scaling_law(torch.tensor([[1], [2], [wrong], [4], [5]]), N.flip(0))
    with pytest.raises(ValueError, match="losses must fall with every size"):
        fit_scaling_law(N[:, None], 1 + 1e-6 * N)
    law = ScalingLaw(1.0, torch.ones(2).double(), torch.ones(2).double())
    for sizes in (torch.ones(3, 1), torch.ones(2)):  # either would be broadcast to two sizes
        with pytest.raises(ValueError, match=r"sizes must have the shape \(n, 2\), got"):
            law.predict(sizes)
    with pytest.raises(ValueError, match="sizes must be positive and finite, got 0"):
        law.predict(torch.tensor([[1.0, 0.0]]))
