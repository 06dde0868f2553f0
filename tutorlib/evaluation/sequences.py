"""How wrong a predicted sequence is: edit distance and error rates."""

from collections.abc import Sequence

import torch
from torch import Tensor


def edit_distance(first: Sequence, second: Sequence) -> int:
    """Fewest insertions, deletions and replacements that turn one sequence into the other (Levenshtein, 1966)."""
    row = list(range(len(second) + 1))  # row[j]: distance of the first i symbols to the first j
    for i, symbol in enumerate(first, start=1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(second, start=1):
            diagonal, row[j] = row[j], min(diagonal + (symbol != other), row[j] + 1, row[j - 1] + 1)
    return row[-1]


def phoneme_error_rate(predicted: Sequence[Sequence], expected: Sequence[Sequence]) -> float:
    """Edit distances of all words, divided by the number of expected phonemes; 0 is perfect, more than 1 is possible.

    Raises ValueError where the words are not equally many, or no phoneme is expected.
    """
    _same_length(predicted, expected)
    phonemes = sum(map(len, expected))
    if not phonemes:
        raise ValueError(f"expected must hold at least one phoneme, got {len(expected)} empty words")
    return sum(map(edit_distance, predicted, expected)) / phonemes


def wrong_word_rate(predicted: Sequence[Sequence], expected: Sequence[Sequence]) -> float:
    """Share of words with any error. Raises ValueError where the words are not equally many, or there are none."""
    _same_length(predicted, expected)
    return sum(tuple(p) != tuple(e) for p, e in zip(predicted, expected, strict=True)) / len(expected)


def word_error_rate(predicted: Sequence[str], expected: Sequence[str]) -> float:
    """WER: edits between the words of all texts, divided by the number of expected words; equal to jiwer's.

    A text is parted at its blanks. Raises ValueError where texts are not equally many, or no word is expected.
    """
    return _rate(*word_edits(predicted, expected), "word")


def character_error_rate(predicted: Sequence[str], expected: Sequence[str]) -> float:
    """CER: the same with characters, spaces included. Raises ValueError where no character is expected."""
    return _rate(*character_edits(predicted, expected), "character")


def word_edits(predicted: Sequence[str], expected: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Of each text its edits and its expected words, two tensors (N,): what `rate_error` draws from."""
    return character_edits([text.split() for text in predicted], [text.split() for text in expected])


def character_edits(predicted: Sequence[Sequence], expected: Sequence[Sequence]) -> tuple[Tensor, Tensor]:
    """Of each text its edits and its expected characters, two tensors (N,). Raises ValueError where they are not as many."""
    _same_length(predicted, expected)
    return torch.tensor([*map(edit_distance, predicted, expected)]), torch.tensor([*map(len, expected)])


def rate_error(edits: Tensor, lengths: Tensor, draws: int = 1000) -> float:
    """The standard error of edits / lengths, both summed over texts (N,): its spread over texts drawn with replacement.

    The draws are the same each time. Raises ValueError for fewer than two texts, and tensors that differ in shape.
    """
    if edits.shape != lengths.shape or edits.dim() != 1 or len(edits) < 2:
        raise ValueError(f"edits and lengths must be (N,), N at least 2, got {tuple(edits.shape)} and {tuple(lengths.shape)}")
    again = torch.randint(len(edits), (draws, len(edits)), generator=torch.Generator().manual_seed(0))  # (draws, N)
    return (edits[again].sum(1) / lengths[again].sum(1)).std().item()


def _rate(edits: Tensor, lengths: Tensor, what: str) -> float:
    if not lengths.sum():
        raise ValueError(f"expected must hold at least one {what}, got {len(lengths)} empty texts")
    return (edits.sum() / lengths.sum()).item()


def _same_length(predicted: Sequence, expected: Sequence) -> None:
    if len(predicted) != len(expected) or not len(expected):
        raise ValueError(f"predicted: {len(predicted)} words for {len(expected)} expected; expected as many, and at least 1")
