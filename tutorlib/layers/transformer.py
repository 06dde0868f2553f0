"""The Transformer's layers and their stacks (Vaswani et al. 2017, section 3). A layer is made of parts, which a model chooses.

Post-norm, as in the paper, is `norm(x + sublayer(x))`; pre-norm, `x + sublayer(norm(x))`, trains without a warm-up
(Xiong et al. 2020). `norm_first` chooses.
"""

from collections.abc import Iterable

from torch import Tensor, nn

from tutorlib.layers.attention import MultiHeadAttention
from tutorlib.layers.cache import DecoderCache, KeyValueCache
from tutorlib.layers.feed_forward import FeedForward
from tutorlib.layers.normalization import LayerNorm
from tutorlib.layers.position import Rotation


class TransformerLayer(nn.Module):
    """Self-attention, then a feed-forward network, each in a residual connection with a norm.

    Where `norm_first` is true, the left form, else the right::

        x = x + attention(norm(x))        x = norm(x + attention(x))
        x = x + feed_forward(norm(x))     x = norm(x + feed_forward(x))

    Called with `causal=True` it is the layer of a decoder-only model, which has no memory to attend to. `dropout` is what is
    dropped of a sublayer's output; the parts have their own.
    """

    def __init__(self, attention: MultiHeadAttention, feed_forward: nn.Module, attention_norm: nn.Module,
                 feed_forward_norm: nn.Module, *, norm_first: bool, dropout: float = 0.0):
        super().__init__()
        self.attention, self.feed_forward = attention, feed_forward
        self.attention_norm, self.feed_forward_norm = attention_norm, feed_forward_norm
        self.norm_first, self.dropout = norm_first, nn.Dropout(dropout)

    def forward(self, states: Tensor, mask: Tensor | None = None, *, padding_mask: Tensor | None = None,
                causal: bool = False, cache: KeyValueCache | None = None, rotation: Rotation | None = None) -> Tensor:
        """states (B, S, D), mask over pairs (S, S), (B, S, S) or (B, H, S, S), padding_mask (B, S) -> (B, S, D).

        With a cache, `states` are the new positions only, and the masks cover the cached ones too. `rotation` goes to the
        attention.
        """
        def attend(x: Tensor) -> Tensor:
            return self.attention(x, mask=mask, padding_mask=padding_mask, causal=causal, cache=cache, rotation=rotation)

        if self.norm_first:
            states = states + self.dropout(attend(self.attention_norm(states)))
            return states + self.dropout(self.feed_forward(self.feed_forward_norm(states)))
        states = self.attention_norm(states + self.dropout(attend(states)))
        return self.feed_forward_norm(states + self.dropout(self.feed_forward(states)))


class DecoderLayer(nn.Module):
    """Causal self-attention, cross-attention to the encoder's output, feed-forward: three residual sublayers with norms."""

    def __init__(self, attention: MultiHeadAttention, cross_attention: MultiHeadAttention, feed_forward: nn.Module,
                 attention_norm: nn.Module, cross_attention_norm: nn.Module, feed_forward_norm: nn.Module, *,
                 norm_first: bool, dropout: float = 0.0):
        super().__init__()
        self.attention, self.cross_attention, self.feed_forward = attention, cross_attention, feed_forward
        self.attention_norm, self.feed_forward_norm = attention_norm, feed_forward_norm
        self.cross_attention_norm = cross_attention_norm
        self.norm_first, self.dropout = norm_first, nn.Dropout(dropout)

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


def encoder_layer(width: int, num_heads: int, hidden: int, *, dropout: float = 0.0, activation: str = "relu",
                  norm_first: bool = False) -> TransformerLayer:
    """The paper's encoder layer of these sizes: D, H and F. The same dropout everywhere, as in `nn.TransformerEncoderLayer`."""
    return TransformerLayer(MultiHeadAttention(width, num_heads, dropout=dropout),
                            FeedForward(width, hidden, activation=activation, dropout=dropout),
                            LayerNorm(width), LayerNorm(width), norm_first=norm_first, dropout=dropout)


def decoder_layer(width: int, num_heads: int, hidden: int, *, dropout: float = 0.0, activation: str = "relu",
                  norm_first: bool = False) -> DecoderLayer:
    """The paper's decoder layer of these sizes: D, H and F. The same dropout everywhere, as in `nn.TransformerDecoderLayer`."""
    return DecoderLayer(MultiHeadAttention(width, num_heads, dropout=dropout),
                        MultiHeadAttention(width, num_heads, dropout=dropout),
                        FeedForward(width, hidden, activation=activation, dropout=dropout),
                        LayerNorm(width), LayerNorm(width), LayerNorm(width), norm_first=norm_first, dropout=dropout)


class Encoder(nn.Module):
    """A stack of layers, with a norm behind the last one if `final_norm` is given."""

    def __init__(self, layers: Iterable[TransformerLayer], final_norm: LayerNorm | None = None):
        super().__init__()
        self.layers, self.final_norm = nn.ModuleList(layers), final_norm

    def forward(self, states: Tensor, mask: Tensor | None = None, *, padding_mask: Tensor | None = None,
                causal: bool = False) -> Tensor:
        """states (B, S, D), masks as in `TransformerLayer` -> (B, S, D)."""
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
