"""The losses against their definitions."""

import math

import pytest
import torch

from tests.closeness import assert_same
from tutorlib.training import cross_entropy, token_cross_entropy


def test_is_the_mean_negative_log_probability():
    logits = torch.randn(3, 5, 7, dtype=torch.float64)
    targets = torch.randint(7, (3, 5))
    expected = -logits.log_softmax(-1).gather(-1, targets[..., None]).mean()
    assert torch.allclose(token_cross_entropy(logits, targets), expected)


def test_ignored_positions_change_neither_value_nor_gradient():
    logits = torch.randn(2, 6, 5, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(1, 5, (2, 6))
    targets[0, 4:] = targets[1, 2:] = 0
    loss = token_cross_entropy(logits, targets, ignore=0)
    alone = token_cross_entropy(torch.cat([logits[0, :4], logits[1, :2]]), torch.cat([targets[0, :4], targets[1, :2]]))
    assert torch.allclose(loss, alone)
    loss.backward()
    assert (logits.grad[0, 4:] == 0).all() and (logits.grad[1, 2:] == 0).all() and (logits.grad[0, :4] != 0).any()


def test_label_smoothing_mixes_with_the_uniform_distribution():
    logits, targets = torch.randn(4, 9, dtype=torch.float64), torch.randint(9, (4,))
    uniform = -logits.log_softmax(-1).mean()
    expected = 0.9 * token_cross_entropy(logits, targets) + 0.1 * uniform
    assert torch.allclose(token_cross_entropy(logits, targets, label_smoothing=0.1), expected)


def test_refuses_wrong_shapes_and_nothing_to_learn():
    with pytest.raises(ValueError, match=r"targets must have the shape \(2, 3\) of the logits, got \(2, 4\)"):
        token_cross_entropy(torch.zeros(2, 3, 5), torch.zeros(2, 4, dtype=torch.long))
    with pytest.raises(ValueError, match="every position is 0"):
        token_cross_entropy(torch.zeros(2, 3, 5), torch.zeros(2, 3, dtype=torch.long), ignore=0)
    with pytest.raises(IndexError):  # -1 is no token, and nothing asks to ignore it
        token_cross_entropy(torch.zeros(3, 5), torch.tensor([2, -1, 0]))


def test_cross_entropy_of_a_model_on_a_batch():
    """By hand: the label's probability is 1/4, then 1/2; smoothed and mixed labels as PyTorch defines them."""
    logits = torch.tensor([[math.log(3.0), 0.0], [0.0, 0.0]])
    model, inputs = torch.nn.Linear(2, 2, bias=False), torch.eye(2)
    model.weight.data = logits.T  # so that model(inputs) is logits
    labels = torch.tensor([1, 0])
    assert cross_entropy(model, (inputs, labels)).item() == pytest.approx((math.log(4) + math.log(2)) / 2)
    smooth = cross_entropy(model, (inputs, labels), label_smoothing=0.2)
    shares = torch.tensor([[0.1, 0.9], [0.9, 0.1]])
    assert_same(smooth, cross_entropy(model, (inputs, shares)))
    assert smooth > cross_entropy(model, (inputs, torch.tensor([0, 0])))


def test_a_target_that_is_no_class_is_an_error_unless_it_is_to_be_ignored():
    logits, targets = torch.randn(3, 5), torch.tensor([1, -100, 2])
    with pytest.raises(IndexError, match="-100"):
        token_cross_entropy(logits, targets)
    assert_same(token_cross_entropy(logits, targets, ignore=-100), token_cross_entropy(logits[::2], targets[::2]))
