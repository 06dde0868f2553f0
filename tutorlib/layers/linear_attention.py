"""Attention that keeps a state of fixed size: linear attention, with a decay or with the delta rule.

The state S (K, V) holds values under keys, and a query q reads q S; queries, keys and values are rows. What differs is how a
pair (k, v) is written. Each rule has a loop over the tokens, which is its definition, and a form in blocks, which runs::

    linear attention    S_t = S_{t-1} + k_t^T v_t                                (Katharopoulos et al. 2020)
    with decay          S_t = a_t S_{t-1} + k_t^T v_t                            (Dao & Gu 2024; `state_space`)
    delta rule          S_t = S_{t-1} + b_t k_t^T (v_t - k_t S_{t-1})            (Schlag et al. 2021; Yang et al. 2024)
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tutorlib.arguments import check_counts
from tutorlib.layers.cache import RecurrentCache
from tutorlib.layers.normalization import RMSNorm

# -- the loops: one token after the other --------------------------------------------------------------------------------


def linear_attention_by_steps(query: Tensor, key: Tensor, value: Tensor, log_decay: Tensor | None = None,
                              state: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """S_t = a_t S_{t-1} + k_t^T v_t, o_t = q_t S_t: shapes and errors of `linear_attention`."""
    state, log_decay = _checked(query, key, value, log_decay, state)
    outputs = []
    for t in range(query.size(-2)):
        written = key[..., t, :, None] * value[..., t, None, :]  # (B, H, K, V)
        state = log_decay[..., t, None, None].exp() * state + written
        outputs.append((query[..., t, :, None] * state).sum(-2))  # (B, H, V)
    return torch.stack(outputs, dim=-2), state


def delta_rule_by_steps(query: Tensor, key: Tensor, value: Tensor, beta: Tensor,
                        state: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """S_t = S_{t-1} + b_t k_t^T (v_t - k_t S_{t-1}), o_t = q_t S_t: shapes and errors of `delta_rule`."""
    state, _ = _checked(query, key, value, beta, state, "beta")
    outputs = []
    for t in range(query.size(-2)):
        found = (key[..., t, :, None] * state).sum(-2)  # (B, H, V): what stands under this key
        change = beta[..., t, None] * (value[..., t, :] - found)  # (B, H, V)
        state = state + key[..., t, :, None] * change[..., None, :]  # (B, H, K, V)
        outputs.append((query[..., t, :, None] * state).sum(-2))  # (B, H, V)
    return torch.stack(outputs, dim=-2), state


# -- the same in blocks: matrix products within a block, one state between two ------------------------------------------


def linear_attention(query: Tensor, key: Tensor, value: Tensor, log_decay: Tensor | None = None,
                     state: Tensor | None = None, *, block: int = 64) -> tuple[Tensor, Tensor]:
    """Causal attention without softmax, o_t = sum over s <= t of (a_{s+1} ... a_t) (q_t . k_s) v_s, and the last state.

    query and key (B, H, T, K), value (B, H, T, V), log_decay (B, H, T) = log a_t, at most 0, or None for a_t = 1; state
    (B, H, K, V) is what earlier tokens left. Heads may be broadcast. Returns (B, H, T, V) and (B, H, K, V).
    Within a block it is a masked product, (L * Q K^T) V; T tokens cost T (block K + block V + 2 K V) multiply-adds a head.
    Raises ValueError for shapes that do not fit together and a block below 1.
    """
    check_counts(block=block)
    state, log_decay = _checked(query, key, value, log_decay, state)
    outputs = []
    for q, k, v, log_a in zip(*(x.split(block, -2) for x in (query, key, value)), log_decay.split(block, -1), strict=True):
        output, state = _block(q, k, v, log_a.cumsum(-1), state)
        outputs.append(output)
    return torch.cat(outputs, dim=-2), state


def _block(query: Tensor, key: Tensor, value: Tensor, log_since: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """One block of C tokens; log_since (B, H, C) is the logarithm of a_1 ... a_t, the decay since the block began."""
    between = log_since[..., :, None] - log_since[..., None, :]  # (B, H, C, C): log of a_{s+1} ... a_t
    later = torch.ones_like(between, dtype=torch.bool).triu(1)
    decay = between.masked_fill(later, float("-inf")).exp()  # (B, H, C, C): L, zero where s > t
    own = (decay * (query @ key.mT)) @ value  # (B, H, C, V): what this block wrote
    earlier = log_since.exp()[..., None] * (query @ state)  # (B, H, C, V): what was there
    to_end = (log_since[..., -1:] - log_since).exp()[..., None]  # (B, H, C, 1)
    state = log_since[..., -1, None, None].exp() * state + (to_end * key).mT @ value  # (B, H, K, V)
    return own + earlier, state


def delta_rule(query: Tensor, key: Tensor, value: Tensor, beta: Tensor, state: Tensor | None = None, *,
               block: int = 64) -> tuple[Tensor, Tensor]:
    """Linear attention that writes corrections: what is stored under a key is replaced by the share beta, not added to.

    Shapes as in `linear_attention`; beta (B, H, T) in [0, 2] where keys have length 1: at 1 the new value takes the old one's
    place, at 2 the old one turns its sign. Within a block the corrections U solve a triangular system (Yang et al. 2024),
    (I + diag(beta) strict_tril(K K^T)) U = diag(beta) (V - K S), and linear attention then writes U in place of V.
    """
    check_counts(block=block)
    state, beta = _checked(query, key, value, beta, state, "beta")
    outputs = []
    for q, k, v, b in zip(*(x.split(block, -2) for x in (query, key, value)), beta[..., None].split(block, -2), strict=True):
        system = torch.eye(k.size(-2), dtype=k.dtype, device=k.device) + (b * (k @ k.mT)).tril(-1)  # (B, H, C, C)
        changes = _solve(system, b * (v - k @ state))  # (B, H, C, V): U
        outputs.append(q @ state + (q @ k.mT).tril() @ changes)  # (B, H, C, V)
        state = state + k.mT @ changes  # (B, H, K, V)
    return torch.cat(outputs, dim=-2), state


def _solve(system: Tensor, right: Tensor) -> Tensor:
    """X of system X = right, for a lower triangular system with ones on its diagonal; below float32 in float32."""
    wide = torch.promote_types(right.dtype, torch.float32)
    with torch.autocast(right.device.type, enabled=False):
        solved = torch.linalg.solve_triangular(system.to(wide), right.to(wide), upper=False, unitriangular=True)
    return solved.to(right.dtype)


# -- the layers --------------------------------------------------------------------------------------------------------


class CausalConvolution(nn.Module):
    """y_t = w_0 x_{t-R+1} + ... + w_{R-1} x_t + b, each channel by itself: a look at the R - 1 tokens before."""

    def __init__(self, channels: int, reach: int = 4):
        super().__init__()
        check_counts(channels=channels, reach=reach)
        self.weight = nn.Parameter(torch.empty(channels, reach).uniform_(-1, 1) / reach**0.5)
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, states: Tensor, tail: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(B, T, C) -> (B, T, C), and the last R - 1 inputs; `tail` (B, R - 1, C) are those of the call before."""
        reach, length = self.weight.size(1), states.size(1)
        before = states.new_zeros(len(states), reach - 1, states.size(2)) if tail is None else tail
        seen = torch.cat([before, states], dim=1)  # (B, R - 1 + T, C)
        output = sum(seen[:, place:place + length] * self.weight[:, place] for place in range(reach))  # (B, T, C)
        return output + self.bias, seen[:, length:]


