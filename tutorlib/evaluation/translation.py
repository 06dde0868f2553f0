"""How near a translation comes to a reference: chrF by characters, BLEU by words.

Both count n-grams that two texts share, each as often as both have it. A reference is one good translation among many, and
neither knows what a word means.
"""

import math
from collections import Counter
from collections.abc import Sequence

from tutorlib.arguments import check_whole


def n_grams(symbols: Sequence, n: int) -> Counter:
    """How often each run of n symbols stands in a sequence. Raises ValueError for n below 1."""
    check_whole("n", n)
    return Counter(tuple(symbols[i:i + n]) for i in range(len(symbols) - n + 1))


def chrf(translation: str, reference: str, *, longest: int = 6, beta: float = 2.0) -> float:
    """Character n-gram F-score, 0 to 100: mean precision and recall over n = 1 to `longest`, recall `beta` times as heavy.

    Blanks do not count, and lengths n that one of the texts does not have are left out. As in sacrebleu's `sentence_chrf`;
    source: Popović 2015. Raises ValueError for `longest` below 1 and `beta` not above 0.
    """
    check_whole("longest", longest)
    if not beta > 0:
        raise ValueError(f"beta must be above 0, got {beta}")
    ours, theirs = "".join(translation.split()), "".join(reference.split())
    precisions, recalls = [], []
    for n in range(1, min(longest, len(ours), len(theirs)) + 1):
        one, other = n_grams(ours, n), n_grams(theirs, n)
        shared = (one & other).total()
        precisions.append(shared / one.total())
        recalls.append(shared / other.total())
    if not precisions or not sum(precisions):
        return 0.0
    p, r = sum(precisions) / len(precisions), sum(recalls) / len(recalls)
    return 100 * (1 + beta**2) * p * r / (beta**2 * p + r)


def bleu(translations: Sequence[Sequence], references: Sequence[Sequence], *, longest: int = 4) -> float:
    """BLEU of a whole test set, 0 to 100: sequences of words, or of characters where a language writes no blanks.

    The geometric mean of the precisions of n-grams, n = 1 to `longest`, counted over all texts, times exp(1 - r / c) where the
    translations' c words are fewer than the references' r. As in sacrebleu's `corpus_bleu` without smoothing; source: Papineni
    et al. 2002. Raises ValueError where there are no texts or not as many, and for `longest` below 1.
    """
    check_whole("longest", longest)
    if len(translations) != len(references) or not len(references):
        raise ValueError(f"translations: {len(translations)} texts for {len(references)} references; expected as many, "
                         "and at least 1")
    ours, theirs = sum(map(len, translations)), sum(map(len, references))
    logarithms = []
    for n in range(1, longest + 1):
        pairs = [(n_grams(a, n), n_grams(b, n)) for a, b in zip(translations, references, strict=True)]
        shared, all_of_ours = sum((a & b).total() for a, b in pairs), sum(a.total() for a, _ in pairs)
        if not shared:
            return 0.0
        logarithms.append(math.log(shared / all_of_ours))
    brevity = min(0.0, 1 - theirs / ours)
    return 100 * math.exp(brevity + sum(logarithms) / longest)
