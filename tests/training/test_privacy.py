"""Differential privacy: each example is clipped alone, noise has the size it should, the accountant obeys its laws."""

import math

import pytest
import torch
import torch.nn.functional as F

from tests.closeness import assert_same, draw
from tutorlib.models import MLP
from tutorlib.training.privacy import (
    clipped,
    epsilon,
    most_bets_won,
    noise_for,
    per_sample_gradients,
    private_gradient,
    renyi,
    train_privately,
)


def model(dtype=torch.float32):
    torch.manual_seed(0)
    return MLP((6, 5, 3)).to(dtype)


def dice(seed=0):
    return torch.Generator().manual_seed(seed)


def test_a_long_row_is_cut_and_a_short_one_kept():
    rows = torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]])
    assert_same(clipped(rows, 1.0), torch.tensor([[0.6, 0.8], [0.3, 0.4], [0.0, 0.0]]))


def test_without_noise_and_with_a_high_clip_it_is_the_gradient():
    own, x, y = model(torch.float64), draw(7, 6, dtype=torch.float64), torch.arange(7) % 3
    plain = torch.autograd.grad(F.cross_entropy(own(x), y), list(own.parameters()))
    ours = private_gradient(per_sample_gradients(own, x, y), 1e6, 0.0, 7, dice())
    assert_same(ours, torch.cat([gradient.flatten() for gradient in plain]))


def test_one_example_moves_the_sum_by_no_more_than_the_clip():
    gradients = 10 * draw(9, 40)
    with_all, without = (private_gradient(gradients[:n], 0.7, 1.0, 9, dice()) for n in (9, 8))  # the same noise
    assert (9 * (with_all - without)).norm() == pytest.approx(0.7, rel=1e-4)


def test_the_noise_has_the_deviation_it_should():
    found = private_gradient(torch.zeros(1, 40_000), 0.5, 3.0, 10, dice())
    assert found.std().item() == pytest.approx(3.0 * 0.5 / 10, rel=0.03)
    assert found.mean().abs() < 0.15 * 5 / 200


def test_an_empty_batch_is_noise_alone():
    own = model()
    found = private_gradient(per_sample_gradients(own, torch.zeros(0, 6), torch.zeros(0).long()), 1.0, 2.0, 4, dice())
    assert found.shape == (sum(p.numel() for p in own.parameters()),) and found.std() > 0.3


def test_dtype_follows_the_gradients():
    for dtype in (torch.float32, torch.float64):
        assert private_gradient(torch.ones(2, 3, dtype=dtype), 1.0, 1.0, 2, dice()).dtype == dtype


def test_training_without_noise_on_all_is_gradient_descent():
    own, peer, x, y = model(torch.float64), model(torch.float64), draw(8, 6, dtype=torch.float64), torch.arange(8) % 3
    train_privately(own, x, y, steps=5, sample_rate=1.0, clip_norm=1e6, noise=0.0, rate=0.4, generator=dice())
    optimizer = torch.optim.SGD(peer.parameters(), lr=0.4)
    for _ in range(5):
        optimizer.zero_grad()
        F.cross_entropy(peer(x), y).backward()
        optimizer.step()
    for ours, theirs in zip(own.parameters(), peer.parameters(), strict=True):
        assert_same(ours, theirs)


def test_it_learns_with_noise():
    labels = torch.arange(600) % 3
    inputs = 3 * F.one_hot(labels, 6) + 0.3 * draw(600, 6)
    own = model()
    train_privately(own, inputs, labels, steps=60, sample_rate=0.2, clip_norm=1.0, noise=1.0, rate=1.0, generator=dice())
    assert (own(inputs).argmax(-1) == labels).float().mean() > 0.95


def test_a_batch_is_drawn_by_coins(monkeypatch):
    from tutorlib.training import privacy

    sizes, expected = [], []
    monkeypatch.setattr(privacy, "private_gradient", lambda gradients, clip, noise, mean, generator: (
        sizes.append(len(gradients)), expected.append(mean), torch.zeros(gradients.shape[1]))[-1])
    own = model()
    train_privately(own, draw(200, 6), torch.arange(200) % 3, steps=60, sample_rate=0.1, clip_norm=1.0, noise=1.0, rate=1.0,
                    generator=dice())
    assert len(set(sizes)) > 5 and sum(sizes) / 60 == pytest.approx(20, abs=2) and set(expected) == {20.0}


@pytest.mark.parametrize("order", [1.5, 2.0, 7.0, 40.0])
def test_with_all_in_every_batch_it_is_the_gaussians_divergence(order):
    assert renyi(1.0, 1.7, order) == pytest.approx(order / (2 * 1.7**2), rel=1e-9)


