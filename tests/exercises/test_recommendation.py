"""The chapter on recommendation: answers written otherwise than the sheet's pass, too."""
import pytest
import torch

from tutorlib.baselines.recommenders import Neighbors
from tutorlib.evaluation.ranking import discounted_gains, target_ranks
from tutorlib.exercises.recommendation import check


def by_the_package(rank, k):
    return discounted_gains(torch.tensor([float(rank)]), k).item()


def by_ranks(scores, target, seen):
    padded = torch.cat([torch.zeros(1), scores])[None]  # the package counts items from 1
    return target_ranks(padded, torch.tensor([target + 1]), torch.tensor([seen]) + 1).item()


def by_neighbors(chosen):
    rows = torch.arange(1, chosen.size(1) + 1) * chosen.long()  # (U, I): 0 where not chosen
    return Neighbors(rows, chosen.size(1)).cosine[1:, 1:]


def by_a_loop(clicks, cut):
    tests = {}
    for user, item, time in sorted(clicks, key=lambda click: -click[2]):
        if time >= cut:
            tests[user] = item
    return sum(time < cut for *_, time in clicks), tests


@pytest.mark.parametrize("number, answer", [(1, by_the_package), (2, by_ranks), (4, by_neighbors), (5, by_a_loop)])
def test_another_right_answer_passes(number, answer):
    assert check.exercises[number].judge(answer) == "passed."
