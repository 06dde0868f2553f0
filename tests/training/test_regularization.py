"""Penalties, proximal steps, dropout, early stopping, smoothed labels: against their definitions and torch."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tests.closeness import assert_same
from tutorlib.training.loop import History, train
from tutorlib.training.regularization import (
    EarlyStopping,
    dropout,
    is_weight,
    l1_penalty,
    l2_penalty,
    proximal_l1,
    smooth_labels,
    soft_threshold,
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def network():
    """A model with all kinds of parameters: kernels, a norm's scale and shift, an embedding table, a matrix, biases."""
    torch.manual_seed(0)
    return nn.ModuleDict({"kernel": nn.Conv2d(1, 2, 3), "norm": nn.BatchNorm2d(2), "table": nn.Embedding(4, 3),
                          "matrix": nn.Linear(3, 2)})


WEIGHTS = ["kernel.weight", "table.weight", "matrix.weight"]


def test_weights_are_the_parameters_of_two_or_more_dimensions():
    assert [name for name, parameter in network().named_parameters() if is_weight(parameter)] == WEIGHTS


def test_penalties_by_hand():
    layer = nn.Linear(2, 1)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[3.0, -4.0]]))
        layer.bias.fill_(100.0)
    assert l1_penalty(layer).item() == 7.0
    assert l2_penalty(layer).item() == 12.5


@pytest.mark.parametrize("penalty, slope", [(l1_penalty, torch.sign), (l2_penalty, lambda w: w)])
def test_a_penaltys_gradient_reaches_the_weights_alone(penalty, slope, device):
    model = network().to(device)
    with torch.no_grad():
        model["matrix"].weight[0, 0] = 0.0
    penalty(model).backward()
    for name, parameter in model.named_parameters():
        if name in WEIGHTS:
            assert_same(parameter.grad, slope(parameter.detach()))
        else:
            assert parameter.grad is None


def test_a_shared_weight_is_penalized_once():
    layer = nn.Linear(3, 3)
    assert l1_penalty(nn.Sequential(layer, layer)).item() == l1_penalty(layer).item()


@pytest.mark.parametrize("penalty", [l1_penalty, l2_penalty])
def test_a_model_without_weights_is_refused(penalty):
    with pytest.raises(ValueError, match="model: BatchNorm1d has no parameter of two or more dimensions; expected"):
        penalty(nn.BatchNorm1d(3))


def test_the_l2_penalty_is_sgds_weight_decay():
    inputs, targets = torch.randn(8, 3, generator=generator()), torch.randn(8, 1, generator=generator(1))
    ends = []
    for penalty, decay in ((0.3, 0.0), (0.0, 0.3)):
        torch.manual_seed(0)
        model = nn.Linear(3, 1, bias=False)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=decay)
        for _ in range(5):
            optimizer.zero_grad()
            (F.mse_loss(model(inputs), targets) + penalty * l2_penalty(model)).backward()
            optimizer.step()
        ends.append(model.weight.detach())
    assert_same(*ends)


def test_soft_threshold_by_hand():
    values = torch.tensor([3.0, 1.0, 0.5, 0.0, -0.5, -1.0, -3.0])
    assert soft_threshold(values, 1.0).tolist() == [2.0, 0.0, 0.0, 0.0, 0.0, 0.0, -2.0]


@given(seed=st.integers(0, 10**6), threshold=st.floats(0, 3))
def test_soft_threshold_is_shrinking_as_torch_does_it_and_minimizes(seed, threshold):
    values = 2 * torch.randn(20, generator=generator(seed), dtype=torch.float64)
    ours = soft_threshold(values, threshold)
    assert_same(ours, F.softshrink(values, threshold))

    def cost(u):
        return (u - values) ** 2 / 2 + threshold * u.abs()

    for distance in (1e-3, -1e-3, 0.3, -0.3):
        assert (cost(ours) <= cost(ours + distance)).all()


@pytest.mark.parametrize("threshold", [-0.1, math.nan, math.inf])
def test_a_negative_threshold_is_refused(threshold):
    with pytest.raises(ValueError, match=f"threshold must be finite and not negative, got {threshold}"):
        soft_threshold(torch.ones(2), threshold)


def test_proximal_l1_thresholds_the_weights_of_every_group_by_its_own_rate(device):
    model = network().to(device)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    groups = [{"params": model["kernel"].parameters(), "lr": 0.5}, {"params": model["matrix"].parameters(), "lr": 0.1}]
    optimizer = torch.optim.SGD(groups)
    handle = proximal_l1(optimizer, 0.4)
    optimizer.step()  # no gradients: the threshold alone acts
    expected = {"kernel.weight": 0.2, "matrix.weight": 0.04}
    for name, parameter in model.named_parameters():
        assert_same(parameter.detach(), soft_threshold(before[name], expected.get(name, 0.0)))
    handle.remove()
    weight = model["kernel"].weight.detach().clone()
    optimizer.step()
    assert torch.equal(model["kernel"].weight, weight)


