"""Llama: GPT with RMS norms, rotary positions, a gated feed-forward network and shared keys (Touvron et al. 2023)."""

from dataclasses import dataclass

from torch import Tensor, nn

from tutorlib.layers import GatedFeedForward, KeyValueCache, MultiHeadAttention, RMSNorm, RotaryPosition
from tutorlib.layers.arguments import check_tokens
from tutorlib.layers.position import check_length


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


class LlamaLayer(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x)): no biases, no learned positions."""

    def __init__(self, config: LlamaConfig, rotary: RotaryPosition):
        super().__init__()
        self.attention = MultiHeadAttention(config.width, config.num_heads, num_key_value_heads=config.num_key_value_heads,
                                            bias=False, rotary=rotary)
        self.feed_forward = GatedFeedForward(config.width, config.hidden, activation=config.activation)
        self.attention_norm, self.feed_forward_norm = RMSNorm(config.width, config.eps), RMSNorm(config.width, config.eps)

    def forward(self, states: Tensor, cache: KeyValueCache | None = None) -> Tensor:
        """states (B, T, D) -> (B, T, D); with a cache, `states` are the new positions only."""
        states = states + self.attention(self.attention_norm(states), causal=True, cache=cache)
        return states + self.feed_forward(self.feed_forward_norm(states))


class Llama(nn.Module):
    """logits = norm(layers(embed(tokens))) W; where a token stands, the layers learn from the turned queries and keys."""

    def __init__(self, config: LlamaConfig):
        super().__init__()
        self.config, self.max_length = config, config.max_length
        self.embedding = nn.Embedding(config.vocabulary, config.width)
        rotary = RotaryPosition(config.width // config.num_heads, config.rope_base)  # one for all layers: the angles are theirs
        self.layers = nn.ModuleList(LlamaLayer(config, rotary) for _ in range(config.num_layers))
        self.norm = RMSNorm(config.width, config.eps)
        self.output = nn.Linear(config.width, config.vocabulary, bias=False)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
        if config.tie_output:
            self.output.weight = self.embedding.weight

    def forward(self, tokens: Tensor, cache: list[KeyValueCache] | None = None) -> Tensor:
        """tokens (B, T) integers -> logits (B, T, V): those at position t predict token t + 1 from tokens up to t.

        With a cache, `tokens` are the new ones only. Raises ValueError for tokens outside the vocabulary and sequences over
        `max_length`.
        """
        check_tokens("tokens", tokens, self.config.vocabulary)
        seen = cache[0].length if cache else 0
        check_length(seen + tokens.size(1), self.max_length)
        states = self.embedding(tokens)  # (B, T, D)
        for layer, layer_cache in zip(self.layers, cache or [None] * len(self.layers), strict=True):
            states = layer(states, layer_cache)  # (B, T, D)
        return self.output(self.norm(states))  # (B, T, V)

    def new_cache(self, capacity: int) -> list[KeyValueCache]:
        """One empty cache a layer, with room for `capacity` tokens."""
        return [KeyValueCache(capacity) for _ in self.layers]