class LinearAttention(nn.Module):
    """Multi-head linear attention in the place of `MultiHeadAttention`: it adds k^T v to a state for each token.

    As in later work (Sun et al. 2023; Yang et al. 2024), the normalizer of Katharopoulos et al. has given way to keys and
    queries of length 1 and a norm of each head's output, and a short convolution shows each token those before it.
    """

    def __init__(self, width: int, num_heads: int, *, reach: int = 4):
        super().__init__()
        check_counts(width=width, num_heads=num_heads)
        if width % num_heads:
            raise ValueError(f"width must be a positive multiple of num_heads, got width={width}, num_heads={num_heads}")
        self.width, self.head_width = width, width // num_heads
        self.convolution = CausalConvolution(width, reach)
        self.query, self.key, self.value, self.output = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.norm = RMSNorm(self.head_width)

    def forward(self, states: Tensor, mask: Tensor | None = None, *, causal: bool = True, padding_mask: Tensor | None = None,
                cache: RecurrentCache | None = None, rotation: None = None) -> Tensor:
        """states (B, T, D) -> (B, T, D), each position from those up to it. With a cache, `states` are the new ones only.

        Raises ValueError for a mask, a rotation or `causal=False`: a state cannot be asked to forget one pair.
        """
        check_recurrent("states", states, self.width, mask=mask, padding_mask=padding_mask, rotation=rotation, causal=causal)
        before = cache or RecurrentCache()
        mixed, tail = self.convolution(states, before.tail)  # (B, T, D), (B, R - 1, D)
        mixed = F.silu(mixed)
        query, key, value = (part(mixed).unflatten(-1, (-1, self.head_width)).transpose(1, 2)  # (B, H, T, K)
                             for part in (self.query, self.key, self.value))
        heads, state = self.mix(F.normalize(query, dim=-1), F.normalize(key, dim=-1), value, mixed, before.state)
        before.keep(state, tail, states.size(1))
        return self.output(self.norm(heads).transpose(1, 2).flatten(2))  # (B, T, D)

    def mix(self, query: Tensor, key: Tensor, value: Tensor, mixed: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        """The rule by which the state is written. (B, H, T, K) each, mixed (B, T, D) -> (B, H, T, K), (B, H, K, K)."""
        return linear_attention(query, key, value, state=state)


class DeltaAttention(LinearAttention):
    """`LinearAttention` that replaces what stands under a key by the share beta = largest * sigmoid(w x), a number a head.

    With `largest=1` (Yang et al. 2024) a state can be kept or erased; with `largest=2` (Grazzi et al. 2025) also turned over.
    """

    def __init__(self, width: int, num_heads: int, *, largest: float = 1.0, reach: int = 4):
        super().__init__(width, num_heads, reach=reach)
        if not 0 < largest <= 2:
            raise ValueError(f"largest must lie in (0, 2], beyond which the state can grow without bound, got {largest}")
        self.largest, self.beta = largest, nn.Linear(width, num_heads)

    def mix(self, query: Tensor, key: Tensor, value: Tensor, mixed: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        """As in `LinearAttention`, by the delta rule."""
        beta = self.largest * self.beta(mixed).sigmoid().transpose(1, 2)  # (B, H, T)
        return delta_rule(query, key, value, beta, state)


# -- refusals ----------------------------------------------------------------------------------------------------------


def check_recurrent(name: str, states: Tensor, width: int, *, causal: bool, **unset: Tensor | None) -> None:
    """Raise ValueError for a wrong shape, and for what attention can do and a state cannot."""
    if states.dim() != 3 or states.size(-1) != width or not states.size(1):
        raise ValueError(f"{name} must have the shape (B, T, {width}), T at least 1, got {tuple(states.shape)}")
    if not causal:
        raise ValueError("causal must be True: a state is written from left to right, got False")
    for argument, value in unset.items():
        if value is not None:
            raise ValueError(f"{argument} must be None: a state keeps a sum, from which no pair can be taken out, "
                             f"got {type(value).__name__}")


def _checked(query: Tensor, key: Tensor, value: Tensor, rate: Tensor | None, state: Tensor | None,
             name: str = "log_decay") -> tuple[Tensor, Tensor]:
    """The state, zero at first, and the rate of each token, log 1 = 0 where none is given."""
    lengths = {x.size(-2) for x in (query, key, value)}
    if any(x.dim() != 4 for x in (query, key, value)) or len(lengths) != 1 or query.size(-1) != key.size(-1) or 0 in lengths:
        raise ValueError("query, key (B, H, T, K) and value (B, H, T, V) must share batch, length of at least 1 and width, "
                         f"got {tuple(query.shape)}, {tuple(key.shape)}, {tuple(value.shape)}")
    leading = torch.broadcast_shapes(query.shape[:2], key.shape[:2], value.shape[:2])  # (B, H)
    rate = value.new_zeros(*leading, query.size(-2)) if rate is None else rate
    if rate.shape != (*leading, query.size(-2)):
        raise ValueError(f"{name} must have the shape {(*leading, query.size(-2))}, got {tuple(rate.shape)}")
    expected = (*leading, key.size(-1), value.size(-1))
    if state is None:
        return value.new_zeros(expected), rate
    if state.shape != expected:
        raise ValueError(f"state must have the shape {expected}, got {tuple(state.shape)}")
    return state, rate
