"""Attacks: an input read back from a gradient, and membership told by models with and without an example."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.closeness import assert_same, draw
from tutorlib.evaluation.attacks import confidence, direction_read_back, membership_ratio, read_back


def gradient_of(inputs, activation=nn.Tanh):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 8), activation(), nn.Linear(8, 3)).double()
    F.cross_entropy(model(inputs), torch.arange(len(inputs)) % 3).backward()
    return model[0].weight.grad, model[0].bias.grad


def test_the_gradient_of_one_example_is_the_example():
    x = draw(1, 12, dtype=torch.float64)
    weight, bias = gradient_of(x)
    assert_same(read_back(weight, bias), x.expand(8, 12))
    found = direction_read_back(weight)
    assert_same(found * found.sign()[0] * x[0, 0].sign(), F.normalize(x[0], dim=0))


def test_of_several_it_is_a_weighted_mean():
    x = draw(3, 12, dtype=torch.float64)
    found = read_back(*gradient_of(x))
    weights = torch.linalg.lstsq(x.T, found.T).solution  # (3, 8)
    assert_same(x.T @ weights, found.T)
    assert_same(weights.sum(0), torch.ones(8, dtype=torch.float64))


def test_units_that_nothing_moved_are_left_out():
    weight, bias = gradient_of(draw(1, 12, dtype=torch.float64), nn.ReLU)
    assert 0 < len(read_back(weight, bias)) == (bias != 0).sum() < 8


def test_confidence_by_hand():
    p = torch.tensor([[0.7, 0.2, 0.1], [0.7, 0.2, 0.1]], dtype=torch.float64)
    found = confidence(p.log() + 5, torch.tensor([0, 2]))
    assert_same(found, torch.tensor([math.log(7 / 3), math.log(1 / 9)], dtype=torch.float64))
    assert confidence(torch.tensor([100.0, 0.0]), torch.tensor(0)).isfinite()


def test_the_ratio_by_hand():
    member = torch.tensor([[True], [True], [False], [False]])
    others = torch.tensor([[4.0], [6.0], [2.0], [-2.0]], dtype=torch.float64)  # means 5 and 0, variances 1 and 4
    found = membership_ratio(torch.tensor([2.0], dtype=torch.float64), others, member)
    expected = -(3.0**2) / 2 + 2.0**2 / (2 * 4) + math.log(4) / 2
    assert_same(found, torch.tensor([expected], dtype=torch.float64))


def test_the_ratio_tells_members():
    generator = torch.Generator().manual_seed(0)
    member = torch.rand(21, 300, generator=generator) < 0.5
    scores = 5 * torch.randn(300, generator=generator) + 2 * member + torch.randn(21, 300, generator=generator)
    found = membership_ratio(scores[0], scores[1:], member[1:]) > 0
    assert ((found == member[0]).float().mean()) > 0.78  # .84 is the best possible
    pooled = scores[0] > scores[0].median()
    assert (pooled == member[0]).float().mean() < 0.65  # the spread of examples hides it


def test_refuses():
    with pytest.raises(ValueError, match=r"weight_gradient and bias_gradient must be .* got \(2, 3\) and \(3,\)"):
        read_back(torch.ones(2, 3), torch.ones(3))
    with pytest.raises(ValueError, match=r"score, others and member must be .* got \(4,\), \(2, 3\) and \(2, 3\)"):
        membership_ratio(torch.ones(4), torch.ones(2, 3), torch.ones(2, 3).bool())
    with pytest.raises(ValueError, match="member must have every example in some models and not in others"):
        membership_ratio(torch.ones(2), torch.ones(3, 2), torch.ones(3, 2).bool())
