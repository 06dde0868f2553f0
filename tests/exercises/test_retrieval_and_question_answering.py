"""The chapter on retrieval: answers written otherwise than the sheet's pass, too."""
import pytest
import torch

from tutorlib.evaluation.retrieval import first_ranks
from tutorlib.exercises.retrieval_and_question_answering import check
from tutorlib.search import z_scores


def by_shares(count, length, mean_length, rarity, k1, b):
    bound = k1 * ((1 - b) + b * length / mean_length)
    return rarity / (1 + bound / count)


def by_the_package(scores, right):
    return first_ranks(scores[None], right[None]).item()


def both(first, second):  # the spread with N: another unit for the same order
    scale = (11 / 12) ** 0.5
    return scale * (z_scores(first) + z_scores(second))


def by_share_of_cells(passages, cells, probe):
    return cells + probe / cells * passages


@pytest.mark.parametrize("number, answer", [(1, by_shares), (2, by_the_package), (3, both), (4, by_share_of_cells)])
def test_another_right_answer_passes(number, answer):
    assert check.exercises[number].judge(answer) == "passed."


def test_three_equal_ranks_are_told_apart():
    assert by_the_package(torch.tensor([1.0, 1.0]), torch.tensor([True, False])) == 2
