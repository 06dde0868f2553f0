"""The made word order: sentences, glosses and alignment say the same."""

import pytest
import torch

from tutorlib.data.word_order import ADJECTIVES, NOUNS, VERBS, draw_sentences


def drawn(count=200, seed=0, **options):
    return draw_sentences(count, torch.Generator().manual_seed(seed), **options)


def test_the_target_is_the_source_in_the_order_of_the_alignment():
    for sentence in drawn():
        assert sorted(sentence.alignment) == list(range(len(sentence.source)))
        assert sentence.target == tuple(sentence.source[place].upper() for place in sentence.alignment)


def test_the_verb_comes_last_and_adjectives_behind_their_noun():
    for source, target, _ in drawn():
        assert target[-1].lower() in VERBS and sum(word in VERBS for word in source) == 1
        nouns = [place for place, gloss in enumerate(target) if gloss.lower() in NOUNS]
        assert len(nouns) == 2 and nouns[0] == 1
        assert all(word.lower() in ADJECTIVES for word in (*target[2:nouns[1] - 1], *target[nouns[1] + 1:-1]))


def test_one_sentence_by_hand():
    found = next(s for s in drawn(600) if len(s.source) == 7 and s.alignment == (0, 3, 1, 2, 5, 6, 4))
    a, b, c, d, e, f, g = found.source
    assert [gloss.lower() for gloss in found.target] == [a, d, b, c, f, g, e]


def test_sentences_differ_and_the_seed_decides():
    assert len({s.source for s in drawn(500)}) == 500
    assert drawn(20) == drawn(20) != drawn(20, seed=1)


def test_bounds_and_the_objects_adjectives_are_kept():
    for sentence in drawn(100, adjectives=(3, 3), object_adjectives=("red",)):
        assert len(sentence.source) == 11
        assert [word for word in sentence.source[6:] if word in ADJECTIVES] == ["red"] * 3


def test_refusals():
    with pytest.raises(ValueError, match="count"):
        drawn(0)
    with pytest.raises(ValueError, match=r"adjectives must be the fewest and the most, .* got \(2, 1\)"):
        drawn(adjectives=(2, 1))
    with pytest.raises(ValueError, match="object_adjectives must be some of"):
        drawn(object_adjectives=("blue",))
