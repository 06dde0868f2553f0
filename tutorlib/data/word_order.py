"""A made-up pair of languages that differ in order: English sentences, and glosses with the verb last and adjectives behind.

"the small dog sees a cat" -> "THE DOG SMALL A CAT SEES". Every word of the source has one word of the target, so that the
alignment is known. A gloss is a word in capitals, as linguists write them; its order is the other language's.
"""

from typing import NamedTuple

import torch

from tutorlib.arguments import check_whole

DETERMINERS = ("a", "the", "every")
ADJECTIVES = ("small", "red", "old", "kind", "wet", "loud")
NOUNS = ("dog", "cat", "child", "king", "bird", "tree", "boat", "fox")
VERBS = ("sees", "finds", "likes", "paints", "follows", "hears")
WORDS = (*DETERMINERS, *ADJECTIVES, *NOUNS, *VERBS)
GLOSSES = tuple(word.upper() for word in WORDS)


class Sentence(NamedTuple):
    """Words, their glosses, and for each gloss the place of the word that it comes from."""

    source: tuple[str, ...]
    target: tuple[str, ...]
    alignment: tuple[int, ...]


def draw_sentences(count: int, generator: torch.Generator, *, adjectives: tuple[int, int] = (0, 2),
                   object_adjectives: tuple[str, ...] = ADJECTIVES) -> list[Sentence]:
    """Different sentences: a subject, a verb and an object, whose numbers of adjectives lie between the two given.

    All choices are drawn evenly, except that an object takes its adjectives from `object_adjectives`. Raises ValueError for a
    count below 1, and for bounds or adjectives that are none.
    """
    check_whole("count", count)
    if len(adjectives) != 2 or not 0 <= adjectives[0] <= adjectives[1]:
        raise ValueError(f"adjectives must be the fewest and the most, whole numbers from 0, got {adjectives}")
    if not object_adjectives or set(object_adjectives) - set(ADJECTIVES):
        raise ValueError(f"object_adjectives must be some of {ADJECTIVES}, got {object_adjectives}")
    drawn: dict[tuple[str, ...], Sentence] = {}
    while len(drawn) < count:
        sentence = _sentence(generator, adjectives, object_adjectives)
        drawn.setdefault(sentence.source, sentence)
    return list(drawn.values())


def _one(words: tuple[str, ...], generator: torch.Generator) -> str:
    return words[int(torch.randint(len(words), (), generator=generator))]


def _phrase(generator: torch.Generator, bounds: tuple[int, int], adjectives: tuple[str, ...]) -> list[str]:
    number = int(torch.randint(bounds[0], bounds[1] + 1, (), generator=generator))
    return [_one(DETERMINERS, generator), *(_one(adjectives, generator) for _ in range(number)), _one(NOUNS, generator)]


def _sentence(generator: torch.Generator, bounds: tuple[int, int], object_adjectives: tuple[str, ...]) -> Sentence:
    subject, verb = _phrase(generator, bounds, ADJECTIVES), _one(VERBS, generator)
    thing = _phrase(generator, bounds, object_adjectives)
    source = (*subject, verb, *thing)
    alignment = (*_turned(0, len(subject)), *_turned(len(subject) + 1, len(thing)), len(subject))
    return Sentence(source, tuple(source[place].upper() for place in alignment), alignment)


def _turned(start: int, length: int) -> tuple[int, ...]:
    """Determiner, noun, then the adjectives in their order: the places of a phrase as the target has them."""
    return (start, start + length - 1, *range(start + 1, start + length - 1))
