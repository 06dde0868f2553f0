"""Stories of who brought what where, and questions whose answer is a span of the story: for a head that reads.

Each sentence stands in one of four orders, so that an answer is not to be had from its place, and the question's verb is not
the sentence's. One sentence has all that its question asks for; the others name other people, things and places.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from tutorlib.arguments import check_counts
from tutorlib.text.vocabulary import Vocabulary, pad_right

PEOPLE = tuple("anna ben clara david emma felix greta hugo ida jonas lena max".split())
COLORS = tuple("red blue green old new heavy small golden".split())
THINGS = tuple("key map lamp book cup rope bell coat drum mask".split())
PLACES = tuple("kitchen garden attic cellar station harbor school market tower barn".split())
VERBS = ("took taken", "carried carried", "brought brought", "moved moved")
ORDERS = ("{who} {did} {what} to {where} .", "to {where} {who} {did} {what} .", "{what} was {done} to {where} by {who} .",
          "it was {who} who {did} {what} to {where} .")
ASKED = {"who": "which person touched {what} ?", "what": "which thing did {who} touch ?", "where": "which place holds {what} ?"}
PAD, CLS, SEP = 0, 1, 2  # the vocabulary's marks
WORDS = {word for text in (*PEOPLE, *COLORS, *THINGS, *PLACES, *VERBS, *ORDERS, *ASKED.values(), "the")
         for word in text.split() if "{" not in word}
VOCABULARY = Vocabulary(sorted(WORDS))


class Stories(NamedTuple):
    """tokens, attention_mask, token_type_ids (B, T) for BERT; first and last token of the answers, (B,) each.

    A token's type is 0 in the question; in sentence s of the story 2 s, and 2 s + 1 where the question has the word, too: the
    "exact match" of Chen et al. 2017. Without it the two layers that the chapter trains have to find equal words themselves.
    """

    tokens: Tensor
    attention_mask: Tensor
    token_type_ids: Tensor
    start: Tensor
    end: Tensor


def draw_stories(count: int, generator: torch.Generator, *, test: bool = False, sentences: int = 4) -> Stories:
    """`count` rows of [CLS] question [SEP] story [SEP], each with the place of its answer in the row.

    With `test` the question is about one of the 16 pairs of an adjective and a thing that the others never have in a story.
    Raises ValueError where `count` is below 1 or `sentences` is not from 1 to 10.
    """
    check_counts(count=count, sentences=sentences)
    if sentences > len(PLACES):
        raise ValueError(f"sentences must be at most {len(PLACES)}, got {sentences}")
    rows, types, spans = [], [], []
    for _ in range(count):
        question, story, answer = _draw(generator, test, sentences)
        head = [CLS, *VOCABULARY.encode(question), SEP]
        at = next(place for place in range(len(story)) if story[place:place + len(answer)] == answer) + len(head)
        rows.append([*head, *VOCABULARY.encode(story), SEP])
        types.append([0] * len(head) + _types(question, story) + [2 * sentences])
        spans.append((at, at + len(answer) - 1))
    start, end = torch.tensor(spans).T
    mask = [[1] * len(row) for row in rows]
    return Stories(pad_right(rows, PAD), pad_right(mask, 0), pad_right(types, 0), start, end)


def story_text(tokens: Tensor) -> str:
    """A row of tokens (T,) in words, the marks and the padding left out."""
    return " ".join(VOCABULARY.symbols[token] for token in tokens.tolist() if token > SEP)


def _draw(generator: torch.Generator, test: bool, sentences: int) -> tuple[list[str], list[str], list[str]]:
    """The words of a question, of its story and of its answer."""
    people, places, things = (_some(names, sentences, generator) for names in (PEOPLE, PLACES, THINGS))
    asked = _one(sentences, generator)
    facts, told = [], []
    for place in range(sentences):
        color = _color(things[place], generator, test and place == asked)
        did, done = VERBS[_one(len(VERBS), generator)].split()
        facts.append({"who": people[place], "what": f"the {color} {things[place]}", "where": f"the {places[place]}"})
        told += ORDERS[_one(len(ORDERS), generator)].format(did=did, done=done, **facts[-1]).split()
    kind = tuple(ASKED)[_one(len(ASKED), generator)]
    return ASKED[kind].format(**facts[asked]).split(), told, facts[asked][kind].split()


def _types(question: list[str], story: list[str]) -> list[int]:
    """Of each word of the story twice the number of its sentence, from 1, and one more where the question has it."""
    types, sentence = [], 1
    for word in story:
        types.append(2 * sentence + (word in question))
        sentence += word == "."
    return types


def _color(thing: str, generator: torch.Generator, test: bool) -> str:
    """An adjective that goes with the thing: one in five pairs, and only these, for the test."""
    fitting = [color for place, color in enumerate(COLORS) if ((place + THINGS.index(thing)) % 5 == 0) == test]
    return fitting[_one(len(fitting), generator)]


def _one(count: int, generator: torch.Generator) -> int:
    return int(torch.randint(count, (), generator=generator))


def _some(names: tuple[str, ...], count: int, generator: torch.Generator) -> list[str]:
    return [names[place] for place in torch.randperm(len(names), generator=generator)[:count]]
