"""The chapter on driving, home and medicine: its references agree with the package's functions."""
import pytest
import torch

from tutorlib.evaluation.diagnosis import expected_cost, sensitivity_specificity, wilson_interval
from tutorlib.exercises.driving_home_medicine import check, cost_a_thousand, possible_rates


def test_the_references_are_the_package():
    assert possible_rates(3, 40) == pytest.approx(wilson_interval(3, 40), abs=1e-4)
    p, y = torch.rand(50), torch.tensor([0, 1, 0, 0, 1] * 10)
    rates = sensitivity_specificity(p, y, 0.4)
    assert cost_a_thousand(*rates, 0.1, 9, 2) == pytest.approx(1000 * expected_cost(p, y, 0.4, miss=9, alarm=2, rate=0.1))


def test_a_correct_answer_written_differently_passes():
    assert check.exercises[3].judge(lambda people, who: ((people - who).abs() > 0, (people - who).abs() == 0)) == "passed."
