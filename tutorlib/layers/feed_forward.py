"""The feed-forward networks: what happens to each position by itself."""

from torch import Tensor, nn

from tutorlib.arguments import check_counts
from tutorlib.layers.activations import activation_named


class FeedForward(nn.Module):
    """FFN(x) = activation(x W_1 + b_1) W_2 + b_2, the same at every position (Vaswani et al. 2017, equation 2)."""

    def __init__(self, width: int, hidden: int, *, activation: str = "relu", bias: bool = True, dropout: float = 0.0):
        super().__init__()
        check_counts(width=width, hidden=hidden)
        self.activation = activation_named(activation)
        self.expand = nn.Linear(width, hidden, bias=bias)
        self.contract = nn.Linear(hidden, width, bias=bias)
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        hidden = self.dropout(self.activation(self.expand(states)))  # (B, T, F)
        return self.contract(hidden)  # (B, T, D)


class GatedFeedForward(nn.Module):
    """FFN(x) = (activation(x W_1) * (x W_2)) W_3: one half opens and closes the other (Shazeer 2020, SwiGLU with silu)."""

    def __init__(self, width: int, hidden: int, *, activation: str = "silu"):
        super().__init__()
        check_counts(width=width, hidden=hidden)
        self.activation = activation_named(activation)
        self.gate = nn.Linear(width, hidden, bias=False)
        self.expand = nn.Linear(width, hidden, bias=False)
        self.contract = nn.Linear(hidden, width, bias=False)

    def forward(self, states: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        hidden = self.activation(self.gate(states)) * self.expand(states)  # (B, T, F)
        return self.contract(hidden)  # (B, T, D)
