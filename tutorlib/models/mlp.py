"""The multilayer perceptron: linear layers with a nonlinear function between them (Goodfellow et al. 2016, chapter 6)."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from tutorlib.layers.activations import activation_named


class MLP(nn.Module):
    """x -> linear -> activation -> ... -> linear: `sizes` are the widths from the input to the logits, as in (784, 128, 10)."""

    def __init__(self, sizes: Sequence[int], *, activation: str = "relu", dropout: float = 0.0):
        super().__init__()
        if len(sizes) < 2 or min(sizes) < 1:
            raise ValueError(f"sizes must be at least two positive widths, got {tuple(sizes)}")
        self.activation = activation_named(activation)
        self.layers = nn.ModuleList(nn.Linear(n, m) for n, m in pairwise(sizes))
        self.dropout = nn.Dropout(dropout)

    def forward(self, inputs: Tensor) -> Tensor:
        """Images (B, C, H, W), or vectors (B, n), whose entries are `sizes[0]` in number -> logits (B, sizes[-1])."""
        states = inputs.flatten(1)  # (B, n)
        if states.shape[1] != self.layers[0].in_features:
            raise ValueError(f"inputs must have {self.layers[0].in_features} entries each, got the shape {tuple(inputs.shape)}")
        for layer in self.layers[:-1]:
            states = self.dropout(self.activation(layer(states)))  # (B, m)
        return self.layers[-1](states)  # (B, classes)
