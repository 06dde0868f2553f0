"""Kneser-Ney against a case worked by hand and its definition in dictionaries; common substrings against brute force."""

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tutorlib.baselines.ngram import KneserNey, SubstringIndex, encode_windows
from tutorlib.generation import generate

ABACAB = torch.tensor([0, 1, 0, 2, 0, 1])
texts = st.lists(st.integers(0, 3), min_size=6, max_size=60).map(torch.tensor)


def by_definition(text, vocabulary, order):
    """p(w | context) from Chen & Goodman's formulas, with a dictionary for each length."""
    grams = {n: Counter(tuple(text[i:i + n]) for i in range(len(text) - n + 1)) for n in range(1, order + 1)}
    counts = {n: Counter(gram[1:] for gram in grams[n + 1]) for n in range(1, order)} | {order: grams[order]}

    def discount(n, count):
        if count == 0:
            return 0.0
        k, number = min(count, 3), Counter(counts[n].values())
        base = number[1] / (number[1] + 2 * number[2]) if number[1] + number[2] else 0.0
        estimate = k - (k + 1) * base * number[k + 1] / number[k] if number[k] else 0.0
        return estimate if 0 < estimate < k else k / 2

    def p(word, context):
        n = len(context) + 1
        lower = p(word, context[1:]) if context else 1 / vocabulary
        here = [counts[n][(*context, v)] for v in range(vocabulary)]
        if not sum(here):
            return lower
        count = counts[n][(*context, word)]
        share = sum(discount(n, c) for c in here) / sum(here)
        return (count - discount(n, count)) / sum(here) + share * lower
    return p


def test_two_letters_by_hand():
    """a b a c a b: behind a come b twice and c once; before a stand b and c, before b and c only a.

    Bigrams: three occur once, one twice, so the base is 3/5, D_1 = 1 - 2 (3/5) (1/3) = 3/5, and D_2 = 2 is replaced by 1.
    Distinct neighbors: 2, 1, 1 of 4; D_1 = 1/2, D_2 = 1, half of the mass is shared: p_1 = 5/12, 7/24, 7/24.
    Behind a: (2 - 1)/3 and (1 - 3/5)/3, and the rest, 8/15, goes to p_1.
    """
    log = KneserNey(ABACAB, 3, order=2)(torch.tensor([[0]]))
    expected = torch.tensor([8 / 15 * 5 / 12, 1 / 3 + 8 / 15 * 7 / 24, 0.4 / 3 + 8 / 15 * 7 / 24])
    torch.testing.assert_close(log[0, 0].exp(), expected)


