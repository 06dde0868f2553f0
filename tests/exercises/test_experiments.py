"""The chapter on experiments: answers written otherwise than the sheet's pass, too."""
import math

import pytest

from tutorlib.evaluation.comparison import expected_best, rows_needed
from tutorlib.exercises.experiments import check


def by_torch(a, b):
    return (a - b).std(correction=0).item() / math.sqrt(len(a))


def by_scipy(wins, losses):
    from scipy.stats import binomtest

    return binomtest(wins, wins + losses).pvalue


def by_hand(delta, d):
    return -int(-(7.84 / delta**2) * (d - delta**2) // 1)


@pytest.mark.parametrize("number, answer", [(1, by_torch), (2, by_scipy), (3, by_hand), (4, expected_best)])
def test_another_right_answer_passes(number, answer):
    assert check.exercises[number].judge(answer) == "passed."


def test_the_plan_agrees_with_the_package():
    assert rows_needed(0.006, 0.03) == pytest.approx((2.8 / 0.006) ** 2 * (0.03 - 0.006**2), rel=0.002)
