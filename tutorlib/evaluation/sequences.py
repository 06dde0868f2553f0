"""How wrong a predicted sequence is: edit distance and error rates."""

from collections.abc import Sequence


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


def _same_length(predicted: Sequence, expected: Sequence) -> None:
    if len(predicted) != len(expected) or not len(expected):
        raise ValueError(f"predicted: {len(predicted)} words for {len(expected)} expected; expected as many, and at least 1")
