"""BERT: an encoder that reads in both directions, and the heads that put it to work (Devlin et al. 2019)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tutorlib.layers import Encoder, FeedForward, LayerNorm, LearnedPosition, MultiHeadAttention, TransformerLayer
from tutorlib.layers.activations import activation_named
from tutorlib.layers.arguments import bounds, check_config, check_tokens


@dataclass(frozen=True)
class BERTConfig:
    """Sizes and choices. The defaults are BERT-base's, of 110 million parameters."""

    vocabulary: int = 30522  # V: WordPiece
    max_length: int = 512  # positions a sequence may have
    width: int = 768  # D: every state vector
    num_heads: int = 12  # H: width / num_heads = 64 coordinates a head
    num_layers: int = 12
    hidden: int = 3072  # F: four times the width
    token_types: int = 2  # first and second sentence of a pair
    dropout: float = 0.1
    activation: str = "gelu"
    eps: float = 1e-12
    tie_output: bool = True  # the output matrix of the masked language model is the embedding

    def __post_init__(self) -> None:
        check_config(self)


class BERT(nn.Module):
    """states = encoder(norm(token + position + type)): every position sees every real token.

    Each layer is, post-norm::

        x = norm(x + attention(x))
        x = norm(x + feed_forward(x))
    """

    def __init__(self, config: BERTConfig):
        super().__init__()
        self.config, self.max_length = config, config.max_length
        self.embedding = nn.Embedding(config.vocabulary, config.width)
        self.position = LearnedPosition(config.max_length, config.width)
        self.token_type = nn.Embedding(config.token_types, config.width)
        self.norm = LayerNorm(config.width, config.eps)
        self.dropout = nn.Dropout(config.dropout)
        self.encoder = Encoder(_layer(config) for _ in range(config.num_layers))
        self.apply(_initialize)

    def forward(self, tokens: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None) -> Tensor:
        """tokens (B, T), attention_mask (B, T) 1 keep 0 pad, token_type_ids (B, T), all integers -> states (B, T, D).

        Without a mask all tokens are real; without types all are of type 0. The states of padding mean nothing. Raises
        ValueError for tokens and types out of range, sequences over `max_length` and a mask of another shape.
        """
        check_tokens("tokens", tokens, self.config.vocabulary)
        token_type_ids = torch.zeros_like(tokens) if token_type_ids is None else token_type_ids
        check_tokens("token_type_ids", token_type_ids, self.config.token_types)
        if token_type_ids.shape != tokens.shape:
            raise ValueError(f"token_type_ids must have the shape {tuple(tokens.shape)} of tokens, "
                             f"got {tuple(token_type_ids.shape)}")
        states = self.position(self.embedding(tokens)) + self.token_type(token_type_ids)  # (B, T, D)
        return self.encoder(self.dropout(self.norm(states)), padding_mask=_real(attention_mask, tokens))

    @staticmethod
    def pool(states: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """The mean of the states (B, T, D) of real tokens -> (B, D): a vector for the sentence (Reimers & Gurevych 2019)."""
        if attention_mask is None:
            return states.mean(dim=1)
        real = _real(attention_mask, states[..., 0]).unsqueeze(-1).to(states.dtype)  # (B, T, 1)
        return (states * real).sum(dim=1) / real.sum(dim=1).clamp(min=1)


def _layer(config: BERTConfig) -> TransformerLayer:
    return TransformerLayer(
        MultiHeadAttention(config.width, config.num_heads, dropout=config.dropout),
        FeedForward(config.width, config.hidden, activation=config.activation),
        LayerNorm(config.width, config.eps), LayerNorm(config.width, config.eps), norm_first=False, dropout=config.dropout)


class BERTForMaskedLM(nn.Module):
    """What stood here? A transform of each state, then one logit for each token of the vocabulary: pretraining's head."""

    def __init__(self, config: BERTConfig):
        super().__init__()
        self.bert = BERT(config)
        self.transform = nn.Linear(config.width, config.width)
        self.activation = activation_named(config.activation)
        self.norm = LayerNorm(config.width, config.eps)
        self.output = nn.Linear(config.width, config.vocabulary)
        for module in (self.transform, self.output):
            _initialize(module)
        if config.tie_output:
            self.output.weight = self.bert.embedding.weight

    def forward(self, tokens: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None) -> Tensor:
        """The arguments of `BERT` -> logits (B, T, V)."""
        states = self.bert(tokens, attention_mask, token_type_ids)  # (B, T, D)
        return self.predict(states)

    def predict(self, states: Tensor) -> Tensor:
        """states (..., D) -> logits (..., V); training needs them at the masked positions only."""
        return self.output(self.norm(self.activation(self.transform(states))))  # (..., V)


class BERTForSequenceClassification(nn.Module):
    """One class a sequence, from the state of its first token, [CLS]: tanh(x W + b), then a linear map."""

    def __init__(self, config: BERTConfig, num_labels: int):
        super().__init__()
        self.bert = BERT(config)
        self.pooler = nn.Linear(config.width, config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(config.width, num_labels)
        for module in (self.pooler, self.output):
            _initialize(module)

    def forward(self, tokens: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None) -> Tensor:
        """The arguments of `BERT` -> logits (B, C)."""
        states = self.bert(tokens, attention_mask, token_type_ids)  # (B, T, D)
        return self.output(self.dropout(self.pooler(states[:, 0]).tanh()))  # (B, C)


class BERTForTokenClassification(nn.Module):
    """One class a token: is it a name, say, and of what kind."""

    def __init__(self, config: BERTConfig, num_labels: int):
        super().__init__()
        self.bert = BERT(config)
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(config.width, num_labels)
        _initialize(self.output)

    def forward(self, tokens: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None) -> Tensor:
        """The arguments of `BERT` -> logits (B, T, C)."""
        return self.output(self.dropout(self.bert(tokens, attention_mask, token_type_ids)))  # (B, T, C)


class BERTForQuestionAnswering(nn.Module):
    """Where an answer begins and ends: two logits a token, to be compared along the sequence."""

    def __init__(self, config: BERTConfig):
        super().__init__()
        self.bert = BERT(config)
        self.output = nn.Linear(config.width, 2)
        _initialize(self.output)

    def forward(self, tokens: Tensor, attention_mask: Tensor | None = None,
                token_type_ids: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The arguments of `BERT` -> start logits (B, T), end logits (B, T)."""
        logits = self.output(self.bert(tokens, attention_mask, token_type_ids))  # (B, T, 2)
        return logits[..., 0], logits[..., 1]  # (B, T) each


def _initialize(module: nn.Module) -> None:
    """Standard deviation 0.02, biases zero (Devlin et al. 2019)."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)


def _real(attention_mask: Tensor | None, tokens: Tensor) -> Tensor | None:
    """The mask of ones and zeros as a padding mask (B, T), True = a real token.

    One that is added to scores, 0 keep and -10000 pad, would act the other way round, so nothing but 0 and 1 is taken.
    """
    if attention_mask is None:
        return None
    if attention_mask.shape != tokens.shape or attention_mask.is_floating_point():
        raise ValueError(f"attention_mask must hold integers, 1 keep and 0 pad, of shape {tuple(tokens.shape)}, got "
                         f"{attention_mask.dtype} {tuple(attention_mask.shape)}")
    found = bounds(attention_mask)
    if found is not None and not 0 <= found[0] <= found[1] <= 1:
        raise ValueError(f"attention_mask must hold 1, keep, and 0, pad, got values from {found[0]} to {found[1]}")
    return attention_mask == 1
