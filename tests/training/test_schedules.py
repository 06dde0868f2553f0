"""Schedules against values worked out by hand and against the equations."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutorlib.training import constant, warmup_cosine, warmup_inverse_sqrt, warmup_linear


def test_constant():
    assert [constant()(step) for step in (0, 1, 10**6)] == [1.0, 1.0, 1.0]


def test_linear_by_hand():
    schedule = warmup_linear(4, 12)
    assert [schedule(step) for step in range(14)] == pytest.approx(
        [0.25, 0.5, 0.75, 1.0, 1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125, 0.0, 0.0]
    )


def test_linear_without_warmup_starts_at_one():
    assert [warmup_linear(0, 4)(step) for step in range(5)] == [1.0, 0.75, 0.5, 0.25, 0.0]


def test_cosine_by_hand():
    schedule = warmup_cosine(2, 6)
    half = 0.5 / math.sqrt(2)  # cos(45 degrees) / 2
    assert [schedule(step) for step in range(8)] == pytest.approx([0.5, 1.0, 1.0, 0.5 + half, 0.5, 0.5 - half, 0.0, 0.0])


@given(st.integers(1, 5000), st.integers(0, 20000), st.integers(1, 1024))
def test_inverse_sqrt_is_equation_3_of_the_paper(warmup, step, width):
    n = step + 1  # the paper counts from 1
    rate = width**-0.5 * min(n**-0.5, n * warmup**-1.5)
    assert (width * warmup) ** -0.5 * warmup_inverse_sqrt(warmup)(step) == pytest.approx(rate, rel=1e-12)


def test_inverse_sqrt_peaks_at_one_at_the_end_of_the_warmup():
    schedule = warmup_inverse_sqrt(100)
    assert schedule(99) == pytest.approx(1.0) == max(schedule(step) for step in range(1000))
    assert schedule(399) == pytest.approx(0.5)  # four times the steps, half the rate


@given(st.integers(0, 50), st.integers(51, 200), st.sampled_from([warmup_linear, warmup_cosine]))
def test_up_then_down_between_zero_and_one(warmup, total, make):
    factors = [make(warmup, total)(step) for step in range(total)]
    assert all(0 < factor <= 1 for factor in factors)
    assert factors[:warmup] == sorted(factors[:warmup])
    assert factors[warmup:] == sorted(factors[warmup:], reverse=True)
    assert make(warmup, total)(total) == 0


@pytest.mark.parametrize("make", [warmup_linear, warmup_cosine])
@pytest.mark.parametrize("warmup, total", [(-1, 10), (10, 10), (11, 10), (math.nan, 10), (2.5, 10)])
def test_refuses_a_warmup_that_does_not_fit(make, warmup, total):
    with pytest.raises(ValueError, match=f"warmup must be at least 0 and fewer than all {total} steps, got {warmup}"):
        make(warmup, total)


def test_refuses_other_nonsense():
    with pytest.raises(ValueError, match="warmup must be at least 1 step, got 0"):
        warmup_inverse_sqrt(0)
    for warmup in (math.nan, 2.5):
        with pytest.raises(ValueError, match=f"warmup must be at least 1 step, got {warmup}"):
            warmup_inverse_sqrt(warmup)
    for make in (warmup_linear, warmup_cosine):
        for total in (math.nan, math.inf, 10.5):
            with pytest.raises(ValueError, match=f"total must be a whole number of steps, got {total}"):
                make(1, total)
