"""Optimizers by hand, what they skip and refuse, and their place in `train`."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from tutorlib.training import decay_groups, train, warmup_cosine
from tutorlib.training.optimizers import SGD, Adam, AdamW


def number(value: float) -> nn.Parameter:
    return nn.Parameter(torch.tensor(value, dtype=torch.float64))


def walk(optimizer: torch.optim.Optimizer, weight: nn.Parameter, gradients: list[float]) -> list[float]:
    """The weight after each step with the given gradients."""
    path = []
    for gradient in gradients:
        weight.grad = torch.tensor(gradient, dtype=weight.dtype)
        optimizer.step()
        path.append(weight.item())
    return path


def test_descent_by_hand():
    weight = number(1.0)
    assert walk(SGD([weight], lr=0.1), weight, [2.0, 1.0, -4.0]) == pytest.approx([0.8, 0.7, 1.1])


def test_momentum_by_hand():
    weight = number(1.0)  # buffers 2, 2, 5
    assert walk(SGD([weight], lr=0.1, momentum=0.5), weight, [2.0, 1.0, 4.0]) == pytest.approx([0.8, 0.6, 0.1])


def test_nesterov_by_hand():
    weight = number(1.0)  # steps 2 + 1, 1 + 1, 4 + 2.5
    path = walk(SGD([weight], lr=0.1, momentum=0.5, nesterov=True), weight, [2.0, 1.0, 4.0])
    assert path == pytest.approx([0.7, 0.5, -0.15])


def test_weight_decay_of_sgd_is_the_gradient_of_a_penalty():
    weight = number(1.0)
    assert walk(SGD([weight], lr=0.1, weight_decay=0.5), weight, [2.0, 0.0]) == pytest.approx([0.75, 0.7125])


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e6])
def test_the_first_step_of_adam_is_the_learning_rate(scale):
    weight = number(1.0)
    assert walk(Adam([weight], lr=0.1, eps=0.0), weight, [-scale]) == pytest.approx([1.1])


def test_adam_by_hand():
    weight = number(0.0)  # m^ = 4, then (2 + 1.5) / 0.75; v^ = 16, then (4 + 0.75 * 9 / ...) as below
    first = -0.1 * 4 / (4 + 1)
    mean = (0.5 * (0.5 * 4) + 0.5 * 3) / 0.75
    square = (0.75 * (0.25 * 16) + 0.25 * 9) / (1 - 0.75**2)
    path = walk(Adam([weight], lr=0.1, betas=(0.5, 0.75), eps=1.0), weight, [4.0, 3.0])
    assert path == pytest.approx([first, first - 0.1 * mean / (math.sqrt(square) + 1)])


def test_decay_is_divided_in_adam_and_not_in_adamw():
    """One step with a huge gradient: the penalty drowns in Adam's quotient; AdamW shrinks the weight all the same."""
    with_penalty, decoupled = number(1.0), number(1.0)
    walk(Adam([with_penalty], lr=0.1, weight_decay=0.5), with_penalty, [1e6])
    walk(AdamW([decoupled], lr=0.1, weight_decay=0.5), decoupled, [1e6])
    assert with_penalty.item() == pytest.approx(1 - 0.1)
    assert decoupled.item() == pytest.approx(1 - 0.05 - 0.1)


@pytest.mark.parametrize("method", [SGD, Adam, AdamW])
def test_a_parameter_without_gradient_stays_and_has_no_state(method):
    moved, still = number(1.0), number(2.0)
    optimizer = method([moved, still], lr=0.1, weight_decay=0.5)
    walk(optimizer, moved, [1.0])
    assert moved.item() != 1.0 and still.item() == 2.0
    assert still not in optimizer.state


def test_the_gradient_is_left_as_it_was():
    for method, options in ((SGD, {"momentum": 0.9, "nesterov": True}), (Adam, {}), (AdamW, {})):
        weight = number(1.0)
        walk(method([weight], lr=0.1, weight_decay=0.5, **options), weight, [3.0])
        assert weight.grad.item() == 3.0


def test_a_closure_is_called_with_gradients_and_its_loss_returned():
    weight = number(3.0)
    optimizer = SGD([weight], lr=0.25)

    def closure():
        optimizer.zero_grad()
        value = weight.square()
        value.backward()
        return value
    assert optimizer.step(closure).item() == 9.0
    assert weight.item() == 1.5
    assert optimizer.step() is None