def test_proximal_l1_follows_the_schedule():
    model = nn.Linear(2, 2)
    with torch.no_grad():
        model.weight.fill_(1.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    proximal_l1(optimizer, 0.1)
    train(model, lambda step: None, lambda model, batch: 0 * model.weight.sum(), optimizer, steps=2,
          schedule=lambda step: [1.0, 0.5][step], progress=False)
    assert_same(model.weight.detach(), torch.full((2, 2), 0.85))


def test_proximal_gradient_descent_finds_the_lasso_of_an_orthogonal_design():
    """With X^T X = N identity the lasso is the soft-thresholded least-squares solution, zeros and all."""
    examples, strength = 32, 0.25
    inputs = math.sqrt(examples) * torch.linalg.qr(torch.randn(examples, 8, generator=generator(), dtype=torch.float64))[0]
    targets = torch.randn(examples, 1, generator=generator(1), dtype=torch.float64)
    model = nn.Linear(8, 1, bias=False, dtype=torch.float64)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    proximal_l1(optimizer, strength)
    for _ in range(200):
        optimizer.zero_grad()
        (F.mse_loss(model(inputs), targets) / 2).backward()
        optimizer.step()
    least_squares = (inputs.T @ targets / examples).T  # (1, 8)
    expected = soft_threshold(least_squares, strength)
    assert 0 < (expected == 0).sum() < 8
    assert_same(model.weight.detach(), expected)
    assert torch.equal(model.weight == 0, expected == 0)  # exactly zero, not nearly


def test_a_negative_strength_is_refused():
    for strength in (-1, math.nan, math.inf):  # at a rate of 0 an infinite one would make NaN
        with pytest.raises(ValueError, match=f"strength must be finite and not negative, got {strength}"):
            proximal_l1(torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.1), strength)


