"""Linear probes: what can be read from states, which is not what the model reads (Alain and Bengio 2017)."""

import torch.nn.functional as F
from torch import Tensor

from tutorlib.arguments import check_counts
from tutorlib.minimum import minimize


class LinearProbe:
    """Multinomial logistic regression on standardized states, with a penalty on the weights; trained to the minimum.

    states (N, D), labels (N,) from 0 to C - 1. Minimized is mean cross-entropy + penalty / 2 · ‖W‖², biases free; the states
    are centered and divided by their standard deviations first. Raises ValueError for shapes that do not fit, no classes, a
    penalty that is not positive (without one, classes that a plane separates have no minimum).
    """

    def __init__(self, states: Tensor, labels: Tensor, num_classes: int, penalty: float = 1e-3):
        check_counts(num_classes=num_classes)
        if states.dim() != 2 or labels.shape != states.shape[:1]:
            raise ValueError(f"states must be (N, D) and labels (N,), got {tuple(states.shape)} and {tuple(labels.shape)}")
        if penalty <= 0:
            raise ValueError(f"penalty must be positive, got {penalty}")
        states = states.detach().double()
        self.mean, self.scale = states.mean(0), states.std(0).clamp_min(1e-8)  # (D,)
        inputs = (states - self.mean) / self.scale
        self.weight = inputs.new_zeros(num_classes, states.size(1), requires_grad=True)  # (C, D)
        self.bias = inputs.new_zeros(num_classes, requires_grad=True)  # (C,)

        def loss() -> Tensor:
            return F.cross_entropy(inputs @ self.weight.T + self.bias, labels) + penalty / 2 * self.weight.square().sum()

        minimize(loss, [self.weight, self.bias])
        self.weight, self.bias = self.weight.detach(), self.bias.detach()

    def __call__(self, states: Tensor) -> Tensor:
        """(N, D) -> logits (N, C), in float64."""
        return (states.double() - self.mean) / self.scale @ self.weight.T + self.bias

    def accuracy(self, states: Tensor, labels: Tensor) -> float:
        """The share of the states (N, D) whose label (N,) is named."""
        return (self(states).argmax(-1) == labels).double().mean().item()
