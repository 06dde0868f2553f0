"""The probe is at the minimum that it names; it reads what is there, and guesses where nothing is."""

import pytest
import torch
import torch.nn.functional as F

from tests.closeness import draw
from tutorlib.interpretation import LinearProbe


def test_the_gradient_is_zero_at_the_minimum():
    states, labels = 3 * draw(200, 5) + 1, torch.arange(200) % 3
    probe = LinearProbe(states, labels, 3, penalty=0.1)
    weight, bias = probe.weight.clone().requires_grad_(), probe.bias.clone().requires_grad_()
    inputs = (states.double() - states.double().mean(0)) / states.double().std(0)
    loss = F.cross_entropy(inputs @ weight.T + bias, labels) + 0.05 * weight.square().sum()
    assert all(slope.abs().max() < 1e-5 for slope in torch.autograd.grad(loss, [weight, bias]))


def test_it_reads_what_is_there():
    labels = torch.arange(400) % 4
    states = torch.eye(4, 6)[labels] + 0.1 * draw(400, 6)
    probe = LinearProbe(states[:200], labels[:200], 4)
    assert probe.accuracy(states[200:], labels[200:]) == 1


def test_it_guesses_where_nothing_is():
    labels = torch.randint(4, (2000,), generator=torch.Generator().manual_seed(0))
    probe = LinearProbe(draw(1000, 6), labels[:1000], 4)
    assert abs(probe.accuracy(draw(1000, 6, seed=1), labels[1000:]) - 0.25) < 0.06


def test_scale_and_shift_of_the_states_do_not_matter():
    states, labels = draw(100, 4), torch.arange(100) % 2
    first, second = LinearProbe(states, labels, 2), LinearProbe(50 * states - 7, labels, 2)
    assert torch.allclose(first(states), second(50 * states - 7), atol=1e-4)


@pytest.mark.parametrize("states, labels, options, message", [
    (torch.ones(3, 2), torch.zeros(4), {}, r"got \(3, 2\) and \(4,\)"),
    (torch.ones(3), torch.zeros(3), {}, r"states must be \(N, D\)"),
    (torch.ones(3, 2), torch.zeros(3), {"penalty": 0.0}, "penalty must be positive, got 0.0"),
])
def test_refused(states, labels, options, message):
    with pytest.raises(ValueError, match=message):
        LinearProbe(states, labels.long(), 2, **options)
