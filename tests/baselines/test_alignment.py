"""The alignment of letters and phonemes, against enumeration of every way to cut a pronunciation."""

from itertools import product

import numpy as np
import pytest

from tutorlib.baselines.alignment import NUM_PIECES, P, _add_expected_counts, _best, _group_by_lengths, align
from tutorlib.data.pronunciation import PHONEMES, Entry

WORDS = [
    Entry("cat", ("K", "AE", "T")),
    Entry("cats", ("K", "AE", "T", "S")),
    Entry("act", ("AE", "K", "T")),
    Entry("axe", ("AE", "K", "S")),
    Entry("tax", ("T", "AE", "K", "S")),
    Entry("sack", ("S", "AE", "K")),
    Entry("task", ("T", "AE", "S", "K")),
    Entry("east", ("IY", "S", "T")),
]


def cuts(phonemes, letters):
    """Every way to give each letter no, one or two phonemes, in order."""
    for sizes in product(range(3), repeat=letters):
        if sum(sizes) == len(phonemes):
            starts = np.cumsum([0, *sizes])
            yield tuple(tuple(phonemes[start : start + size]) for start, size in zip(starts, sizes))


def number(piece):
    ids = [PHONEMES.index(phoneme) for phoneme in piece]
    return 0 if not ids else 1 + ids[0] if len(ids) == 1 else 1 + P + P * ids[0] + ids[1]


def random_table():
    table = np.random.default_rng(0).random((26, NUM_PIECES))
    return table / table.sum(axis=1, keepdims=True)


def weight(word, pieces, table):
    return np.prod([table[ord(letter) - ord("a"), number(piece)] for letter, piece in zip(word, pieces)])


def test_expected_counts_are_those_of_enumeration():
    table, counts, expected = random_table(), np.zeros((26, NUM_PIECES)), np.zeros((26, NUM_PIECES))
    for letters, phonemes, _ in _group_by_lengths(WORDS):
        _add_expected_counts(counts, letters, phonemes, table)
    for word, phonemes in WORDS:
        ways = [(pieces, weight(word, pieces, table)) for pieces in cuts(phonemes, len(word))]
        total = sum(w for _, w in ways)
        for pieces, w in ways:
            for letter, piece in zip(word, pieces):
                expected[ord(letter) - ord("a"), number(piece)] += w / total
    np.testing.assert_allclose(counts, expected, atol=1e-12)
    assert counts.sum() == pytest.approx(sum(len(word) for word, _ in WORDS))  # every letter says something, if only silence


def test_best_alignment_is_that_of_enumeration():
    table = random_table()
    for letters, phonemes, words in _group_by_lengths(WORDS):
        for word, pieces in _best(letters, phonemes, words, table):
            said = dict(WORDS)[word]
            assert weight(word, pieces, table) == pytest.approx(max(weight(word, p, table) for p in cuts(said, len(word))))


def test_learns_who_says_what():
    aligned = align(WORDS * 3, rounds=20)
    assert aligned["cat"] == (("K",), ("AE",), ("T",))
    assert aligned["tax"] == (("T",), ("AE",), ("K", "S"))


def test_pieces_put_together_are_the_pronunciation():
    for word, pieces in align(WORDS).items():
        assert len(pieces) == len(word) and sum(pieces, ()) == dict(WORDS)[word]


def test_a_word_with_too_many_phonemes_is_left_out():
    assert align([*WORDS, Entry("w", ("D", "AH", "B"))]).keys() == {word for word, _ in WORDS}


def test_a_word_with_just_two_phonemes_a_letter_is_aligned():
    assert align([Entry("x", ("K", "S"))]) == {"x": (("K", "S"),)}


def test_of_equals_the_last_letter_says_least():
    """Without a round of learning all alignments are equally probable."""
    assert align(WORDS, rounds=0)["cat"] == (("K", "AE"), ("T",), ())


def test_is_deterministic():
    assert align(WORDS) == align(list(WORDS))


@pytest.mark.parametrize("word", ["Zoo", "`", "don't", "café", ""])
def test_other_letters_are_not_taken_for_one_of_the_26(word):
    """Counted from a, a capital Z is the letter -7, which is t."""
    with pytest.raises(ValueError, match=f"word must be written with the letters a to z, got {word!r}"):
        align([*WORDS, Entry(word, ("Z", "UW"))])


def test_other_refusals():
    with pytest.raises(ValueError, match="entries: 'zoo' has the unknown phoneme 'UU'"):
        align([Entry("zoo", ("Z", "UU"))])
    with pytest.raises(ValueError, match="rounds must be a whole number, got 2.5"):
        align(WORDS, rounds=2.5)