@given(texts, st.integers(1, 4), st.data())
def test_is_the_definition(text, order, data):
    model, p = KneserNey(text, 5, order), by_definition(text.tolist(), 5, order)
    tokens = data.draw(st.lists(st.integers(0, 4), min_size=1, max_size=8))  # token 4 never occurs in the text
    expected = [p(token, tuple(tokens[max(0, i - order + 1):i])) for i, token in enumerate(tokens)]
    torch.testing.assert_close(model.score(torch.tensor(tokens)).exp(), torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("counts", [(1, 0, 3, 4), (1, 2, 3, 5), (2, 1, 1, 4), (1, 1, 3, 4), (3, 3, 4, 6)])
def test_discounts_come_from_counts_of_exactly_1_2_3_and_4(counts):
    text = torch.arange(4).repeat_interleave(torch.tensor(counts))
    p = by_definition(text.tolist(), 5, 1)
    expected = torch.tensor([p(token, ()) for token in range(5)], dtype=torch.float64)
    torch.testing.assert_close(KneserNey(text, 5, order=1).score(torch.arange(5)).exp(), expected)


def test_sizes_at_the_edge():
    """The text as long as the order or the window, the largest number of an int64, no token to score; what is not said."""
    assert KneserNey(ABACAB[:2], 3, order=2).order == 2 and SubstringIndex(ABACAB, 3, least=6).longest(ABACAB) == (6, 0, 0)
    assert KneserNey(ABACAB, 2**63 - 1, order=1).order == 1 and KneserNey(ABACAB.repeat(11) % 2, 2, order=62).order == 62
    assert SubstringIndex(ABACAB, 2**63 - 1, least=1).longest(ABACAB) == (6, 0, 0)
    assert KneserNey(ABACAB, 3, order=2).score(ABACAB[:0]).shape == (0,)
    assert KneserNey(ABACAB, 3).order == 5 and SubstringIndex(ABACAB.repeat(2), 3).least == 8


@given(texts, st.integers(1, 5), st.lists(st.lists(st.integers(0, 4), min_size=3, max_size=3), min_size=1, max_size=3))
def test_probabilities_sum_to_one_in_any_context(text, order, contexts):
    p = KneserNey(text, 5, order)(torch.tensor(contexts)).double().exp()  # (B, T, V)
    torch.testing.assert_close(p.sum(-1), torch.ones(len(contexts), 3, dtype=torch.float64), atol=1e-6, rtol=0)
    assert p.min() > 0


@given(texts, st.integers(1, 4), st.lists(st.integers(0, 3), min_size=2, max_size=9))
def test_scores_are_the_entries_of_the_distributions(text, order, tokens):
    model, tokens = KneserNey(text, 4, order), torch.tensor(tokens)
    entries = model(tokens[None, :-1])[0].gather(1, tokens[1:, None]).squeeze(1)
    torch.testing.assert_close(model.score(tokens)[1:].float(), entries)


def test_a_chain_of_pairs_is_learned():
    """The next token is the last plus 1, or with probability 1/4 plus 2: 0.811 bits a token."""
    steps = 1 + (torch.rand(20000, generator=torch.Generator().manual_seed(0)) < 0.25).long()
    text = steps.cumsum(0) % 7
    for order, least, most in ((1, 2.79, 2.82), (2, 0.80, 0.83), (4, 0.80, 0.86)):
        bits = -KneserNey(text[:15000], 7, order).score(text[15000:]).mean().item() / 0.6931472
        assert least < bits < most


def test_it_generates_like_any_model():
    text = torch.arange(50) % 5
    tokens = generate(KneserNey(text, 5, 3), torch.tensor([[2], [4]]), 6, temperature=0, use_cache=False)
    assert tokens.tolist() == [[2, 3, 4, 0, 1, 2, 3], [4, 0, 1, 2, 3, 4, 0]]


def test_windows_are_numbers_in_base_v():
    assert encode_windows(torch.tensor([1, 2, 3, 4]), 10, 2).tolist() == [12, 23, 34]
    assert encode_windows(torch.tensor([[1, 2], [3, 4]]), 10, 2).tolist() == [[12], [34]]
    assert encode_windows(torch.tensor([1, 2]), 10, 3).tolist() == []


@pytest.mark.parametrize("build, message", [
    (lambda: KneserNey(ABACAB, 3, order=0), r"order must be at least 1 .* got 3\^0"),
    (lambda: KneserNey(ABACAB, 72, order=11), r"at most 2\^63 - 1, got 72\^11"),
    (lambda: KneserNey(ABACAB, 2, order=63), r"at most 2\^63 - 1, got 2\^63"),
    (lambda: SubstringIndex(ABACAB, 2, least=63), r"at most 2\^63 - 1, got 2\^63"),
    (lambda: SubstringIndex(ABACAB, 2, least=2), r"tokens must lie in \[0, 2\), got 0 to 2"),
    (lambda: SubstringIndex(ABACAB, 3, least=2).longest(ABACAB + 1), r"tokens must lie in \[0, 3\), got 1 to 3"),
    (lambda: KneserNey(ABACAB, 3, 2).score(ABACAB + 1), r"tokens must lie in \[0, 3\), got 1 to 3"),
    (lambda: KneserNey(ABACAB, 3, 2)(ABACAB[None] + 1), r"tokens must lie in \[0, 3\), got 1 to 3"),
    (lambda: KneserNey(ABACAB.short(), 3), r"integers of the shape \(N,\), got torch.int16 \(6,\)"),
    (lambda: KneserNey(ABACAB, 3.0), "vocabulary must be a whole number, got 3.0"),
    (lambda: KneserNey(ABACAB, 3, order=True), "order must be a whole number, got True"),
    (lambda: SubstringIndex(ABACAB, 3, least=2.0), "least must be a whole number, got 2.0"),
    (lambda: KneserNey(ABACAB, 2), r"tokens must lie in \[0, 2\), got 0 to 2"),
    (lambda: KneserNey(ABACAB.float(), 3), r"integers of the shape \(N,\), got torch.float32 \(6,\)"),
    (lambda: KneserNey(ABACAB[:1], 3, order=2), "at least 2, the order, got 1"),
    (lambda: KneserNey(ABACAB, 3, 2)(ABACAB), r"shape \(B, T\), got \(6,\)"),
    (lambda: SubstringIndex(ABACAB, 3, least=0), r"least must be at least 1 .* got 3\^0"),
    (lambda: SubstringIndex(ABACAB, 3, least=7), "at least 7 tokens, got 6")])
def test_refusals(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@given(texts, st.lists(st.integers(0, 3), max_size=20), st.integers(1, 4))
def test_longest_common_substring_is_that_of_all_pairs(text, piece, least):
    text, found = text.tolist(), SubstringIndex(text, 4, least).longest(torch.tensor(piece, dtype=torch.int64))
    common = [(j - i, i) for i in range(len(piece)) for j in range(i + 1, len(piece) + 1)
              if any(text[k:k + j - i] == piece[i:j] for k in range(len(text)))]
    length, start, place = found
    assert length == max((n for n, _ in common if n >= least), default=0)
    assert text[place:place + length] == piece[start:start + length]
    if length:
        assert start == min(i for n, i in common if n == length)


def test_a_common_piece_may_reach_the_end_of_both():
    assert SubstringIndex(ABACAB, 3, least=2).longest(torch.tensor([1, 1, 0, 2, 0, 1])) == (5, 1, 1)


def test_a_copied_sentence_is_found_where_it_stands():
    text = torch.randint(26, (5000,), generator=torch.Generator().manual_seed(0))
    piece = torch.cat([torch.full((7,), 3), text[1200:1240], torch.full((5,), 4)])
    length, start, place = SubstringIndex(text, 26).longest(piece)
    assert length >= 40 and (start, place) == (7 - (1200 - place), place) and place <= 1200


def test_int32_tokens_give_what_int64_tokens_give():
    """A row of 20 tokens in base 7 is more than an int32 holds."""
    tokens = torch.randint(7, (200,), generator=torch.Generator().manual_seed(0))
    wide, narrow = KneserNey(tokens, 7, order=20), KneserNey(tokens.int(), 7, order=20)
    assert torch.equal(narrow.score(tokens[:50].int()), wide.score(tokens[:50]))
    assert torch.equal(narrow(tokens[None, :9].int()), wide(tokens[None, :9]))
    assert SubstringIndex(tokens.int(), 7, least=20).longest(tokens[30:60].int()) == (30, 0, 30)
