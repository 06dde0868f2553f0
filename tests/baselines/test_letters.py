"""What the baselines of letters refuse; what they say is tested beside the dictionary, in tests/data/test_pronunciation.py."""

import pytest

from tutorlib.baselines.letters import LetterBaseline, WindowBaseline

ALIGNED = {"ca": (("K",), ("AE",)), "be": (("B",), ())}


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
