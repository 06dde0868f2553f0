"""Scaling laws: what was put in comes out."""

from pathlib import Path

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from tutorlib.evaluation.scaling import (
    DOLLARS,
    PEAK,
    UTILIZATION,
    Optimum,
    ScalingLaw,
    fit_isoflop,
    fit_power,
    fit_scaling_law,
    training_flops,
)
from tutorlib.models import GPT, GPTConfig

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


@pytest.mark.parametrize(("best", "loss", "bend"), [(2e4, 1.8, 0.2), (6e4, 0.5, 1.5)])
def test_a_parabola_is_found_again(best, loss, bend):
    truth = Optimum(best, loss, bend)
    found = fit_isoflop(N, truth.predict(N))
    assert_close(torch.tensor(found), torch.tensor([best, loss, bend]), rtol=1e-5, atol=0)


def test_the_lowest_point_is_that_of_the_law():
    """With N D = constant the best N of A / N^a + B / D^b is known: a A / N^a = b B / D^b."""
    law = ScalingLaw(1.2, torch.tensor([20.0, 100.0]).double(), torch.tensor([0.35, 0.4]).double())
    product = 1e11
    best = (0.35 * 20 / (0.4 * 100) * product**0.4) ** (1 / 0.75)
    sizes = best * torch.tensor([0.7, 0.85, 1.0, 1.2, 1.4], dtype=torch.float64)
    found = fit_isoflop(sizes, law.predict(torch.stack([sizes, product / sizes], 1)))
    assert_close(found.size, best, rtol=0.02, atol=0)


def test_what_has_no_bottom_in_sight_is_refused():
    with pytest.raises(ValueError, match="losses must have a lowest point in between: the parabola bends down"):
        fit_isoflop(N, 3 - 0.1 * (N / 3e4).log() ** 2)
    for best in (1e3, 1e6):  # left and right of all sizes
        with pytest.raises(ValueError, match=r"the best size must lie between the sizes, 5000 to 3e\+05, got"):
            fit_isoflop(N, Optimum(best, 1.0, 0.1).predict(N))
    with pytest.raises(ValueError, match="sizes must have at least 3 different values, got 2"):
        fit_isoflop(torch.tensor([1.0, 1.0, 2.0]), torch.tensor([1.0, 1.0, 2.0]))
    with pytest.raises(ValueError, match=r"sizes and losses must both be \(n,\), got \(5,\) and \(4,\)"):
        fit_isoflop(N, D)
    with pytest.raises(ValueError, match="losses must be positive and finite, got nan"):
        fit_isoflop(N, N * torch.nan)


def test_a_power_is_found_again():
    found = fit_power(N, 0.3 * N**0.6)
    assert_close(torch.tensor(found), torch.tensor([0.3, 0.6]), rtol=1e-6, atol=0)
    assert_close(found.predict(1e8), 0.3 * 1e8**0.6, rtol=1e-5, atol=0)
    with pytest.raises(ValueError, match="x must have at least 2 different values, got 1"):
        fit_power(torch.ones(3), torch.ones(3))
    with pytest.raises(ValueError, match="y must be positive and finite, got -1"):
        fit_power(N, -torch.ones(5))
    with pytest.raises(ValueError, match=r"x and y must both be \(n,\), got \(5,\) and \(4,\)"):
        fit_power(N, D)


@pytest.mark.parametrize(("vocabulary", "length", "width", "layers"), [(71, 16, 48, 2), (11, 8, 16, 3)])
def test_training_flops_are_those_that_torch_counts(vocabulary, length, width, layers):
    model = GPT(GPTConfig(vocabulary, length, width, 1, layers))
    tokens = torch.zeros(3, length, dtype=torch.long)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:  # the fused kernel is not counted
        model(tokens).sum().backward()
    assert counter.get_total_flops() == 3 * length * training_flops(vocabulary, length, width, layers)
    with pytest.raises(ValueError, match="width must be at least 1, got 0"):
        training_flops(vocabulary, length, 0, layers)


def test_what_flops_cost_is_what_the_first_chapter_says():
    """Its cell states the same peak, and its text the utilization and the price."""
    chapter = (Path(__file__).parents[2] / "chapters" / "concepts" / "large-models.ipynb").read_text("utf8")
    assert f"A100, H100 = {PEAK:.2e}".replace("e+", "e") in chapter
    assert f"$u = {UTILIZATION:.2f}$".replace("0.", ".") in chapter
    assert DOLLARS == 2 and "At two dollars an hour, our assumption" in chapter
