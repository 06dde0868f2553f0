"""The chapter on preferences: answers written otherwise than the sheet's pass, too."""
import pytest
import torch

from tutorlib.exercises.preferences import check
from tutorlib.training.preferences import dpo_margin, group_advantages


def by_torch(reward, other):
    return torch.tensor([reward, other]).softmax(0)[0].item()


def by_the_package(policy, reference, beta):
    return dpo_margin(*policy.T, *reference.T, beta)


@pytest.mark.parametrize("number, answer", [(1, by_torch), (2, by_the_package), (3, group_advantages)])
def test_another_right_answer_passes(number, answer):
    assert check.exercises[number].judge(answer) == "passed."
