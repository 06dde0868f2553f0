"""How wrong a predicted sequence is: edit distance, error rates. How varied generated ones are: distinct, repeated n-grams."""

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
    """Edit distances of all words, divided by the number of expected phonemes; 0 is perfect, more than 1 is possible."""
    _same_length(predicted, expected)
    return sum(map(edit_distance, predicted, expected)) / sum(map(len, expected))


def word_error_rate(predicted: Sequence[Sequence], expected: Sequence[Sequence]) -> float:
    """Share of words with any error."""
    _same_length(predicted, expected)
    return sum(tuple(p) != tuple(e) for p, e in zip(predicted, expected, strict=True)) / len(expected)


def distinct_ngrams(sequences: Sequence[Sequence], n: int) -> float:
    """Distinct n-grams of all sequences, divided by their number: 1 where none occurs twice (Li et al. 2016, distinct-n).

    It falls with the number of n-grams: compare samples of one size only. Raises ValueError where there is no n-gram.
    """
    grams = [gram for sequence in sequences for gram in _ngrams(sequence, n)]
    if not grams:
        raise ValueError(f"sequences must hold at least one {n}-gram, got {[len(s) for s in sequences]} symbols")
    return len(set(grams)) / len(grams)


def repeated_ngrams(sequences: Sequence[Sequence], n: int) -> float:
    """Share of n-grams that their own sequence had before, averaged over the sequences (Welleck et al. 2020, seq-rep-n).

    0 where no sequence repeats itself, whatever it shares with the others. Raises ValueError for a sequence without an n-gram.
    """
    return sum(1 - distinct_ngrams([sequence], n) for sequence in sequences) / len(sequences)


def _ngrams(sequence: Sequence, n: int) -> list[tuple]:
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    return [tuple(sequence[i:i + n]) for i in range(len(sequence) - n + 1)]


def _same_length(predicted: Sequence, expected: Sequence) -> None:
    if len(predicted) != len(expected) or not expected:
        raise ValueError(f"predicted: {len(predicted)} words for {len(expected)} expected; expected as many, and at least 1")
