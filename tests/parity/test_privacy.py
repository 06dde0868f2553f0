"""Per-sample gradients against a loop and opacus's GradSampleModule; the accountant against opacus's RDPAccountant."""

import warnings

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus.accountants import RDPAccountant
from opacus.accountants.analysis.rdp import compute_rdp
from opacus.grad_sample import GradSampleModule
from torch import nn

from tests.closeness import assert_same
from tutorlib.models import GPT, MLP, GPTConfig
from tutorlib.training.privacy import clipped, epsilon, per_sample_gradients, private_gradient, renyi


def by_a_loop(model, inputs, targets, loss):
    rows = [torch.autograd.grad(loss(model(x[None]), y[None]), list(model.parameters()))
            for x, y in zip(inputs, targets, strict=True)]
    return torch.stack([torch.cat([gradient.flatten() for gradient in row]) for row in rows])


@pytest.mark.filterwarnings("ignore:Full backward hook")
@settings(max_examples=25, deadline=None)
@given(sizes=st.lists(st.integers(1, 9), min_size=2, max_size=4), batch=st.integers(1, 6), seed=st.integers(0, 10**6),
       dtype=st.sampled_from([torch.float32, torch.float64]))
def test_gradients_of_a_perceptron(sizes, batch, seed, dtype):
    torch.manual_seed(seed)
    model = MLP(sizes).to(dtype)
    inputs, targets = torch.randn(batch, sizes[0], dtype=dtype), torch.randint(sizes[-1], (batch,))
    ours = per_sample_gradients(model, inputs, targets)
    assert ours.dtype == dtype
    assert_same(ours, by_a_loop(model, inputs, targets, F.cross_entropy))
    layers = [part for layer in model.layers[:-1] for part in (layer, nn.ReLU())]
    theirs = GradSampleModule(nn.Sequential(*layers, model.layers[-1]), loss_reduction="sum")
    F.cross_entropy(theirs(inputs), targets, reduction="sum").backward()
    assert_same(ours, torch.cat([p.grad_sample.flatten(1) for p in theirs.parameters()], dim=1))
    norms = ours.norm(dim=1)
    assert_same(clipped(ours, 0.5).norm(dim=1), norms.clamp_max(0.5))


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@settings(max_examples=8, deadline=None)
@given(batch=st.integers(1, 3), length=st.integers(1, 6), seed=st.integers(0, 10**6))
def test_gradients_of_a_language_model(batch, length, seed):
    torch.manual_seed(seed)
    model = GPT(GPTConfig(11, 8, width=8, num_heads=2, num_layers=1, hidden=12)).double()
    tokens, targets = torch.randint(11, (2, batch, length))
    each_token = lambda logits, classes: F.cross_entropy(logits.flatten(0, 1), classes.flatten())  # noqa: E731
    ours = per_sample_gradients(model, tokens, targets, each_token)  # token ids are integers, which have no gradient
    assert_same(ours, by_a_loop(model, tokens, targets, each_token))


def test_gradients_of_a_convolution():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 3, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 36, 10)).double()
    inputs, targets = torch.randn(5, 1, 14, 14, dtype=torch.float64), torch.arange(5)
    assert_same(per_sample_gradients(model, inputs, targets), by_a_loop(model, inputs, targets, F.cross_entropy))


@settings(max_examples=80, deadline=None)
@given(rate=st.floats(0.001, 1.0), noise=st.floats(0.4, 20.0), order=st.one_of(st.integers(2, 100), st.floats(1.1, 60.0)))
def test_the_divergence_is_opacus(rate, noise, order):
    theirs = compute_rdp(q=rate, noise_multiplier=noise, steps=1, orders=[order])[0]
    assert renyi(rate, noise, order) == pytest.approx(theirs, rel=1e-5, abs=1e-9)


@settings(max_examples=12, deadline=None)
@given(rate=st.floats(0.01, 1.0), noise=st.floats(0.7, 6.0), steps=st.integers(1, 300), delta=st.sampled_from([1e-3, 1e-5]))
def test_epsilon_is_opacus(rate, noise, steps, delta):
    accountant = RDPAccountant()
    accountant.history = [(noise, rate, steps)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the least of the orders may be the best
        theirs = accountant.get_epsilon(delta)
    same_orders = epsilon(rate, noise, steps, delta, orders=RDPAccountant.DEFAULT_ALPHAS)
    assert same_orders == pytest.approx(max(theirs, 0.0), rel=1e-5, abs=1e-8)
    assert epsilon(rate, noise, steps, delta) <= same_orders + 1e-6  # ours are theirs and a few more


@pytest.mark.filterwarnings("ignore:Full backward hook")
def test_the_clipped_mean_is_that_of_opacus():
    from opacus.optimizers import DPOptimizer

    torch.manual_seed(0)
    model = MLP((4, 3)).double()
    inputs, targets = torch.randn(6, 4, dtype=torch.float64), torch.arange(6) % 3
    theirs = GradSampleModule(nn.Sequential(nn.Linear(4, 3)).double(), loss_reduction="mean")
    theirs._module[0].load_state_dict(model.layers[0].state_dict())
    optimizer = DPOptimizer(torch.optim.SGD(theirs.parameters(), lr=1.0), noise_multiplier=0.0, max_grad_norm=0.3,
                            expected_batch_size=5)
    before = torch.cat([p.detach().flatten() for p in theirs.parameters()])
    F.cross_entropy(theirs(inputs), targets).backward()
    optimizer.step()
    moved = before - torch.cat([p.detach().flatten() for p in theirs.parameters()])
    ours = private_gradient(per_sample_gradients(model, inputs, targets), 0.3, 0.0, 5, torch.Generator())
    assert (ours - moved).abs().max() < 1e-6  # theirs adds 1e-6 to the norm that it divides by


def test_a_network_with_normalization_by_batch_is_not_the_loop():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    with pytest.raises((RuntimeError, ValueError)):
        per_sample_gradients(model, torch.randn(4, 4), torch.arange(4) % 3)
