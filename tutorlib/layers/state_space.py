"""A selective state-space layer: linear attention whose state decays by an amount that each token chooses (Mamba-2)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tutorlib.arguments import check_counts
from tutorlib.layers.cache import RecurrentCache
from tutorlib.layers.linear_attention import CausalConvolution, check_recurrent, linear_attention
from tutorlib.layers.normalization import RMSNorm


class StateSpace(nn.Module):
    """h' = A h + B x, y = C h + D x, with a step, B and C that depend on the token (Gu & Dao 2023; Dao & Gu 2024).

    A step of length d turns the first equation into h_t = exp(d A) h_{t-1} + d B x_t. With one negative number A for each head
    this is linear attention with a decay: C is the query, B the key, shared by all heads as in Mamba-2, d x the value. The
    reading is multiplied by a gate and normed. `expand` times the width are inside, in heads of `head_width`; `state` (K) is
    the length of B and C. In the names of Mamba-2: gate z, step dt, skip D.
    """

    def __init__(self, width: int, *, head_width: int = 64, state: int = 64, expand: int = 2, reach: int = 4,
                 eps: float = 1e-5):
        super().__init__()
        check_counts(width=width, head_width=head_width, state=state, expand=expand)
        if expand * width % head_width:
            raise ValueError(f"expand * width must be a multiple of head_width, got {expand} * {width} and {head_width}")
        self.width, self.inner, self.state, self.head_width = width, expand * width, state, head_width
        num_heads = self.inner // head_width
        self.gate = nn.Linear(width, self.inner, bias=False)
        self.inputs = nn.Linear(width, self.inner + 2 * state, bias=False)  # x, B and C
        self.step = nn.Linear(width, num_heads)
        self.convolution = CausalConvolution(self.inner + 2 * state, reach)
        self.log_rate = nn.Parameter(torch.arange(1.0, num_heads + 1).log())  # A = -exp(log_rate)
        self.skip = nn.Parameter(torch.ones(num_heads))
        self.norm = RMSNorm(self.inner, eps)
        self.output = nn.Linear(self.inner, width, bias=False)
        first = torch.empty(num_heads).uniform_(math.log(0.001), math.log(0.1)).exp()  # steps at the start, as in Mamba
        with torch.no_grad():
            self.step.bias.copy_(first + (-torch.expm1(-first)).log())  # softplus of this is `first`

    def forward(self, states: Tensor, mask: Tensor | None = None, *, causal: bool = True, padding_mask: Tensor | None = None,
                cache: RecurrentCache | None = None, rotation: None = None) -> Tensor:
        """states (B, T, D) -> (B, T, D), each position from those up to it. With a cache, `states` are the new ones only.

        Raises ValueError for a mask, a rotation or `causal=False`.
        """
        check_recurrent("states", states, self.width, mask=mask, padding_mask=padding_mask, rotation=rotation, causal=causal)
        before = cache or RecurrentCache()
        mixed, tail = self.convolution(self.inputs(states), before.tail)  # (B, T, I + 2 K)
        x, key, query = F.silu(mixed).split([self.inner, self.state, self.state], dim=-1)
        x = x.unflatten(-1, (-1, self.head_width)).transpose(1, 2)  # (B, H, T, V)
        step = F.softplus(self.step(states)).transpose(1, 2)  # (B, H, T)
        heads, state = self.mix(query[:, None], key[:, None], x, step, before.state)  # (B, H, T, V), (B, H, K, V)
        before.keep(state, tail, states.size(1))
        heads = (heads + self.skip[:, None, None] * x).transpose(1, 2).flatten(2)  # (B, T, I)
        return self.output(self.norm(heads * F.silu(self.gate(states))))  # (B, T, D)

    def mix(self, query: Tensor, key: Tensor, x: Tensor, step: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        """query, key (B, 1, T, K), x (B, H, T, V), step (B, H, T) -> the reading (B, H, T, V) and the state."""
        log_decay = -step * self.log_rate.exp()[:, None]  # (B, H, T)
        return linear_attention(query, key, step[..., None] * x, log_decay, state)
