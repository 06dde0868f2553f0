"""A convex loss comes to its minimum, whatever mode is on, and not beyond the iterations allowed."""

import torch
from torch.testing import assert_close

from tutorlib.minimum import minimize


def test_least_squares_are_found_also_where_no_gradients_are_recorded():
    torch.manual_seed(0)
    inputs, targets = torch.randn(30, 4, dtype=torch.float64), torch.randn(30, dtype=torch.float64)
    weights = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    with torch.no_grad():
        minimize(lambda: (inputs @ weights - targets).square().mean(), [weights])
    assert_close(weights.detach(), torch.linalg.lstsq(inputs, targets[:, None]).solution[:, 0], rtol=0, atol=1e-4)


def test_iterations_are_a_limit():
    weight = torch.zeros(3, requires_grad=True)
    scale = torch.tensor([1.0, 10.0, 100.0])

    def loss() -> torch.Tensor:
        return (scale * (weight - 1).square()).sum()

    minimize(loss, [weight], iterations=1)
    assert loss() > 1e-3
    minimize(loss, [weight])
    assert loss() < 1e-9
