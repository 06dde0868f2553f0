"""The Transformer's blocks: feed-forward network, encoder and decoder layers, their stacks (Vaswani et al. 2017, section 3).

Post-norm, as in the paper, is `norm(x + sublayer(x))`; pre-norm, `x + sublayer(norm(x))`, trains without a warm-up
(Xiong et al. 2020). `norm_first` chooses.
"""

from collections.abc import Iterable
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from tutorlib.layers.attention import KeyValueCache, MultiHeadAttention
from tutorlib.layers.normalization import LayerNorm

ACTIVATIONS = {"relu": F.relu, "gelu": F.gelu, "gelu_tanh": partial(F.gelu, approximate="tanh"), "silu": F.silu}


def _check_activation(activation: str) -> None:
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation must be one of {sorted(ACTIVATIONS)}, got {activation!r}")


class FeedForward(nn.Module):
    """FFN(x) = activation(x W_1 + b_1) W_2 + b_2, the same at every position (Vaswani et al. 2017, equation 2)."""

    def __init__(self, width: int, hidden: int, *, activation: str = "relu", bias: bool = True, dropout: float = 0.0):
        super().__init__()
        _check_activation(activation)
        self.activation = activation
        self.expand = nn.Linear(width, hidden, bias=bias)
        self.contract = nn.Linear(hidden, width, bias=bias)
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        hidden = self.dropout(ACTIVATIONS[self.activation](self.expand(states)))  # (B, T, F)
        return self.contract(hidden)  # (B, T, D)


class GatedFeedForward(nn.Module):
    """FFN(x) = (activation(x W_1) * (x W_2)) W_3: one half opens and closes the other (Shazeer 2020, SwiGLU with silu)."""

    def __init__(self, width: int, hidden: int, *, activation: str = "silu", bias: bool = False):
        super().__init__()
        _check_activation(activation)
        self.activation = activation
        self.gate = nn.Linear(width, hidden, bias=bias)
        self.expand = nn.Linear(width, hidden, bias=bias)
        self.contract = nn.Linear(hidden, width, bias=bias)

    def forward(self, states: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        hidden = ACTIVATIONS[self.activation](self.gate(states)) * self.expand(states)  # (B, T, F)
        return self.contract(hidden)  # (B, T, D)


class EncoderLayer(nn.Module):
    """Self-attention, then the feed-forward network, each in a residual connection with a norm.

    Called with `causal=True` it is the layer of a decoder-only model, which has no memory to attend to. `inner_dropout`
    is the one inside the feed-forward network, as large as the others where nothing is said; BERT and GPT have none there.
    """

    def __init__(self, width: int, num_heads: int, hidden: int, *, dropout: float = 0.0, activation: str = "relu",
                 norm_first: bool = False, bias: bool = True, eps: float = 1e-5, inner_dropout: float | None = None):
        super().__init__()
        self.norm_first = norm_first
        inner_dropout = dropout if inner_dropout is None else inner_dropout
        self.attention = MultiHeadAttention(width, num_heads, bias=bias, dropout=dropout)
        self.feed_forward = FeedForward(width, hidden, activation=activation, bias=bias, dropout=inner_dropout)
        self.attention_norm, self.feed_forward_norm = LayerNorm(width, eps, bias), LayerNorm(width, eps, bias)
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor, mask: Tensor | None = None, *, padding_mask: Tensor | None = None,
                causal: bool = False, cache: KeyValueCache | None = None) -> Tensor:
        """states (B, S, D), mask over pairs (S, S), (B, S, S) or (B, H, S, S), padding_mask (B, S) -> (B, S, D).

        With a cache, `states` are the new positions only, and the masks cover the cached ones too.
        """
        def attend(x: Tensor) -> Tensor:
            return self.attention(x, mask=mask, padding_mask=padding_mask, causal=causal, cache=cache)

        if self.norm_first:
            states = states + self.dropout(attend(self.attention_norm(states)))
            return states + self.dropout(self.feed_forward(self.feed_forward_norm(states)))
        states = self.attention_norm(states + self.dropout(attend(states)))
        return self.feed_forward_norm(states + self.dropout(self.feed_forward(states)))


class DecoderCache:
    """What one decoder layer keeps between tokens: its own keys and values, and the memory's, projected once."""

    def __init__(self, capacity: int):
        self.own = KeyValueCache(capacity)
        self.memory: tuple[Tensor, Tensor] | None = None  # (B, H, S, K) each

    def reorder(self, rows: Tensor) -> None:
        """Let row i continue from what row rows[i] has seen: rows (B,) of indices."""
        self.own.reorder(rows)
        if self.memory is not None:
            self.memory = (self.memory[0][rows], self.memory[1][rows])