@pytest.mark.parametrize("probability", [0.0, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_dropout_is_torchs_given_its_mask(probability, dtype):
    states = torch.randn(40, 30, generator=generator()).to(dtype).requires_grad_()
    layer = nn.Dropout(probability)
    torch.manual_seed(3)
    keep = layer(torch.ones(40, 30, dtype=dtype)) > 0
    torch.manual_seed(3)
    reference = layer(states)
    ours = dropout(states, probability, keep=keep)
    assert ours.dtype == dtype
    assert_same(ours, reference)
    weights = torch.randn(40, 30, generator=generator(1)).to(dtype)
    assert_same(*(torch.autograd.grad((out * weights).sum(), states)[0] for out in (ours, reference)))


def test_dropout_keeps_the_expected_value_and_drops_the_share_asked_for(device):
    states = torch.tensor([1.0, -2.0, 5.0], device=device).expand(40_000, 3)
    dropped = dropout(states, 0.3, generator=generator())
    assert dropped.device.type == device.type
    assert (dropped == 0).float().mean().item() == pytest.approx(0.3, abs=0.01)
    assert (dropped.mean(0) / states[0]).tolist() == pytest.approx([1.0] * 3, abs=0.02)


def test_dropout_is_decided_by_the_generator():
    states = torch.ones(100)
    assert torch.equal(dropout(states, 0.5, generator=generator(1)), dropout(states, 0.5, generator=generator(1)))
    assert not torch.equal(dropout(states, 0.5, generator=generator(1)), dropout(states, 0.5, generator=generator(2)))


@pytest.mark.parametrize("probability", [-0.1, 1.0, math.nan])
def test_dropout_refuses_a_probability_that_is_none(probability):
    with pytest.raises(ValueError, match="probability must be at least 0 and less than 1, got"):
        dropout(torch.ones(2), probability, generator=generator())


@pytest.mark.parametrize("options", [{}, {"generator": generator(), "keep": torch.tensor([True, False])}])
def test_dropout_takes_a_generator_or_a_mask(options):
    with pytest.raises(ValueError, match="generator or keep must be given, and not both"):
        dropout(torch.ones(2), 0.5, **options)


@pytest.mark.parametrize("keep", [torch.ones(2, 1, dtype=torch.bool), torch.ones(3, dtype=torch.bool), torch.ones(2, 3)])
def test_dropout_refuses_a_mask_that_fits_by_accident(keep):
    with pytest.raises(ValueError, match=r"keep must be a boolean mask of shape \(2, 3\), got"):
        dropout(torch.ones(2, 3), 0.5, keep=keep)


def watch(values, **options):
    """An EarlyStopping that saw these evaluations; the weight at each was the evaluation's number, from 1."""
    model, history = nn.Linear(1, 1), History()
    stopping = EarlyStopping(model, **options)
    verdicts = []
    for number, value in enumerate(values, start=1):
        nn.init.constant_(model.weight, number)
        history.evaluations.append((10 * number, value))
        verdicts.append(stopping(history))
    return model, stopping, verdicts


def test_early_stopping_waits_its_patience_and_restores_the_best():
    model, stopping, verdicts = watch([3.0, 2.0, 2.5, 1.0, 1.0, 4.0], patience=2)
    assert verdicts == [False, False, False, False, False, True]  # an equal value is no improvement
    assert (stopping.best_step, stopping.best_value) == (40, 1.0)
    assert model.weight.item() == 6
    stopping.restore()
    assert model.weight.item() == 4


def test_early_stopping_on_a_score_takes_the_largest():
    _, stopping, verdicts = watch([{"score": 0.5}, {"score": 0.7}, {"score": 0.6}], patience=1,
                                  value=lambda evaluation: -evaluation["score"])
    assert verdicts == [False, False, True] and stopping.best_value == -0.7


def test_nan_is_never_better():
    _, stopping, verdicts = watch([math.nan, 2.0, math.nan, 1.0], patience=3)
    assert verdicts == [False] * 4 and stopping.best_value == 1.0
    assert watch([math.nan, math.nan], patience=2)[2] == [False, True]


def test_evaluations_may_be_numbers_of_numpy_or_torch():
    _, stopping, verdicts = watch([np.float32(3.0), torch.tensor(2.0), torch.tensor(torch.nan)], patience=1)
    assert verdicts == [False, False, True] and stopping.best_value == 2.0 and type(stopping.best_value) is float


def test_early_stopping_restores_buffers_too():
    model, history = nn.BatchNorm1d(2), History()
    stopping = EarlyStopping(model, 1)
    history.evaluations.append((1, 0.0))
    stopping(history)
    model.running_mean.fill_(5.0)
    stopping.restore()
    assert model.running_mean.tolist() == [0.0, 0.0]


def test_early_stopping_ends_a_training_run():
    """Descent on (w - 1)^2 passes the held-out optimum 0.5 and goes on; the run ends there and the best weight comes back."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    stopping = EarlyStopping(model, patience=3)
    history = train(model, lambda step: None, lambda model, batch: (model.weight - 1).square().sum(),
                    torch.optim.SGD(model.parameters(), lr=0.05), steps=100, clip_norm=None,
                    evaluate=lambda model: (model.weight - 0.5).abs().item(), evaluate_every=1, stop=stopping, progress=False)
    path = [1 - 0.9**step for step in range(1, 101)]
    best = min(range(100), key=lambda i: abs(path[i] - 0.5)) + 1
    assert stopping.best_step == best and len(history.losses) == best + 3
    stopping.restore()
    assert model.weight.item() == pytest.approx(path[best - 1], rel=1e-5)


def test_early_stopping_refuses_no_patience_and_restoring_nothing():
    for patience in (0, math.nan, 1.5):
        with pytest.raises(ValueError, match=f"patience must be at least 1 evaluation, got {patience}"):
            EarlyStopping(nn.Linear(1, 1), patience)
    with pytest.raises(ValueError, match="restore: no evaluation has been seen yet that is a number"):
        watch([math.nan], patience=1)[1].restore()
    with pytest.raises(ValueError, match="restore: no evaluation has been seen yet"):
        EarlyStopping(nn.Linear(1, 1), 1).restore()


@given(seed=st.integers(0, 10**6), classes=st.integers(1, 12), smoothing=st.sampled_from([0.0, 0.1, 0.5, 1.0]))
def test_smooth_labels_give_torchs_smoothed_cross_entropy(seed, classes, smoothing):
    logits = torch.randn(7, classes, generator=generator(seed))
    labels = torch.randint(classes, (7,), generator=generator(seed))
    probabilities = smooth_labels(labels, classes, smoothing)
    assert_same(probabilities.sum(1), torch.ones(7))
    assert_same(F.cross_entropy(logits, probabilities), F.cross_entropy(logits, labels, label_smoothing=smoothing))


def test_smooth_labels_by_hand(device):
    labels = smooth_labels(torch.tensor([2, 0], device=device), 4, 0.2)
    assert labels.device.type == device.type and labels.dtype == torch.float32
    assert_same(labels.cpu(), torch.tensor([[0.05, 0.05, 0.85, 0.05], [0.85, 0.05, 0.05, 0.05]]))
    assert smooth_labels(torch.tensor([1]), 2, 0.0).tolist() == [[0.0, 1.0]]


@pytest.mark.parametrize("arguments, message", [
    ((torch.tensor([0]), 3, 1.5), "smoothing must be a share from 0 to 1, got 1.5"),
    ((torch.tensor([0]), 3, math.nan), "smoothing must be a share from 0 to 1, got nan"),
    ((torch.tensor([0]), 0, 0.1), "num_classes must be at least 1, got 0"),
    ((torch.tensor([0]), 2.5, 0.1), "num_classes must be at least 1, got 2.5"),
    ((torch.tensor([True]), 3, 0.1), "labels must be integers of shape (B,), got torch.bool of shape (1,)"),
    ((torch.tensor([3]), 3, 0.1), "labels must be from 0 to 2, got 3 to 3"),
    ((torch.tensor([-1, 1]), 3, 0.1), "labels must be from 0 to 2, got -1 to 1"),
    ((torch.tensor([0.5]), 3, 0.1), "labels must be integers of shape (B,), got torch.float32 of shape (1,)"),
    ((torch.tensor([[0]]), 3, 0.1), "labels must be integers of shape (B,), got torch.int64 of shape (1, 1)"),
])
def test_smooth_labels_refuses_by_name(arguments, message):
    with pytest.raises(ValueError) as refused:
        smooth_labels(*arguments)
    assert message in str(refused.value)
