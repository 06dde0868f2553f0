"""chrF and BLEU: equal to sacrebleu on drawn inputs, right on cases by hand, and refused where they mean nothing."""

import math
import random

import pytest
import sacrebleu

from tutorlib.evaluation.translation import bleu, chrf, n_grams

LETTERS = "ab c保存。"


def drawn(count, symbols, longest, least=0, seed=0):
    draw = random.Random(seed)
    return [[draw.choice(symbols) for _ in range(draw.randint(least, longest))] for _ in range(count)]


@pytest.mark.parametrize("seed", range(3))
def test_chrf_is_that_of_sacrebleu(seed):
    ours, theirs = drawn(200, LETTERS, 14, seed=seed), drawn(200, LETTERS, 14, least=1, seed=seed + 9)
    for one, other in zip(map("".join, ours), map("".join, theirs), strict=True):
        if other.strip():
            assert chrf(one, other) == pytest.approx(sacrebleu.sentence_chrf(one, [other]).score, abs=1e-9)


@pytest.mark.parametrize("longest, beta", [(1, 1.0), (3, 1.0), (6, 3.0)])
def test_chrf_of_other_lengths_and_betas_is_that_of_sacrebleu(longest, beta):
    for one, other in zip(map("".join, drawn(50, "abc", 9, 1)), map("".join, drawn(50, "abc", 9, 1, 5)), strict=True):
        theirs = sacrebleu.CHRF(char_order=longest, beta=beta).sentence_score(one, [other]).score
        assert chrf(one, other, longest=longest, beta=beta) == pytest.approx(theirs, abs=1e-9)


def test_chrf_by_hand():
    assert chrf("保存", "保存") == 100
    # n = 1: 1 of 2 and 1 of 3; n = 2: none. P = 1/4, R = 1/6
    assert chrf("ab", "acd") == pytest.approx(100 * 5 * (1 / 4) * (1 / 6) / (4 / 4 + 1 / 6))
    assert chrf("a b", "ab") == 100  # blanks do not count
    assert chrf("", "ab") == chrf("x", "ab") == 0
    assert chrf("aaaa", "a", longest=1) < 100  # each as often as both have it


@pytest.mark.parametrize("seed", range(4))
def test_bleu_is_that_of_sacrebleu(seed):
    ours, theirs = drawn(40, "abc", 12, 2, seed), drawn(40, "abc", 15, 2, seed + 50)
    expected = sacrebleu.corpus_bleu([" ".join(a) for a in ours], [[" ".join(b) for b in theirs]], tokenize="none",
                                     smooth_method="none", force=True).score
    assert expected > 1
    assert bleu(ours, theirs) == pytest.approx(expected, abs=1e-9)


def test_bleu_by_hand():
    reference = "a b c d e".split()
    assert bleu([reference], [reference]) == pytest.approx(100)
    assert bleu([reference[:4]], [reference]) == pytest.approx(100 * math.exp(1 - 5 / 4))  # brief
    assert bleu(["a b c x".split()], [reference]) == 0  # no four words in common
    assert bleu(["a a a".split()], ["a b c".split()], longest=1) == pytest.approx(100 / 3)  # one a, and no more


def test_n_grams_are_counted():
    assert n_grams("abab", 2) == {("a", "b"): 2, ("b", "a"): 1}
    assert not n_grams("ab", 3)


def test_refusals():
    with pytest.raises(ValueError, match="n must be"):
        n_grams("ab", 0)
    with pytest.raises(ValueError, match="beta must be above 0, got 0"):
        chrf("a", "a", beta=0)
    with pytest.raises(ValueError, match="longest"):
        chrf("a", "a", longest=0)
    with pytest.raises(ValueError, match="translations: 1 texts for 2 references"):
        bleu([["a"]], [["a"], ["b"]])
    with pytest.raises(ValueError, match="at least 1"):
        bleu([], [])
