"""Edit distance and error rates."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tutorlib.evaluation.sequences import (
    character_error_rate,
    edit_distance,
    phoneme_error_rate,
    rate_error,
    word_edits,
    word_error_rate,
    wrong_word_rate,
)

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


@given(st.lists(st.tuples(st.text("ab ", max_size=8), st.text("ab ", max_size=8)), min_size=1, max_size=5))
def test_word_and_character_error_rates_are_jiwer_s(pairs):
    jiwer = pytest.importorskip("jiwer")
    pairs = [(" ".join(predicted.split()), " ".join(expected.split())) for predicted, expected in pairs if expected.split()]
    if not pairs:
        return
    predicted, expected = map(list, zip(*pairs, strict=True))
    assert word_error_rate(predicted, expected) == pytest.approx(jiwer.wer(expected, predicted))
    assert character_error_rate(predicted, expected) == pytest.approx(jiwer.cer(expected, predicted))


def test_the_rate_s_error_is_that_of_its_texts():
    edits, lengths = torch.tensor([0, 1] * 200), torch.tensor([2, 2] * 200)
    assert rate_error(edits, lengths) == pytest.approx(0.25 / 20, rel=0.1)  # a text's rate is 0 or 1/2
    assert rate_error(torch.ones(5, dtype=torch.long), torch.full((5,), 4)) == 0
    with pytest.raises(ValueError, match=r"edits and lengths must be \(N,\), N at least 2, got \(1,\) and \(1,\)"):
        rate_error(torch.ones(1), torch.ones(1))
    with pytest.raises(ValueError, match="expected must hold at least one word, got 1 empty texts"):
        word_error_rate(["a"], [" "])
    assert word_edits(["a b", "c"], ["a", "c d e"])[0].tolist() == [1, 2]
