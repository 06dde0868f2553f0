"""ROUGE: cases computed by hand (the usual library is no longer kept), and what it cannot see."""

import random
from itertools import combinations

import pytest

from tutorlib.evaluation.summarization import longest_common_subsequence, rouge_l, rouge_n, rouge_words


def test_by_hand():
    assert rouge_n("the cat sat", "the cat slept here") == pytest.approx(2 * 2 / 7)
    assert rouge_n("the cat sat", "the cat slept here", 2) == pytest.approx(2 * 1 / 5)
    assert rouge_l("police killed the gunman", "police kill the gunman") == pytest.approx(3 / 4)  # Lin 2004, section 3
    assert rouge_l("the gunman kill police", "police killed the gunman") == pytest.approx(2 / 4)
    assert rouge_n("the the the", "the cat") == pytest.approx(2 * 1 / 5)  # each as often as both have it
    assert rouge_l("", "the cat") == rouge_n("", "") == rouge_n("one", "one two", 2) == 0


def test_words_are_small_letters_and_digits():
    assert rouge_words("Set :attr:`lr_max`, 3x!") == ["set", "attr", "lr", "max", "3x"]
    assert rouge_l("LOAD the State.", "load the state") == 1


def by_trying(first, second):
    kept = [tuple(first[i] for i in places) for n in range(len(first) + 1) for places in combinations(range(len(first)), n)]
    also = {tuple(second[i] for i in places) for n in range(len(second) + 1) for places in combinations(range(len(second)), n)}
    return max(len(each) for each in kept if each in also)


def test_the_longest_common_subsequence_is_that_of_trying_all():
    draw = random.Random(0)
    for _ in range(60):
        one, other = ([draw.choice("abc") for _ in range(draw.randint(0, 7))] for _ in range(2))
        assert longest_common_subsequence(one, other) == by_trying(one, other)


def test_a_negation_hardly_counts():
    line = "do not close the files of the folder"
    assert rouge_l(line.replace("not ", ""), line) > 0.9


def test_refuses_runs_of_nothing():
    with pytest.raises(ValueError, match="n must be"):
        rouge_n("a", "a", 0)
