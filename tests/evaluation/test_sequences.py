"""Edit distance and error rates."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutorlib.evaluation.language import distinct_ngrams, repeated_ngrams
from tutorlib.evaluation.sequences import edit_distance, phoneme_error_rate, wrong_word_rate

words = st.text("ab", max_size=7)


@pytest.mark.parametrize(
    "first, second, distance",
    [("", "", 0), ("", "abc", 3), ("kitten", "sitting", 3), ("saturday", "sunday", 3), ("abc", "abc", 0), ("ab", "ba", 2)],
)
def test_known_distances(first, second, distance):
    assert edit_distance(first, second) == distance == edit_distance(tuple(second), tuple(first))


@given(words, words, words)
def test_is_a_metric(a, b, c):
    assert edit_distance(a, b) == edit_distance(b, a)
    assert (edit_distance(a, b) == 0) == (a == b)
    assert edit_distance(a, c) <= edit_distance(a, b) + edit_distance(b, c)
    assert abs(len(a) - len(b)) <= edit_distance(a, b) <= max(len(a), len(b))


@given(words, words)
def test_equals_the_recursive_definition(a, b):
    def distance(i, j):
        if not i or not j:
            return i + j
        return min(distance(i - 1, j) + 1, distance(i, j - 1) + 1, distance(i - 1, j - 1) + (a[i - 1] != b[j - 1]))

    a, b = a[:4], b[:4]
    assert edit_distance(a, b) == distance(len(a), len(b))


def test_error_rates_by_hand():
    predicted, expected = [("K", "AE", "T"), ("D", "AO"), ()], [("K", "AE", "T"), ("D", "AO", "G"), ("AH",)]
    assert phoneme_error_rate(predicted, expected) == pytest.approx(2 / 7)  # weighs phonemes, not words
    assert wrong_word_rate(predicted, expected) == pytest.approx(2 / 3)
    assert wrong_word_rate([["K"]], [("K",)]) == 0  # lists and tuples are the same word


@pytest.mark.parametrize("rate", [phoneme_error_rate, wrong_word_rate])
@pytest.mark.parametrize("predicted, expected", [([], []), ([("K",)], [])])
def test_refuses_lists_of_different_length(rate, predicted, expected):
    with pytest.raises(ValueError, match=f"predicted: {len(predicted)} words for 0 expected"):
        rate(predicted, expected)


def test_distinct_and_repeated_pairs_by_hand():
    """ab bc ca ab bc, and xy yx: five of seven pairs are distinct; of the first five, two stood there before."""
    assert distinct_ngrams(["abcabc", "xyx"], 2) == 5 / 7
    assert repeated_ngrams(["abcabc", "xyx"], 2) == pytest.approx((2 / 5 + 0) / 2)
    assert repeated_ngrams(["ab", "ab"], 2) == 0 and distinct_ngrams(["ab", "ab"], 2) == 1 / 2
    assert distinct_ngrams([("the", "end"), ("the", "start")], 1) == 3 / 4


@given(st.lists(st.text("abc", min_size=3), min_size=1), st.integers(1, 3))
def test_shares_of_ngrams_lie_between_none_and_all(sequences, n):
    assert 0 < distinct_ngrams(sequences, n) <= 1 and 0 <= repeated_ngrams(sequences, n) < 1
    assert distinct_ngrams(sequences[:1], n) == pytest.approx(1 - repeated_ngrams(sequences[:1], n))


def test_without_ngrams_there_is_no_share():
    with pytest.raises(ValueError, match=r"at least one 3-gram, got \[2, 1\] symbols"):
        distinct_ngrams(["ab", "c"], 3)
    with pytest.raises(ValueError, match="at least one 2-gram"):
        repeated_ngrams(["ab", "c"], 2)
    with pytest.raises(ValueError, match="n must be at least 1, got 0"):
        distinct_ngrams(["ab"], 0)
