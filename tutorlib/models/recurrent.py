"""A recurrent layer that reads a sequence, and a linear layer that says which class it is."""

import torch
from torch import Tensor, nn

from tutorlib.layers.arguments import check_tokens
from tutorlib.layers.recurrent import GRU, LSTM, RNN

LAYERS = {"rnn": RNN, "lstm": LSTM, "gru": GRU}


class RecurrentClassifier(nn.Module):
    """sequence -> recurrent layers -> one summary vector -> logits.

    The sequence holds vectors of width `input_width` or, with a `vocabulary`, tokens that are embedded into such vectors. The
    summary is the last layer's state where each direction ends. `dropout` acts between layers and on the summary. Further
    options are the layer's: num_layers, bidirectional, bias, fused, an LSTM's forget_bias, an RNN's nonlinearity.
    """

    def __init__(self, input_width: int, hidden: int, num_classes: int, *, cell: str = "lstm", vocabulary: int | None = None,
                 dropout: float = 0.0, **layer_options: int | float | str):
        super().__init__()
        if cell not in LAYERS:
            raise ValueError(f"cell must be one of {sorted(LAYERS)}, got {cell!r}")
        self.embedding = None if vocabulary is None else nn.Embedding(vocabulary, input_width)
        self.layers = LAYERS[cell](input_width, hidden, dropout=dropout, **layer_options)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(self.layers.num_directions * hidden, num_classes)

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """inputs (B, T, C), or tokens (B, T) with a vocabulary; lengths (B,) of right-padded rows -> logits (B, num_classes).

        Raises ValueError for shapes that do not fit, tokens outside the vocabulary and lengths outside [1, T].
        """
        if self.embedding is not None:
            check_tokens("inputs", inputs, self.embedding.num_embeddings)
            inputs = self.embedding(inputs)  # (B, T, C)
        _, state = self.layers(inputs, lengths=lengths)
        hidden = state[0] if self.layers.has_memory else state  # (layers x directions, B, D)
        summary = torch.cat(list(hidden[-self.layers.num_directions:]), dim=-1)  # (B, D), or (B, 2D)
        return self.output(self.dropout(summary))  # (B, num_classes)
