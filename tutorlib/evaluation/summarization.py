"""How much of a reference a summary repeats: ROUGE-N by shared n-grams, ROUGE-L by the longest common subsequence.

Words are runs of letters and digits in small letters, not stemmed. Source: Lin 2004; F1 as most papers report it.
"""

import re
from collections.abc import Sequence

from tutorlib.arguments import check_whole
from tutorlib.evaluation.translation import n_grams


def rouge_words(text: str) -> list[str]:
    """The words that ROUGE compares."""
    return re.findall(r"[a-z0-9]+", text.lower())


def rouge_n(summary: str, reference: str, n: int = 1) -> float:
    """F1 of the n-grams of words that both have, 0 to 1. Raises ValueError for n below 1."""
    check_whole("n", n)
    ours, theirs = (n_grams(rouge_words(text), n) for text in (summary, reference))
    return _f1((ours & theirs).total(), ours.total(), theirs.total())


def rouge_l(summary: str, reference: str) -> float:
    """F1 of the longest run of words, with gaps, that stands in both in one order, 0 to 1."""
    ours, theirs = rouge_words(summary), rouge_words(reference)
    return _f1(longest_common_subsequence(ours, theirs), len(ours), len(theirs))


def longest_common_subsequence(first: Sequence, second: Sequence) -> int:
    """The most symbols that can be kept of both so that what is kept is the same."""
    row = [0] * (len(second) + 1)  # row[j]: of the first i symbols and the first j
    for symbol in first:
        diagonal = 0
        for j, other in enumerate(second, start=1):
            diagonal, row[j] = row[j], diagonal + 1 if symbol == other else max(row[j], row[j - 1])
    return row[-1]


def _f1(shared: int, ours: int, theirs: int) -> float:
    return 2 * shared / (ours + theirs) if shared else 0.0
