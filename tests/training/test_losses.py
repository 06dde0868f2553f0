"""The losses against their definitions."""

import math

import pytest
import torch

from tests.closeness import assert_same
from tutorlib.training import cross_entropy, token_cross_entropy
from tutorlib.training.losses import NO_CLASS, dice_loss, pixel_cross_entropy
from tutorlib.training.regularization import smooth_labels


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
    with pytest.raises(ValueError, match=r"targets must lie in \[0, 5\), got values from -1 to 2"):
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
    one_hot = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    assert_same(cross_entropy(model, (inputs, one_hot), label_smoothing=0.2), smooth)  # probabilities are smoothed as well


def test_a_target_that_is_no_class_is_an_error_unless_it_is_to_be_ignored():
    logits, targets = torch.randn(3, 5), torch.tensor([1, -100, 2])
    with pytest.raises(ValueError, match="got values from -100 to 2"):
        token_cross_entropy(logits, targets)
    assert_same(token_cross_entropy(logits, targets, ignore=-100), token_cross_entropy(logits[::2], targets[::2]))


def test_one_class_is_ignored_in_both_losses_and_it_is_not_torchs():
    logits, labels = torch.randn(4, 5), torch.tensor([1, NO_CLASS, 2, 4])
    expected = torch.nn.functional.cross_entropy(logits[[0, 2, 3]], labels[[0, 2, 3]])
    assert_same(token_cross_entropy(logits, labels), expected)
    assert_same(cross_entropy(torch.nn.Identity(), (logits, labels)), expected)
    labels[1] = -100
    with pytest.raises(ValueError, match=r"labels must lie in \[0, 5\), got values from -100 to 4"):
        cross_entropy(torch.nn.Identity(), (logits, labels))


@pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.uint8])
def test_classes_may_be_integers_of_any_size(dtype):
    logits, labels = torch.randn(3, 5), torch.tensor([0, 4, 2])
    assert_same(token_cross_entropy(logits, labels.to(dtype)), token_cross_entropy(logits, labels))
    assert_same(token_cross_entropy(logits, labels.to(dtype), ignore=4), token_cross_entropy(logits, labels, ignore=4))
    assert_same(cross_entropy(torch.nn.Identity(), (logits, labels.to(dtype))), token_cross_entropy(logits, labels))


P = torch.tensor([[0.2, 0.8], [1.0, 0.0]])


@pytest.mark.parametrize("logits, labels, message", [
    (torch.zeros(2, 2), torch.tensor([[0], [1]]), "labels must have the shape (2,) of the logits, got (2, 1)"),
    (torch.zeros(2, 2), torch.tensor([[0, 1], [1, 0]]), "labels must have the shape (2,) of the logits, got (2, 2)"),
    (torch.zeros(2, 3), P, "labels that are probabilities must have the shape (2, 3) of the logits, got (2, 2)"),
    (torch.zeros(2, 2, 2), torch.tensor([0, 1]), "model must give logits of shape (B, C), got (2, 2, 2)"),
    (torch.zeros(2), torch.tensor([0, 1]), "model must give logits of shape (B, C), got (2,)"),
    (torch.zeros(2, 2), torch.tensor([0, 2]), "labels must lie in [0, 2), got values from 0 to 2"),
    (torch.zeros(2, 2), torch.tensor([True, False]), "labels must be integers, got torch.bool"),
    (torch.zeros(2, 2), torch.tensor([0.0, 1.0]), "labels that are probabilities must have the shape (2, 2)"),
    (torch.zeros(2, 2), torch.tensor([NO_CLASS, NO_CLASS]), "labels: every position is -9223372036854775808, which is ignored"),
    (torch.zeros(0, 2), torch.zeros(0, dtype=torch.long), "labels: every position is"),
    (torch.zeros(0, 2), torch.zeros(0, 2), "labels must be those of at least one example, got none"),
    (torch.zeros(2, 2), P - torch.tensor([0.0, 0.1]), "labels that are probabilities must not be negative, got -0.1"),
    (torch.zeros(2, 2), P * torch.nan, "labels that are probabilities must not be negative, got nan"),
    (torch.zeros(2, 2), torch.ones(2, 2), "labels that are probabilities must have the sum 1, got sums from 2.0 to 2.0"),
    (torch.zeros(2, 2), P / 2, "labels that are probabilities must have the sum 1, got sums from 0.5 to 0.5"),
])
def test_labels_that_are_none_are_refused_by_name(logits, labels, message):
    with pytest.raises(ValueError) as refused:
        cross_entropy(torch.nn.Identity(), (logits, labels))
    assert message in str(refused.value)


