"""The running average of weights: against its formula, and of weights that do not move."""

import pytest
import torch
from torch import nn

from tests.closeness import assert_same
from tutorlib.training.averaging import MovingAverage


def moved(model: nn.Module, value: float) -> nn.Module:
    with torch.no_grad():
        for weights in model.parameters():
            weights.fill_(value)
    return model


def test_by_hand():
    model = moved(nn.Linear(2, 1), 1.0)
    average = MovingAverage(model, 0.15)
    for value, expected in ((2.0, 0.1 * 1 + 0.9 * 2), (3.0, None), (5.0, None)):
        average.update(moved(model, value))
        if expected is not None:  # the first decay is 1/10
            assert_same(average.model.weight, torch.full((1, 2), expected))
    second = 0.15 * 1.9 + 0.85 * 3  # 2/11 is more than 0.15
    assert_same(average.model.weight, torch.full((1, 2), 0.15 * second + 0.85 * 5))


def test_weights_that_stay_are_their_average_and_the_model_is_left_alone():
    model = nn.Linear(3, 2)
    average, before = MovingAverage(model, 0.9), model.weight.clone()
    average.update(model)
    assert_same(average.model.weight, model.weight)
    assert torch.equal(model.weight, before)
    assert not any(weights.requires_grad for weights in average.model.parameters()) and model.weight.requires_grad


def test_it_averages_out_what_alternates():
    model = nn.Linear(1, 1)
    average = MovingAverage(model, 0.99)
    for step in range(2000):
        average.update(moved(model, 1.0 if step % 2 else -1.0))
    assert average.model.weight.abs().item() < 0.02


def test_buffers_are_copied():
    model = nn.BatchNorm1d(2)
    average = MovingAverage(model, 0.9)
    model(torch.randn(8, 2) + 5)
    average.update(model)
    assert torch.equal(average.model.running_mean, model.running_mean) and average.model.num_batches_tracked == 1
    assert not average.model.training


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_refusals(decay):
    with pytest.raises(ValueError, match=r"decay must lie in \[0, 1\)"):
        MovingAverage(nn.Linear(1, 1), decay)
