"""The chapter on depth: answers written otherwise than the sheet's pass, too."""
import numpy as np
import pytest
import torch

from tutorlib.exercises.depth import check


def by_numpy(sizes):
    return float(np.prod(sizes) ** -0.5)


def by_parameters(layers):
    for layer in layers:
        for branch in (layer.attention.output, layer.feed_forward.contract):
            branch.weight = torch.nn.Parameter(branch.weight.detach() / (2 * len(layers)) ** 0.5)


@pytest.mark.parametrize("number, answer", [(1, 13**0.5), (2, by_numpy), (3, by_parameters), (4, 9)])
def test_another_right_answer_passes(number, answer):
    assert check.exercises[number].judge(answer) == "passed."
