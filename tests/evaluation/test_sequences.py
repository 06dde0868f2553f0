"""Edit distance and error rates."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

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


def test_words_without_phonemes_have_no_rate():
    with pytest.raises(ValueError, match="expected must hold at least one phoneme, got 2 empty words"):
        phoneme_error_rate([("K",), ()], [(), ()])
    assert phoneme_error_rate([("K",), ()], [(), ("K",)]) == 2 and wrong_word_rate([("K",), ()], [(), ()]) == 1 / 2