class DecoderLayer(nn.Module):
    """Causal self-attention, cross-attention to the encoder's output, feed-forward: three residual sublayers with norms."""

    def __init__(self, width: int, num_heads: int, hidden: int, *, dropout: float = 0.0, activation: str = "relu",
                 norm_first: bool = False, bias: bool = True, eps: float = 1e-5):
        super().__init__()
        self.norm_first = norm_first
        self.attention = MultiHeadAttention(width, num_heads, bias=bias, dropout=dropout)
        self.cross_attention = MultiHeadAttention(width, num_heads, bias=bias, dropout=dropout)
        self.feed_forward = FeedForward(width, hidden, activation=activation, bias=bias, dropout=dropout)
        self.attention_norm, self.feed_forward_norm = LayerNorm(width, eps, bias), LayerNorm(width, eps, bias)
        self.cross_attention_norm = LayerNorm(width, eps, bias)
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor, memory: Tensor, mask: Tensor | None = None, *, padding_mask: Tensor | None = None,
                memory_mask: Tensor | None = None, memory_padding_mask: Tensor | None = None, causal: bool = True,
                cache: DecoderCache | None = None) -> Tensor:
        """states (B, T, D), memory (B, S, D) -> (B, T, D).

        mask (T, T) and padding_mask (B, T) belong to the self-attention, memory_mask (T, S) and memory_padding_mask (B, S)
        to the cross-attention; all may have a batch and heads in front. With a cache, `states` are the new positions only.
        """
        def attend(x: Tensor) -> Tensor:
            return self.attention(x, mask=mask, padding_mask=padding_mask, causal=causal,
                                  cache=None if cache is None else cache.own)

        def attend_memory(x: Tensor) -> Tensor:
            keys, values = self._memory_keys_and_values(memory, cache)  # (B, H, S, K)
            return self.cross_attention.attend(x, keys, values, memory_mask, padding_mask=memory_padding_mask)

        if self.norm_first:
            states = states + self.dropout(attend(self.attention_norm(states)))
            states = states + self.dropout(attend_memory(self.cross_attention_norm(states)))
            return states + self.dropout(self.feed_forward(self.feed_forward_norm(states)))
        states = self.attention_norm(states + self.dropout(attend(states)))
        states = self.cross_attention_norm(states + self.dropout(attend_memory(states)))
        return self.feed_forward_norm(states + self.dropout(self.feed_forward(states)))

    def _memory_keys_and_values(self, memory: Tensor, cache: DecoderCache | None) -> tuple[Tensor, Tensor]:
        if cache is None:
            return self.cross_attention.keys_and_values(memory, memory)
        if cache.memory is None:
            cache.memory = self.cross_attention.keys_and_values(memory, memory)
        return cache.memory


class Encoder(nn.Module):
    """A stack of encoder layers, with a norm behind the last one if `final_norm` is given."""

    def __init__(self, layers: Iterable[EncoderLayer], final_norm: LayerNorm | None = None):
        super().__init__()
        self.layers, self.final_norm = nn.ModuleList(layers), final_norm

    def forward(self, states: Tensor, mask: Tensor | None = None, *, padding_mask: Tensor | None = None,
                causal: bool = False) -> Tensor:
        """states (B, S, D), masks as in `EncoderLayer` -> (B, S, D)."""
        for layer in self.layers:
            states = layer(states, mask, padding_mask=padding_mask, causal=causal)
        return states if self.final_norm is None else self.final_norm(states)


class Decoder(nn.Module):
    """A stack of decoder layers, with a norm behind the last one if `final_norm` is given."""

    def __init__(self, layers: Iterable[DecoderLayer], final_norm: LayerNorm | None = None):
        super().__init__()
        self.layers, self.final_norm = nn.ModuleList(layers), final_norm

    def forward(self, states: Tensor, memory: Tensor, mask: Tensor | None = None, *, padding_mask: Tensor | None = None,
                memory_mask: Tensor | None = None, memory_padding_mask: Tensor | None = None, causal: bool = True,
                cache: list[DecoderCache] | None = None) -> Tensor:
        """states (B, T, D), memory (B, S, D), masks as in `DecoderLayer` -> (B, T, D)."""
        for layer, layer_cache in zip(self.layers, cache or [None] * len(self.layers), strict=True):
            states = layer(states, memory, mask, padding_mask=padding_mask, memory_mask=memory_mask,
                           memory_padding_mask=memory_padding_mask, causal=causal, cache=layer_cache)
        return states if self.final_norm is None else self.final_norm(states)


class EncoderDecoder(nn.Module):
    """Encoder and decoder on embedded states: what `nn.Transformer` is, batch first (Vaswani et al. 2017, figure 1)."""

    def __init__(self, encoder: Encoder, decoder: Decoder):
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def forward(self, source: Tensor, target: Tensor, source_mask: Tensor | None = None, *,
                target_mask: Tensor | None = None) -> Tensor:
        """source (B, S, D), target (B, T, D), padding masks source_mask (B, S), target_mask (B, T) -> (B, T, D).

        The target is causal: position t sees targets up to t, and every real position of the source.
        """
        memory = self.encoder(source, padding_mask=source_mask)  # (B, S, D)
        return self.decoder(target, memory, padding_mask=target_mask, memory_padding_mask=source_mask)  # (B, T, D)
