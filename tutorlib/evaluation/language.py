"""What a language model is worth: the loss of its predictions, and how varied the text is that it writes."""

import math
import sys
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tutorlib.arguments import check_whole
from tutorlib.layers.arguments import check_tokens

LARGEST_EXPONENT = math.log(sys.float_info.max)  # 709.8; beyond it e^x is no float


# -- of its predictions -----------------------------------------------------------------------------------------------


class TokenLoss(NamedTuple):
    """The cross-entropy of a language model on a text: its mean in nats a token, and the number of tokens that it predicted."""

    nats: float
    tokens: int

    @property
    def perplexity(self) -> float:
        """Among so many equally probable tokens the model is in doubt, e^nats (Jelinek et al. 1977)."""
        return math.inf if self.nats > LARGEST_EXPONENT else math.exp(self.nats)

    def bits_a_character(self, characters: int) -> float:
        """The whole loss in bits, divided by the number of characters that the tokens spell: it compares tokenizers.

        Raises ValueError for less than 1 character.
        """
        check_whole("characters", characters)
        return self.nats * self.tokens / math.log(2) / characters


def stream_windows(tokens: Tensor, length: int, *, together: int = 2048) -> list[tuple[Tensor, Tensor]]:
    """A text cut into windows for `mean_token_loss`: tokens (N,) -> batches of inputs (B, T) and targets (B, T).

    Each token but the first is a target once, and is predicted from the tokens before it in its window of `length`. A batch
    holds `together` tokens, or one window where that is longer; the last window may be shorter than the others.
    Raises ValueError for fewer than 2 tokens, one to predict the other.
    """
    if tokens.dim() != 1 or len(tokens) < 2:
        raise ValueError(f"tokens must have the shape (N,) with N at least 2, got {tuple(tokens.shape)}")
    check_whole("length", length)
    check_whole("together", together)
    inputs, targets = tokens[:-1], tokens[1:]  # (N - 1,)
    whole = len(inputs) // length * length
    batches = []
    if whole:
        rows = [part[:whole].view(-1, length).split(max(together // length, 1)) for part in (inputs, targets)]  # (B, T) each
        batches += zip(*rows, strict=True)
    if whole < len(inputs):
        batches.append((inputs[None, whole:], targets[None, whole:]))  # (1, T')
    return batches


@torch.no_grad()
def mean_token_loss(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> TokenLoss:
    """The mean over all tokens of all batches, whatever their shapes: inputs (B, T) and targets (B, T), integers.

    The model gives logits (B, T, V). It is asked in evaluation mode and left in the mode it was in; the loss is computed in
    float32. Raises ValueError where there is no token or one outside the vocabulary, FloatingPointError where the loss is NaN.
    """
    nats, tokens, was_training = 0.0, 0, model.training
    model.eval()
    try:
        for inputs, targets in batches:
            logits = model(inputs).float()  # (B, T, V)
            check_tokens("targets", targets, logits.size(-1))  # PyTorch would pass over a target of -100 without a word
            nats += F.cross_entropy(logits.flatten(0, 1), targets.flatten().long(), reduction="sum").item()
            tokens += targets.numel()
    finally:
        model.train(was_training)
    if not tokens:
        raise ValueError("batches must hold at least one token to predict, got none")
    if math.isnan(nats):
        raise FloatingPointError(f"the loss is nan over {tokens} tokens: the model's logits are no numbers")
    return TokenLoss(nats / tokens, tokens)


# -- of its text ------------------------------------------------------------------------------------------------------


def distinct_ngrams(sequences: Sequence[Sequence], n: int) -> float:
    """Distinct n-grams of all sequences, divided by their number: 1 where none occurs twice (Li et al. 2016, distinct-n).

    A sequence is a list of symbols, a string or a tensor (T,). The share falls with the number of n-grams: compare samples of
    one size only. Raises ValueError where there is no n-gram, and for one string in place of several.
    """
    grams = [gram for sequence in _several(sequences) for gram in _ngrams(sequence, n)]
    if not grams:
        raise ValueError(f"sequences must hold at least one {n}-gram, got {[len(s) for s in sequences]} symbols")
    return len(set(grams)) / len(grams)


def repeated_ngrams(sequences: Sequence[Sequence], n: int) -> float:
    """Share of n-grams that their own sequence had before, averaged over the sequences (Welleck et al. 2020, seq-rep-n).

    0 where no sequence repeats itself, whatever it shares with the others. Raises ValueError as `distinct_ngrams` does, for
    each sequence.
    """
    return sum(1 - distinct_ngrams([sequence], n) for sequence in _several(sequences)) / len(sequences)


def _several(sequences: Sequence[Sequence]) -> Sequence[Sequence]:
    if isinstance(sequences, str) or not len(sequences):
        raise ValueError(f"sequences must be a list of at least one sequence, got {sequences!r:.40}")
    return sequences


def _ngrams(sequence: Sequence, n: int) -> list[tuple]:
    check_whole("n", n)
    if hasattr(sequence, "tolist"):
        sequence = sequence.tolist()  # a tensor's entries are tensors, of which no two are one key of a set
    return [tuple(sequence[i:i + n]) for i in range(len(sequence) - n + 1)]
