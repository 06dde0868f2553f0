"""Llama: GPT with RMS norms, rotary positions, a gated feed-forward network and shared keys (Touvron et al. 2023)."""

from dataclasses import dataclass

from torch import Tensor, nn

from tutorlib.layers import GatedFeedForward, KeyValueCache, MultiHeadAttention, RMSNorm, RotaryPosition, TransformerLayer
from tutorlib.layers.arguments import check_caches, check_config, check_length, check_tokens
from tutorlib.layers.masks import row_places


@dataclass(frozen=True)
class LlamaConfig:
    """Sizes and choices. The defaults are SmolLM2's smallest model, of 135 million parameters."""

    vocabulary: int = 49152  # V: byte-level BPE
    max_length: int = 8192  # positions that it was trained for
    width: int = 576  # D: every state vector
    num_heads: int = 9  # H: width / num_heads = 64 coordinates a head
    num_key_value_heads: int = 3  # each shared by num_heads / num_key_value_heads query heads
    num_layers: int = 30
    hidden: int = 1536  # F: of each half of the gated network
    rope_base: float = 100_000.0  # the larger, the more slowly the pairs of coordinates turn
    activation: str = "silu"
    eps: float = 1e-5
    tie_output: bool = True  # the output matrix is the embedding

    def __post_init__(self) -> None:
        check_config(self)


class Llama(nn.Module):
    """logits = norm(layers(embed(tokens))) W.

    Each layer is, without biases, pre-norm and with a causal mask::

        x = x + attention(norm(x))        queries and keys turned by their position
        x = x + feed_forward(norm(x))     gated
    """

    def __init__(self, config: LlamaConfig):
        super().__init__()
        self.config, self.max_length = config, config.max_length
        self.embedding = nn.Embedding(config.vocabulary, config.width)
        rotary = RotaryPosition(config.width // config.num_heads, config.rope_base)  # one for all layers: the angles are theirs
        self.layers = nn.ModuleList(_layer(config, rotary) for _ in range(config.num_layers))
        self.norm = RMSNorm(config.width, config.eps)
        self.output = nn.Linear(config.width, config.vocabulary, bias=False)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
        if config.tie_output:
            self.output.weight = self.embedding.weight

    def forward(self, tokens: Tensor, cache: list[KeyValueCache] | None = None, *, last_only: bool = False,
                padding_mask: Tensor | None = None) -> Tensor:
        """tokens (B, T) integers -> logits (B, T, V): those at position t predict token t + 1 from tokens up to t.

        With a cache, `tokens` are the new ones only. With `last_only`, the logits are those of the last position, (B, 1, V).
        padding_mask (B, S) boolean, True = a real token, covers the cached columns too: nobody looks at padding, and each row
        counts its positions from its own first token. Logits at padding mean nothing.
        Raises ValueError for tokens outside the vocabulary and sequences over `max_length`.
        """
        check_tokens("tokens", tokens, self.config.vocabulary)
        check_caches(cache, len(self.layers))
        seen = cache[0].length if cache else 0
        check_length(seen + tokens.size(1), self.max_length)
        states = self.embedding(tokens)  # (B, T, D)
        rotaries = {layer.attention.rotary for layer in self.layers}  # one, unless a layer was given its own
        places = row_places(padding_mask, *tokens.shape, seen + tokens.size(1))  # (B, T)
        rotations = {rotary: rotary.rotation(states, seen, places) for rotary in rotaries}  # (T, K/2) twice, for all layers
        for layer, layer_cache in zip(self.layers, cache or [None] * len(self.layers), strict=True):
            states = layer(states, causal=True, padding_mask=padding_mask, cache=layer_cache,
                           rotation=rotations[layer.attention.rotary])  # (B, T, D)
        states = states[:, -1:] if last_only else states  # as in `GPT`
        return self.output(self.norm(states))  # (B, T, V)

    def new_cache(self, capacity: int) -> list[KeyValueCache]:
        """One empty cache a layer, with room for `capacity` tokens."""
        return [KeyValueCache(capacity) for _ in self.layers]


def _layer(config: LlamaConfig, rotary: RotaryPosition) -> TransformerLayer:
    return TransformerLayer(
        MultiHeadAttention(config.width, config.num_heads, num_key_value_heads=config.num_key_value_heads, bias=False,
                           rotary=rotary),
        GatedFeedForward(config.width, config.hidden, activation=config.activation),
        RMSNorm(config.width, config.eps), RMSNorm(config.width, config.eps), norm_first=True)
