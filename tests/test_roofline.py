"""The roofline: two limits and where they meet, by hand; and a measurement whose clock is known."""

import pytest
import torch

from tutorlib.roofline import Roofline, measure_roofline


def test_below_the_ridge_memory_limits_and_above_it_arithmetic():
    roof = Roofline(flops=100e9, bandwidth=20e9)
    assert roof.ridge == 5
    assert [roof.attainable(i) for i in (0.5, 5, 50)] == [10e9, 100e9, 100e9]
    assert roof.seconds(1e9, 1e9) == 0.05 and roof.seconds(1e10, 1e9) == 0.1


def test_limits_are_work_over_the_least_time():
    ticks = iter([0, 9, 10, 12, 20, 24, 30, 31, 40, 43, 50, 55, 60, 64])  # products 9, 2, 4, 1, 3 s; sums 5, 4 s ...
    roof = measure_roofline(size=100, megabytes=1, rounds=2, clock=lambda: next(ticks))
    assert roof == Roofline(2 * 100**3 / 2, 1e6 / 1)


def test_it_measures_this_machine():
    roof = measure_roofline(torch.float32, size=64, megabytes=1, rounds=1)
    assert roof.flops > 1e6 and roof.bandwidth > 1e6


@pytest.mark.parametrize("call, message", [
    (lambda: Roofline(0, 1), "flops must be above 0, got 0"), (lambda: Roofline(1, -1), "bandwidth must be above 0, got -1"),
    (lambda: measure_roofline(size=0), "size must be at least 1, got 0")])
def test_limits_that_are_none(call, message):
    with pytest.raises(ValueError, match=message):
        call()
