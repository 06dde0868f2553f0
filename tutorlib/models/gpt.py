"""GPT: a stack of causal layers that predicts the next token (Radford et al. 2018, 2019; Brown et al. 2020)."""

from dataclasses import dataclass

from torch import Tensor, nn

from tutorlib.layers import FeedForward, KeyValueCache, LayerNorm, LearnedPosition, MultiHeadAttention, TransformerLayer
from tutorlib.layers.arguments import check_caches, check_config, check_tokens
from tutorlib.layers.masks import row_places


@dataclass(frozen=True)
class GPTConfig:
    """Sizes and choices. The defaults are GPT-2's smallest model, of 124 million parameters."""

    vocabulary: int = 50257  # V: byte-level BPE
    max_length: int = 1024  # positions a sequence may have
    width: int = 768  # D: every state vector
    num_heads: int = 12  # H: width / num_heads = 64 coordinates a head
    num_layers: int = 12
    hidden: int | None = None  # F: four times the width where nothing is said
    dropout: float = 0.0
    activation: str = "gelu_tanh"  # the approximation that GPT-2 was trained with
    bias: bool = True  # in linear maps and norms
    eps: float = 1e-5
    tie_output: bool = True  # the output matrix is the embedding

    def __post_init__(self) -> None:
        check_config(self)


class GPT(nn.Module):
    """logits = norm(layers(embed(tokens) + position)) W.

    Each layer is, pre-norm and with a causal mask::

        x = x + attention(norm(x))
        x = x + feed_forward(norm(x))
    """

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.config, self.max_length = config, config.max_length
        self.embedding = nn.Embedding(config.vocabulary, config.width)
        self.position = LearnedPosition(config.max_length, config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(_layer(config) for _ in range(config.num_layers))
        self.norm = LayerNorm(config.width, config.eps, config.bias)
        self.output = nn.Linear(config.width, config.vocabulary, bias=False)
        self._initialize()

    def _initialize(self) -> None:
        """Standard deviation 0.02; less for what is added to the residual stream, 2 sublayers a layer (GPT-2, section 2.3)."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
        for layer in self.layers:
            for last in (layer.attention.output, layer.feed_forward.contract):
                nn.init.normal_(last.weight, std=0.02 / (2 * len(self.layers)) ** 0.5)
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
        if self.config.tie_output:
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
        places = row_places(padding_mask, *tokens.shape, seen + tokens.size(1))  # (B, T)
        states = self.dropout(self.position(self.embedding(tokens), seen, places))  # (B, T, D)
        for layer, layer_cache in zip(self.layers, cache or [None] * len(self.layers), strict=True):
            states = layer(states, causal=True, padding_mask=padding_mask, cache=layer_cache)  # (B, T, D)
        states = states[:, -1:] if last_only else states  # the output layer is the dearest, and a prompt needs one row of it
        return self.output(self.norm(states))  # (B, T, V)

    def new_cache(self, capacity: int) -> list[KeyValueCache]:
        """One empty cache a layer, with room for `capacity` tokens."""
        return [KeyValueCache(capacity) for _ in self.layers]


def _layer(config: GPTConfig) -> TransformerLayer:
    hidden = 4 * config.width if config.hidden is None else config.hidden
    return TransformerLayer(
        MultiHeadAttention(config.width, config.num_heads, bias=config.bias, dropout=config.dropout),
        FeedForward(config.width, hidden, activation=config.activation, bias=config.bias),
        LayerNorm(config.width, config.eps, config.bias), LayerNorm(config.width, config.eps, config.bias),
        norm_first=True, dropout=config.dropout)
