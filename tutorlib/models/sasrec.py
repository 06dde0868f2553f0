"""SASRec: a small GPT over items, which reads what a user chose and scores what comes next (Kang and McAuley 2018)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tutorlib.layers import FeedForward, LayerNorm, LearnedPosition, MultiHeadAttention, TransformerLayer
from tutorlib.layers.arguments import check_config, check_tokens


@dataclass(frozen=True)
class SASRecConfig:
    """Sizes; the paper's are a width of 50, one head, two layers, dropout .2 to .5, and the last 50 to 200 items."""

    items: int  # I; the number 0 is no item and fills a row on its left
    max_length: int = 50  # T: how many items it looks back
    width: int = 50  # D, and the hidden width of the feed-forward network too
    num_heads: int = 1
    num_layers: int = 2
    dropout: float = 0.2

    def __post_init__(self) -> None:
        check_config(self)


class SASRec(nn.Module):
    """scores = norm(layers(embed(items) + position)) Eᵀ, E the embedding of the items.

    Each layer is GPT's, pre-norm and with a causal mask::

        x = x + attention(norm(x))
        x = x + feed_forward(norm(x))

    As in the paper, rows are filled on the left, so that the last position is always the latest item; the feed-forward network
    is no wider than the states and has a relu; and the item embedding is both input and output.
    """

    def __init__(self, config: SASRecConfig):
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.items + 1, config.width, padding_idx=0)
        self.position = LearnedPosition(config.max_length, config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(_layer(config) for _ in range(config.num_layers))
        self.norm = LayerNorm(config.width)
        nn.init.normal_(self.embedding.weight, std=config.width**-0.5)
        nn.init.zeros_(self.embedding.weight[0])

    def forward(self, items: Tensor) -> Tensor:
        """items (B, T) integers, 0 on the left where a history is short -> scores (B, T, I + 1).

        Those at position t are of the item at t + 1, from the items up to t. Of column 0 nothing is meant, nor of the scores at
        a filled place. Raises ValueError for items above I, and for rows over `max_length`.
        """
        check_tokens("items", items, self.config.items + 1)
        states = self.embedding(items)  # (B, T, D)
        first = self.config.max_length - items.size(1)  # the latest item has always the last position
        if first < 0:
            raise ValueError(f"items must be at most max_length={self.config.max_length} a row, got {items.size(1)}")
        states = self.dropout(self.position(states, first))  # (B, T, D)
        for layer in self.layers:
            states = layer(states, causal=True, padding_mask=items > 0)  # (B, T, D)
        return self.norm(states) @ self.embedding.weight.T  # (B, T, I + 1)

    @torch.no_grad()
    def next_scores(self, histories: Tensor, batch_size: int = 512) -> Tensor:
        """The scores of the next item: histories (B, any T) -> (B, I + 1), in evaluation mode; the last `max_length` count."""
        was_training = self.training
        self.eval()
        try:
            rows = histories[:, -self.config.max_length:].split(batch_size)
            return torch.cat([self(some)[:, -1] for some in rows])
        finally:
            self.train(was_training)


def _layer(config: SASRecConfig) -> TransformerLayer:
    width, dropout = config.width, config.dropout
    return TransformerLayer(
        MultiHeadAttention(width, config.num_heads, dropout=dropout),
        FeedForward(width, width, activation="relu", dropout=dropout),
        LayerNorm(width), LayerNorm(width), norm_first=True, dropout=dropout)
