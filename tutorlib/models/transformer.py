"""The encoder-decoder Transformer of Vaswani et al. 2017: from source tokens and target tokens to logits."""

import math
from dataclasses import dataclass

from torch import Tensor, nn

from tutorlib.layers import (
    Decoder,
    DecoderCache,
    Encoder,
    EncoderDecoder,
    LayerNorm,
    LearnedPosition,
    SinusoidalPosition,
    decoder_layer,
    encoder_layer,
)
from tutorlib.layers.arguments import check_caches, check_config, check_tokens


@dataclass(frozen=True)
class TransformerConfig:
    """Sizes and choices. The defaults are the paper's base model (table 3), whose vocabulary was 37,000."""

    source_vocabulary: int
    target_vocabulary: int
    width: int = 512  # D: every state vector
    num_heads: int = 8  # H: width / num_heads = 64 coordinates a head
    num_encoder_layers: int = 6
    num_decoder_layers: int = 6
    hidden: int = 2048  # F: four times the width
    max_length: int = 512  # positions a sequence may have
    dropout: float = 0.1
    activation: str = "relu"  # or "gelu"
    norm_first: bool = False  # post-norm, as in the paper; True trains without a warm-up
    position: str = "sinusoidal"  # or "learned", or "none" to see what is lost
    tie_output: bool = True  # the output matrix is the target embedding (section 3.4; Press & Wolf 2017)

    def __post_init__(self) -> None:
        check_config(self)


class Transformer(nn.Module):
    """logits = (decoder(embed(target), encoder(embed(source)))) W, with one row of W a target token.

    The source embedding is not shared with the target's, since our vocabularies differ; with `norm_first` each stack ends
    in a norm, without which its output would be an unnormalized sum.
    """

    def __init__(self, config: TransformerConfig):
        super().__init__()
        self.config = config
        self.source_embedding = nn.Embedding(config.source_vocabulary, config.width)
        self.target_embedding = nn.Embedding(config.target_vocabulary, config.width)
        self.source_position, self.target_position = _position(config), _position(config)
        self.dropout = nn.Dropout(config.dropout)
        sizes = (config.width, config.num_heads, config.hidden)
        options = dict(dropout=config.dropout, activation=config.activation, norm_first=config.norm_first)
        self.layers = EncoderDecoder(
            Encoder([encoder_layer(*sizes, **options) for _ in range(config.num_encoder_layers)],
                    LayerNorm(config.width) if config.norm_first else None),
            Decoder([decoder_layer(*sizes, **options) for _ in range(config.num_decoder_layers)],
                    LayerNorm(config.width) if config.norm_first else None))
        self.output = nn.Linear(config.width, config.target_vocabulary, bias=False)
        self._initialize()

    def _initialize(self) -> None:
        """Xavier for matrices; embeddings of variance 1/D, so that √D times an embedding has variance 1."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=self.config.width**-0.5)
        if self.config.tie_output:
            self.output.weight = self.target_embedding.weight

    def forward(self, source: Tensor, target: Tensor, source_mask: Tensor | None = None) -> Tensor:
        """source (B, S), target (B, T) integer tokens, source_mask (B, S) boolean, True = a real token -> logits (B, T, V).

        Position t of the logits predicts the token behind target t, from targets up to t and the whole source. Raises
        ValueError for tokens outside the vocabulary and sequences over max_length.
        """
        return self.decode(target, self.encode(source, source_mask), source_mask)

    def encode(self, source: Tensor, source_mask: Tensor | None = None) -> Tensor:
        """source (B, S) -> memory (B, S, D)."""
        states = self._embed("source", source, self.source_embedding, self.source_position)  # (B, S, D)
        return self.layers.encoder(states, padding_mask=source_mask)

    def decode(self, target: Tensor, memory: Tensor, source_mask: Tensor | None = None,
               cache: list[DecoderCache] | None = None, *, last_only: bool = False) -> Tensor:
        """target (B, T), memory (B, S, D) -> logits (B, T, V); with a cache, `target` holds the new tokens only.

        With `last_only`, the logits are those of the last position, (B, 1, V).
        """
        check_caches(cache, self.config.num_decoder_layers)
        offset = cache[0].own.length if cache else 0
        states = self._embed("target", target, self.target_embedding, self.target_position, offset)  # (B, T, D)
        states = self.layers.decoder(states, memory, memory_padding_mask=source_mask, cache=cache)  # (B, T, D)
        return self.output(states[:, -1:] if last_only else states)  # (B, T, V)

    def condition(self, source: Tensor, source_mask: Tensor | None = None) -> "ConditionedTransformer":
        """Encode the source once; what comes back maps target tokens to logits, as a decoder-only model does."""
        return ConditionedTransformer(self, self.encode(source, source_mask), source_mask)

    def _embed(self, name: str, tokens: Tensor, embedding: nn.Embedding, position: nn.Module | None,
               offset: int = 0) -> Tensor:
        check_tokens(name, tokens, embedding.num_embeddings)
        if offset + tokens.size(1) > self.config.max_length:
            raise ValueError(f"{name} reaches {offset + tokens.size(1)} tokens, but max_length is {self.config.max_length}")
        states = embedding(tokens) * math.sqrt(self.config.width)  # (B, T, D)
        return self.dropout(states if position is None else position(states, offset))


class ConditionedTransformer:
    """A Transformer that has read its source: `(tokens (B, T)) -> logits (B, T, V)`, so that `generate` can drive it.

    The tokens may have more rows than the source, an equal number for each (the beams of a beam search).
    """

    def __init__(self, model: Transformer, memory: Tensor, source_mask: Tensor | None):
        self.model, self.memory, self.source_mask = model, memory, source_mask
        self.max_length = model.config.max_length

    def __call__(self, tokens: Tensor, cache: list[DecoderCache] | None = None, *, last_only: bool = False) -> Tensor:
        copies, rest = divmod(tokens.size(0), self.memory.size(0))
        if rest:
            raise ValueError(f"tokens must have a multiple of the source's {self.memory.size(0)} rows, got {tokens.size(0)}")
        memory = self.memory.repeat_interleave(copies, dim=0)  # (B, S, D)
        mask = None if self.source_mask is None else self.source_mask.repeat_interleave(copies, dim=0)  # (B, S)
        return self.model.decode(tokens, memory, mask, cache, last_only=last_only)

    def new_cache(self, capacity: int) -> list[DecoderCache]:
        """One empty cache a decoder layer, with room for `capacity` target tokens."""
        return [DecoderCache(capacity) for _ in self.model.layers.decoder.layers]


def _position(config: TransformerConfig) -> nn.Module | None:
    if config.position == "sinusoidal":
        return SinusoidalPosition(config.width, config.max_length)
    if config.position == "learned":
        return LearnedPosition(config.max_length, config.width)
    if config.position == "none":
        return None
    raise ValueError(f"position must be 'sinusoidal', 'learned' or 'none', got {config.position!r}")