def test_order_two_by_hand():
    q, noise = 0.1, 1.3  # E_mu[(1 - q + q r)^2] = 1 + q^2 (e^{1 / noise^2} - 1)
    assert renyi(q, noise, 2) == pytest.approx(math.log1p(q**2 * math.expm1(1 / noise**2)), rel=1e-9)


def test_epsilon_grows_with_steps_and_rate_and_falls_with_noise_and_delta():
    base = epsilon(0.1, 1.0, 100, 1e-4)
    assert epsilon(0.1, 1.0, 200, 1e-4) > base and epsilon(0.2, 1.0, 100, 1e-4) > base
    assert epsilon(0.1, 1.5, 100, 1e-4) < base and epsilon(0.1, 1.0, 100, 1e-3) < base
    assert epsilon(0.1, 100.0, 1, 0.5) == 0.0


def test_no_attack_on_the_sum_beats_the_bound():
    """The likelihood ratio on all steps of the worst case, drawn: the most that anyone can do with them."""
    q, noise, steps, draws = 0.3, 1.5, 20, 40_000
    inside = torch.rand(draws, generator=dice()) < 0.5
    taken = inside[:, None] & (torch.rand(draws, steps, generator=dice(1)) < q)
    seen = taken + noise * torch.randn(draws, steps, generator=dice(2))
    ratio = (1 - q + q * ((2 * seen - 1) / (2 * noise**2)).exp()).log().sum(1)
    won = ((ratio > 0) == inside).float().mean().item()
    bound = most_bets_won(epsilon(q, noise, steps, 1e-4), 1e-4)
    assert 0.55 < won < bound


def test_noise_for_hits_its_target():
    for target in (0.5, 3.0, 20.0):
        noise = noise_for(target, 0.1, 50, 1e-4)
        assert target * 0.98 < epsilon(0.1, noise, 50, 1e-4) <= target


def test_bets():
    assert most_bets_won(0.0, 0.0) == 0.5 and most_bets_won(0.0, 1.0) == 1.0
    assert most_bets_won(1.0, 0.0) == pytest.approx(math.e / (1 + math.e))
    assert most_bets_won(math.inf, 0.0) == 1.0


@pytest.mark.parametrize("call, message", [
    (lambda: private_gradient(torch.ones(1, 2), 0.0, 1.0, 1, dice()), "clip_norm must be positive and finite, got 0.0"),
    (lambda: private_gradient(torch.ones(1, 2), 1.0, -1.0, 1, dice()), "noise must be at least 0, got -1.0"),
    (lambda: private_gradient(torch.ones(1, 2), 1.0, 1.0, 0, dice()), "expected must be positive and finite, got 0"),
    (lambda: renyi(0.0, 1.0, 2), r"sample_rate must lie in \(0, 1\], got 0.0"),
    (lambda: renyi(0.5, 0.0, 2), "noise must be positive and finite, got 0.0"),
    (lambda: renyi(0.5, 1.0, 1), "order must be above 1, got 1"),
    (lambda: epsilon(0.5, 1.0, 0, 1e-4), "steps must be at least 1, got 0"),
    (lambda: epsilon(0.5, 1.0, 1, 1.0), "delta must lie between 0 and 1, got 1.0"),
    (lambda: epsilon(0.5, 1.0, 1, 1e-4, orders=()), "orders must be at least one, got none"),
    (lambda: noise_for(-1.0, 0.5, 1, 1e-4), "target must be positive and finite, got -1.0"),
    (lambda: noise_for(1e-9, 1.0, 100, 1e-9), "target must be within reach of the orders, got 1e-09"),
    (lambda: most_bets_won(-1.0, 0.0), "epsilon must be at least 0, got -1.0"),
    (lambda: most_bets_won(1.0, 2.0), r"delta must lie in \[0, 1\], got 2.0"),
    (lambda: train_privately(model(), torch.zeros(2, 6), torch.zeros(2).long(), steps=1, sample_rate=2.0, clip_norm=1.0,
                             noise=1.0, rate=1.0, generator=dice()), r"sample_rate must lie in \(0, 1\], got 2.0"),
    (lambda: train_privately(model(), torch.zeros(2, 6), torch.zeros(2).long(), steps=1, sample_rate=1.0, clip_norm=1.0,
                             noise=1.0, rate=-1.0, generator=dice()), "rate must be positive and finite, got -1.0"),
])
def test_refuses(call, message):
    with pytest.raises(ValueError, match="^" + message):
        call()
