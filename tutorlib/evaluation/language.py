"""What a language model's text is worth: how varied it is, by distinct and repeated n-grams."""

from collections.abc import Sequence


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