@pytest.mark.parametrize("classes", [10, 1000])
def test_probabilities_of_low_precision_have_the_sum_1(classes):
    labels = smooth_labels(torch.arange(8), classes, 0.1).bfloat16()
    cross_entropy(torch.nn.Identity(), (torch.randn(8, classes).bfloat16(), labels))


@pytest.mark.parametrize("smoothing", [-1, 1.5, math.nan])
def test_a_label_smoothing_that_is_no_share_is_refused(smoothing):
    logits, labels = torch.randn(2, 2), torch.tensor([0, 1])
    for call in (lambda: token_cross_entropy(logits, labels, label_smoothing=smoothing),
                 lambda: cross_entropy(torch.nn.Identity(), (logits, labels), smoothing),
                 lambda: cross_entropy(torch.nn.Identity(), (logits, P), smoothing)):
        with pytest.raises(ValueError, match=f"label_smoothing must be a share from 0 to 1, got {smoothing}"):
            call()


def test_targets_of_a_sequence_are_refused_by_name():
    with pytest.raises(ValueError, match="targets must be integers, got torch.float32"):
        token_cross_entropy(torch.zeros(2, 3, 5), torch.zeros(2, 3))
    with pytest.raises(ValueError, match=r"logits must have the shape \(..., V\), of two dimensions or more, got \(5,\)"):
        token_cross_entropy(torch.zeros(5), torch.tensor(1))


def test_pixels_count_as_their_classes_do():
    logits, classes = torch.randn(2, 3, 4, 5, dtype=torch.float64), torch.randint(3, (2, 4, 5))
    log_probabilities = logits.log_softmax(1).gather(1, classes[:, None])[:, 0]  # (2, 4, 5)
    assert_same(pixel_cross_entropy(logits, classes), -log_probabilities.mean())
    weight = torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64)
    counted = weight[classes]
    assert_same(pixel_cross_entropy(logits, classes, weight), -(counted * log_probabilities).sum() / counted.sum())


def test_dice_loss_of_certain_answers_is_one_less_the_mean_dice():
    classes = torch.tensor([[[0, 0, 1], [0, 2, 1]]])  # (1, 2, 3)
    guess = torch.tensor([[[0, 1, 1], [0, 0, 1]]])
    logits = 99.0 * torch.nn.functional.one_hot(guess, 4).movedim(-1, 1)  # (1, 4, 2, 3): class 3 stands in neither
    assert dice_loss(logits, classes).item() == pytest.approx(1 - (4 / 6 + 4 / 5 + 0) / 3)
    right = 99.0 * torch.nn.functional.one_hot(classes, 4).movedim(-1, 1)
    assert dice_loss(right, classes).item() == pytest.approx(0, abs=1e-6)
    # a class that is absent and gets some probability does not count by itself, but takes it from the others
    unsure = torch.zeros(1, 4, 2, 3)
    shares = [2 * n / 4 / (6 / 4 + n) for n in (3, 2, 1)]
    assert dice_loss(unsure, classes).item() == pytest.approx(1 - sum(shares) / 3)


@pytest.mark.parametrize("loss", [pixel_cross_entropy, dice_loss])
def test_losses_of_pixels_refuse(loss):
    logits, classes = torch.zeros(2, 3, 4, 5), torch.zeros(2, 4, 5, dtype=torch.long)
    with pytest.raises(ValueError, match=r"logits must be \(B, C, H, W\) and classes \(B, H, W\), got .* and \(2, 4, 4\)"):
        loss(logits, classes[..., :4])
    with pytest.raises(ValueError, match="classes must be integers, got torch.float32"):
        loss(logits, classes.float())
    with pytest.raises(ValueError, match=r"classes must lie in \[0, 3\), got values from 3 to 3"):
        loss(logits, classes + 3)
    with pytest.raises(ValueError, match=r"weight must be \(3,\) numbers of at least 0"):
        pixel_cross_entropy(logits, classes, torch.tensor([1.0, -1.0, 1.0]))
