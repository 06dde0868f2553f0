"""Accuracy: a share of all inputs, in evaluation mode, without gradients, whatever the size of the batches."""

import pytest
import torch
from torch import nn

from tutorlib.evaluation import accuracy

INPUTS = torch.eye(4)[[0, 1, 2, 3, 0]]  # an identity model predicts 0, 1, 2, 3, 0
LABELS = torch.tensor([0, 1, 0, 3, 2])


@pytest.mark.parametrize("batch_size", [1, 2, 5, 500])
def test_the_share_that_is_right(batch_size):
    assert accuracy(nn.Identity(), INPUTS, LABELS, batch_size=batch_size) == 3 / 5


class Observer(nn.Module):
    def forward(self, inputs):
        self.seen = self.training, torch.is_grad_enabled()
        return inputs


@pytest.mark.parametrize("training", [True, False])
def test_evaluation_mode_without_gradients_and_then_as_before(training):
    model = Observer().train(training)
    accuracy(model, INPUTS, LABELS)
    assert model.seen == (False, False) and model.training is training


def test_the_mode_is_put_back_after_an_error():
    model = nn.Linear(3, 2)
    with pytest.raises(RuntimeError):
        accuracy(model, INPUTS, LABELS)
    assert model.training


@pytest.mark.parametrize(("inputs", "labels"), [(INPUTS, LABELS[:4]), (INPUTS[:0], LABELS[:0])])
def test_unequal_or_empty_inputs_are_refused(inputs, labels):
    with pytest.raises(ValueError, match=f"equally many, at least one, got {len(inputs)} and {len(labels)}"):
        accuracy(nn.Identity(), inputs, labels)


@pytest.mark.parametrize(("labels", "message"), [
    (LABELS[:, None], r"labels must be integers of shape (N,), got torch.int64 of shape (5, 1)"),  # gave 1.4
    (LABELS.float(), "labels must be integers of shape (N,), got torch.float32 of shape (5,)"),
    (LABELS > 0, "labels must be integers of shape (N,), got torch.bool of shape (5,)"),
    (LABELS + 1, "labels must lie in [0, 4), got values from 1 to 4"),
    (LABELS - 1, "labels must lie in [0, 4), got values from -1 to 2"),
])
def test_labels_that_are_none_are_refused(labels, message):
    with pytest.raises(ValueError) as refused:
        accuracy(nn.Identity(), INPUTS, labels)
    assert message in str(refused.value)


@pytest.mark.parametrize("inputs", [INPUTS[:, None], INPUTS[:, 0]])
def test_logits_of_another_shape_are_refused(inputs):
    with pytest.raises(ValueError, match=r"model must give logits of shape \(5, C\), got"):
        accuracy(nn.Identity(), inputs, LABELS)


def test_small_integers_are_labels_and_a_batch_has_an_input():
    assert accuracy(nn.Identity(), INPUTS, LABELS.to(torch.uint8)) == 3 / 5
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        accuracy(nn.Identity(), INPUTS, LABELS, batch_size=0)
