"""Names in the verses of the World English Bible: real text, tagged by its capitals, with the mistakes that this makes.

A capital behind a plain word marks a name. Behind a mark of punctuation, or at a verse's beginning, any word may have one;
there a word counts as a name where most of its occurrences behind plain words have a capital. Then all becomes lower case, so
that who is to find the names does not see how they were found. Names that stand side by side are one span.
"""

import re
from collections import Counter
from itertools import pairwise
from typing import NamedTuple

from tutorlib.data.bible import HELD_OUT_EVERY, load_verses

KIND = "NAME"
NEVER = "I", "O"  # written so for another reason


class TaggedVerse(NamedTuple):
    """Words and marks in lower case, and a tag each: B-NAME, I-NAME or O."""

    words: list[str]
    tags: list[str]


class Names(NamedTuple):
    """Verses of nine chapters of ten, in the order of the books, and of each tenth."""

    train: list[TaggedVerse]
    test: list[TaggedVerse]


def load_names() -> Names:
    """28,039 verses to learn from, in which 5.3 % of the words are part of a name, and 3,056 to be tested on.

    Raises what `load_verses` raises.
    """
    verses = load_verses()
    cut = [words_and_marks(verse.text) for verse in verses]
    mostly = words_with_capitals(cut)
    tagged = [TaggedVerse([word.lower() for word in words], name_tags(words, mostly)) for words in cut]
    places = dict.fromkeys((verse.book, verse.chapter) for verse in verses)
    number = {place: count for count, place in enumerate(places, start=1)}
    held_out = [number[verse.book, verse.chapter] % HELD_OUT_EVERY == 0 for verse in verses]
    return Names([verse for verse, out in zip(tagged, held_out, strict=True) if not out],
                 [verse for verse, out in zip(tagged, held_out, strict=True) if out])


def words_and_marks(text: str) -> list[str]:
    """Words, the 's of a possessive and marks of punctuation, one by one: "David's." -> David, 's, ."""
    return re.findall(r"['’]s\b|[A-Za-z]+(?:-[A-Za-z]+)*|[^A-Za-z\s]", text)


def words_with_capitals(texts: list[list[str]]) -> set[str]:
    """The words, in lower case, that have a capital in most of their occurrences behind another plain word."""
    seen, with_capital = Counter(), Counter()
    for words in texts:
        for before, word in pairwise(words):
            if before[-1].isalpha() and word[0].isalpha():
                seen[word.lower()] += 1
                with_capital[word.lower()] += word[0].isupper()
    return {word for word, count in seen.items() if 2 * with_capital[word] > count}


def name_tags(words: list[str], mostly: set[str]) -> list[str]:
    """The tags of a text with its capitals, given the words that have one in most places."""
    tags: list[str] = []
    for place, word in enumerate(words):
        behind_word = place > 0 and words[place - 1][-1].isalpha()
        is_name = word[0].isupper() and word not in NEVER and (behind_word or word.lower() in mostly)
        goes_on = is_name and bool(tags) and tags[-1] != "O"
        tags.append(f"{'I' if goes_on else 'B'}-{KIND}" if is_name else "O")
    return tags
