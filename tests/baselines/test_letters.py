"""The baselines of letters: what they say, how often they are wrong on unseen words, what they refuse."""

import pytest

from tests.data.examples import FEW
from tutorlib.baselines.alignment import align
from tutorlib.baselines.letters import LetterBaseline, WindowBaseline, windows
from tutorlib.data.pronunciation import load_pronunciations
from tutorlib.evaluation.sequences import phoneme_error_rate, wrong_word_rate

ALIGNED = {  # made up, so that every table can be checked by hand
    "ca": (("K",), ("AE",)),
    "cab": (("K",), ("AE",), ("B",)),
    "ce": (("S",), ("IY",)),
    "cx": (("K",), ("K", "S")),
    "be": (("B",), ()),
    "de": (("D",), ()),
}


@pytest.fixture(scope="module")
def splits():
    return load_pronunciations()


def test_letter_baseline_says_a_letter_always_alike():
    say = LetterBaseline(ALIGNED)
    assert say("cab") == ("K", "AE", "B") and say("ace") == ("AE", "K") and say("x") == ("K", "S")  # 'e' is mostly silent


def test_window_baseline_prefers_the_widest_window_it_has_seen():
    say = WindowBaseline(ALIGNED)
    for word, pieces in ALIGNED.items():
        assert say(word) == sum(pieces, ())  # every window of these was seen whole
    assert say("xce") == ("K", "S", "S", "IY")  # (1 left, 1 right) is new for 'c'; 'ce' to its right was seen
    assert say("q") == ()  # a letter never seen says nothing


def test_windows_from_wide_to_narrow():
    assert windows(2) == [(2, 2), (1, 2), (2, 1), (1, 1), (0, 1), (1, 0), (0, 0)]
    assert windows(0) == [(0, 0)]


@pytest.mark.parametrize("reach", [-1, 1.5, 7])
def test_window_baseline_refuses_a_reach_that_it_cannot_number(reach):
    with pytest.raises(ValueError, match="reach"):
        WindowBaseline(ALIGNED, reach)


@pytest.mark.parametrize("reach", [0, 1, 3, 4, 6])
def test_window_baseline_equals_a_plain_dictionary_of_counts(reach):
    words = {entry.word: tuple((p,) for p in entry.phonemes) for entry in FEW if len(entry.word) == len(entry.phonemes)}
    tables = {}
    for word, pieces in words.items():
        padded = "-" * reach + word + "-" * reach
        for i, piece in enumerate(pieces):
            for left, right in windows(reach):
                tables.setdefault((left, right, padded[i + reach - left : i + reach + 1 + right]), []).append(piece)
    say = WindowBaseline(words, reach)
    for word in ("cat", "dogcat", "god", "sevent", "natac"):
        padded, said = "-" * reach + word + "-" * reach, ()
        for i in range(len(word)):
            keys = [(*lr, padded[i + reach - lr[0] : i + reach + 1 + lr[1]]) for lr in windows(reach)]
            seen = [tables[key] for key in keys if key in tables]
            said += min(seen[0], key=lambda piece: (-seen[0].count(piece), piece)) if seen else ()
        assert say(word) == said


@pytest.mark.slow
def test_error_rates_of_the_baselines_on_unseen_words(splits):
    aligned = align(splits.train)
    expected = [entry.phonemes for entry in splits.test]
    baselines = LetterBaseline(aligned), WindowBaseline(aligned)
    letters, around = ([say(entry.word) for entry in splits.test] for say in baselines)
    assert 0.42 < phoneme_error_rate(letters, expected) < 0.48
    assert 0.11 < phoneme_error_rate(around, expected) < 0.13
    assert 0.48 < wrong_word_rate(around, expected) < 0.53


@pytest.mark.parametrize("baseline", [LetterBaseline, WindowBaseline])
def test_refusals(baseline):
    for word in ("Cab", "c b", "é", ""):  # a capital letter was silent, or another number of the table
        with pytest.raises(ValueError, match=f"word must be written with the letters a to z, got {word!r}"):
            baseline(ALIGNED)(word)
    with pytest.raises(ValueError, match="alignments must hold at least one word, got none"):
        baseline({})
    with pytest.raises(ValueError, match="alignments: 'ce' must have a piece for each of its 2 letters, got 1"):
        baseline({**ALIGNED, "ce": (("S",),)})


@pytest.mark.parametrize("baseline", [LetterBaseline, WindowBaseline])
def test_of_equally_common_pieces_the_first_by_alphabet_is_said_whatever_the_order_of_the_words(baseline):
    words = {"a": (("EY",),), "ba": (("B",), ("AE",))}
    for alignments in (words, dict(reversed(words.items()))):
        assert baseline(alignments)("ca") == ("AE",)  # 'c' is not known, and 'a' was last in both words