@pytest.mark.parametrize("method, options, message", [
    (SGD, {"lr": -0.1}, "lr must be a finite number of at least 0, got -0.1"),
    (SGD, {"lr": math.nan}, "lr must be a finite number of at least 0, got nan"),
    (Adam, {"lr": math.inf}, "lr must be a finite number of at least 0, got inf"),
    (SGD, {"weight_decay": -1}, "weight_decay must be a finite number of at least 0, got -1"),
    (AdamW, {"weight_decay": -1}, "weight_decay must be a finite number of at least 0, got -1"),
    (Adam, {"eps": -1e-8}, "eps must be a finite number of at least 0, got -1e-08"),
    (SGD, {"momentum": 1.0}, "momentum must be at least 0 and below 1, got 1.0"),
    (SGD, {"momentum": -0.1}, "momentum must be at least 0 and below 1, got -0.1"),
    (SGD, {"nesterov": True}, "nesterov=True needs a momentum above 0, got momentum=0.0"),
    (Adam, {"betas": (0.9, 1.0)}, r"betas must be two numbers of at least 0 and below 1, got \(0.9, 1.0\)"),
    (AdamW, {"betas": (-0.1, 0.9)}, r"betas must be two numbers of at least 0 and below 1, got \(-0.1, 0.9\)"),
    (SGD, {"lr": "fast"}, "lr must be a finite number of at least 0, got fast"),
    (SGD, {"momentum": math.nan}, "momentum must be at least 0 and below 1, got nan"),
    (AdamW, {"weight_decay": math.nan}, "weight_decay must be a finite number of at least 0, got nan"),
    (Adam, {"betas": 0.9}, "betas must be two numbers of at least 0 and below 1, got 0.9"),
    (Adam, {"betas": (math.nan, 0.9)}, r"betas must be two numbers of at least 0 and below 1, got \(nan, 0.9\)"),
    (Adam, {"betas": (0.9,)}, r"betas must be two numbers of at least 0 and below 1, got \(0.9,\)"),
])
def test_options_out_of_range_are_refused(method, options, message):
    with pytest.raises(ValueError, match=message):
        method([number(1.0)], **options)
    with pytest.raises(ValueError, match=message):  # of a group, too
        method([{"params": [number(1.0)]}, {"params": [number(2.0)], **options}])


@pytest.mark.parametrize("method, options, message", [
    (SGD, {"dampening": 0.5}, "dampening = 0.5 has no effect in this SGD; expected 0"),
    (Adam, {"amsgrad": True}, "amsgrad = True has no effect in this Adam; expected False"),
    (AdamW, {"momentum": 0.9}, "momentum = 0.9 has no effect in this AdamW; expected no such option"),
])
def test_a_groups_option_that_has_no_effect_is_refused(method, options, message):
    with pytest.raises(ValueError, match=message):
        method([{"params": [number(1.0)], **options}])


def test_a_rate_that_is_a_tensor_or_numpys_is_a_number():
    for rate in (torch.tensor(0.5), np.float64(0.5), np.float32(0.5)):
        weight = number(1.0)
        assert walk(SGD([weight], lr=rate), weight, [1.0]) == [0.5]
        betas = np.float32(0.5), torch.tensor(0.5)
        assert walk(AdamW([weight], lr=rate, betas=betas, eps=0.0, weight_decay=0.0), weight, [1.0]) == [0.0]


class EveryKind(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale, self.table, self.kernel = nn.Parameter(torch.tensor(1.0)), nn.Embedding(3, 2), nn.Conv1d(2, 2, 3)
        self.norm, self.tied = nn.LayerNorm(2), self.table


def test_weights_decay_and_all_other_parameters_are_spared():
    model = EveryKind()
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = decay_groups(model, 0.1)
    assert [[names[id(parameter)] for parameter in group["params"]] for group in groups] == [
        ["table.weight", "kernel.weight"], ["scale", "kernel.bias", "norm.weight", "norm.bias"]]
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0]
    before = [parameter.detach().clone() for parameter in model.parameters()]
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    for method in (AdamW, torch.optim.AdamW):
        method(decay_groups(model, 0.1), lr=0.5).step()
    for parameter, old in zip(model.parameters(), before, strict=True):
        torch.testing.assert_close(parameter, old * (0.95**2 if parameter.dim() > 1 else 1.0))
    assert decay_groups(nn.Linear(2, 2, bias=False), 0.1)[1]["params"] == []


@pytest.mark.parametrize("weight_decay", [-0.1, math.nan, math.inf, None])
def test_a_decay_that_is_none_is_refused(weight_decay):
    with pytest.raises(ValueError, match=f"weight_decay must be a finite number of at least 0, got {weight_decay}"):
        decay_groups(nn.Linear(2, 2), weight_decay)


def test_gradients_that_are_sparse_or_complex_are_refused():
    table = nn.Embedding(3, 2, sparse=True)
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(ValueError, match=r"gradients must be dense and real, got torch.sparse_coo, .*shape \(3, 2\)"):
        Adam(table.parameters()).step()
    weight = nn.Parameter(torch.ones(2, dtype=torch.complex64))
    weight.abs().sum().backward()
    with pytest.raises(ValueError, match="gradients must be dense and real, got .*complex64"):
        SGD([weight]).step()


def regression():
    torch.manual_seed(0)
    model, inputs = nn.Linear(4, 2), torch.randn(64, 4)
    targets = inputs @ torch.randn(4, 2) + 1
    return model, lambda step: (inputs, targets), lambda model, batch: (model(batch[0]) - batch[1]).square().mean()


@pytest.mark.parametrize("method, options", [
    (SGD, {"lr": 0.3, "momentum": 0.5, "nesterov": True}), (Adam, {"lr": 0.1}), (AdamW, {"lr": 0.1, "weight_decay": 0.0})])
def test_train_with_a_schedule_learns_and_resumes_to_the_same_bits(method, options, tmp_path):
    runs = []
    for pieces in ([80], [30, 80]):  # unbroken; stopped after 30 steps and resumed
        path = tmp_path / f"{len(pieces)}.pt"
        for steps in pieces:
            model, batches, loss = regression()
            history = train(model, batches, loss, method(model.parameters(), **options), steps=steps, clip_norm=None,
                            schedule=warmup_cosine(5, 80), checkpoint=path, progress=False)
        runs.append((model.weight.detach(), history.losses))
    assert history.losses[-1] < 1e-2 * history.losses[0]
    assert torch.equal(runs[0][0], runs[1][0]) and runs[0][1] == runs[1][1]
