"""What a translator has to beat: the nearest string of a memory, and a dictionary counted from the pairs.

A word table is IBM Model 1 (Brown et al. 1993): each word of the target comes from one word of the source, or from NOTHING,
with a probability that depends on these two words alone, and expectation maximization finds the table.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tutorlib.arguments import check_whole
from tutorlib.evaluation.translation import n_grams

NOTHING = ""  # stands in front of every source, for words of the target that come from none of its words
Table = dict[str, dict[str, float]]


class Match(NamedTuple):
    """What a memory finds: a source, its translation, and how similar the source is, 0 to 1."""

    source: str
    target: str
    similarity: float


class TranslationMemory:
    """Pairs, asked for the translation of the most similar source: Dice's share of the character trigrams, case aside.

    Raises ValueError where there are no pairs.
    """

    def __init__(self, pairs: Sequence[tuple[str, str]]):
        if not len(pairs):
            raise ValueError("pairs must be at least one, got none")
        self.pairs = list(pairs)
        self._counts = [_trigrams(source) for source, _ in self.pairs]

    def __call__(self, text: str) -> Match:
        """The nearest pair; of equals the first."""
        asked = _trigrams(text)
        similar = [2 * (asked & counts).total() / (asked.total() + counts.total()) for counts in self._counts]
        best = max(range(len(similar)), key=similar.__getitem__)
        return Match(*self.pairs[best], similar[best])


def _trigrams(text: str):
    return n_grams(f"  {text.lower()}  ", 3)


def count_words(pairs: Sequence[tuple[Sequence[str], Sequence[str]]], rounds: int = 10) -> Table:
    """P(target word | source word), as table[source word][target word], after so many rounds of expectation maximization.

    A round shares each target word among the words of its source, in proportion to the table so far, and makes the shares
    probabilities. Raises ValueError where there are no pairs and for `rounds` below 1.
    """
    check_whole("rounds", rounds)
    if not len(pairs):
        raise ValueError("pairs must be at least one, got none")
    table: Table = defaultdict(lambda: defaultdict(lambda: 1.0))  # at first all are equal
    for _ in range(rounds):
        counts: Table = defaultdict(lambda: defaultdict(float))
        for source, target in pairs:
            words = (NOTHING, *source)
            for t in target:
                total = sum(table[s][t] for s in words)
                for s in words:
                    counts[s][t] += table[s][t] / total
        table = {s: {t: c / sum(row.values()) for t, c in row.items()} for s, row in counts.items()}
    return table


def align_words(source: Sequence[str], target: Sequence[str], table: Mapping[str, Mapping[str, float]]) -> list[int | None]:
    """For each target word the place of the source word that it most probably comes from, None for NOTHING."""
    words = (NOTHING, *source)
    places = [max(range(len(words)), key=lambda i: table.get(words[i], {}).get(t, 0.0)) for t in target]
    return [place - 1 if place else None for place in places]


def word_by_word(source: Sequence[str], table: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Each source word's most probable translation, in the source's order; a word that the table lacks is left out."""
    return [max(table[s], key=table[s].__getitem__) for s in source if s in table]


def count_phrases(pairs: Sequence[tuple[Sequence[str], str]], longest: int = 6) -> dict[str, str]:
    """For each source word the run of target characters, at most `longest`, that goes with it most: a counted dictionary.

    Goes with it: Dice's share 2 c(word, run) / (c(word) + c(run)), where c counts the pairs that have the word, the run, or
    both. Of equals the longer. For languages without blanks. Raises ValueError where there are no pairs, or `longest` is
    below 1.
    """
    check_whole("longest", longest)
    if not len(pairs):
        raise ValueError("pairs must be at least one, got none")
    words: Counter[str] = Counter()
    runs: Counter[str] = Counter()
    together: dict[str, Counter[str]] = defaultdict(Counter)
    for source, target in pairs:
        found = {target[i:i + n] for n in range(1, longest + 1) for i in range(len(target) - n + 1)}
        runs.update(found)
        for word in set(source):
            words[word] += 1
            together[word].update(found)
    return {word: max(both, key=lambda run: (2 * both[run] / (words[word] + runs[run]), len(run), run))
            for word, both in together.items()}
