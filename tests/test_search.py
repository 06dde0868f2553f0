"""Search: BM25 is that of a library, vectors do not depend on their batch, cells lose nothing when all are opened."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tutorlib.search import (
    BM25,
    InvertedFile,
    embed,
    k_means,
    plain_words,
    reciprocal_ranks,
    sentences_of,
    z_scores,
)

WORDS = st.lists(st.sampled_from("alpha beta gamma delta epsilon zeta".split()), min_size=1, max_size=12).map(" ".join)
SOME = torch.nn.functional.normalize(torch.randn(300, 8, generator=torch.Generator().manual_seed(0)), dim=1)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@settings(max_examples=40, deadline=None)
@given(st.lists(WORDS, min_size=1, max_size=8), WORDS, st.floats(0.1, 3), st.floats(0, 1))
def test_bm25_is_that_of_the_library(texts, question, k1, b):
    bm25s = pytest.importorskip("bm25s")
    theirs = bm25s.BM25(k1=k1, b=b, method="lucene", dtype="float64")
    theirs.index([plain_words(text) for text in texts], show_progress=False)
    asked = [word for word in plain_words(question) if any(word in text.split() for text in texts)]
    ours = BM25(texts, k1, b)(question)
    expected = torch.tensor(theirs.get_scores(asked)) if asked else torch.zeros(len(texts))
    torch.testing.assert_close(ours, expected.double(), rtol=1e-6, atol=1e-6)


def test_bm25_by_hand():
    scores = BM25(["the cat", "the dog", "the dog and the dog"], k1=1, b=0)("dog dog owl")
    rarity = math.log(1 + 1.5 / 2.5)
    torch.testing.assert_close(scores, 2 * rarity * torch.tensor([0, 1 / 2, 2 / 3], dtype=torch.float64))


def test_a_repeated_word_saturates_and_a_longer_text_counts_less():
    short, often, long = BM25(["dog", "dog dog dog dog", "dog a b c d e f g", "cat"])("dog")[:3]
    assert short < often < 2.5 * short and long < short


def test_words_and_sentences():
    assert plain_words("Top-p: 0.9, naïve?") == ["top", "p", "0", "9", "naïve"]
    assert sentences_of("It is .5 of all. Why? Because it is 3.5 times. e.g. this") == [
        "It is .5 of all.", "Why?", "Because it is 3.5 times. e.g. this"]
    assert sentences_of("  ") == []


class Mean(torch.nn.Module):
    """A model whose states are its tokens, and its tokenizer: what `embed` asks of both."""

    def forward(self, tokens, mask):
        return torch.stack([tokens.float(), tokens.float() ** 2, torch.ones_like(tokens).float()], dim=-1)

    def pool(self, states, mask):
        return (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)

    def read(self, texts, max_length):
        rows = [[len(word) for word in text.split()][:max_length] for text in texts]
        longest = max(map(len, rows))
        return {"tokens": torch.tensor([row + [99] * (longest - len(row)) for row in rows]),
                "attention_mask": torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])}


def test_vectors_come_in_the_order_of_the_texts_whatever_the_batch():
    model = Mean()
    texts = ["a bb", "a bb ccc dddd", "eeeee", "a a a a a a"]
    alone = torch.cat([embed(model, model.read, [text]) for text in texts])
    for batch in (1, 2, 32):
        torch.testing.assert_close(embed(model, model.read, texts, batch), alone)
    torch.testing.assert_close(alone.norm(dim=1), torch.ones(4))


def test_scores_that_are_standardized_have_one_mean_and_one_spread():
    scores = torch.tensor([[1.0, 2, 3, 4], [5, 5, 5, 5]], dtype=torch.float64)
    found = z_scores(scores)
    torch.testing.assert_close(found[0], (scores[0] - 2.5) / 1.25**0.5)
    assert (found[1] == 0).all()
    torch.testing.assert_close(z_scores(7 * scores[0] + 3), found[0])


def test_reciprocal_ranks_see_the_order_alone():
    assert reciprocal_ranks(torch.tensor([3.0, 9.0, 1.0]), k=1).tolist() == [1 / 3, 1 / 2, 1 / 4]
    assert torch.equal(reciprocal_ranks(SOME[0]), reciprocal_ranks(SOME[0].exp()))


def test_centers_are_means_of_what_is_nearest_to_them():
    centers = k_means(SOME, 5, generator(), rounds=100)
    nearest = (SOME @ centers.T).argmax(1)
    for cell in range(5):
        mean = torch.nn.functional.normalize(SOME[nearest == cell].mean(0), dim=0)
        torch.testing.assert_close(centers[cell], mean, atol=1e-5, rtol=0)


@pytest.mark.parametrize("cells", [1, 7, 300])
def test_all_cells_opened_is_exact(cells):
    index = InvertedFile(SOME, cells, generator())
    assert sorted(torch.cat(index.lists).tolist()) == list(range(300))
    for query in SOME[:20] + 0.1:
        found, compared = index(query, 10, cells)
        assert torch.equal(found, (SOME @ query).topk(10).indices) and compared == cells + 300


def test_fewer_cells_cost_less_and_find_themselves():
    index = InvertedFile(SOME, 10, generator())
    for place in range(0, 300, 10):
        found, compared = index(SOME[place], 3, 1)
        assert found[0] == place and compared < 310
    assert all(index(SOME[0], 3, probe)[1] <= index(SOME[0], 3, probe + 1)[1] for probe in range(1, 10))


def test_refusals():
    with pytest.raises(ValueError, match="texts must hold at least one text, got none"):
        BM25([])
    with pytest.raises(ValueError, match="k1 must be a number of at least 0, got -1"):
        BM25(["a"], k1=-1)
    with pytest.raises(ValueError, match="b must lie from 0 to 1, got 2"):
        BM25(["a"], b=2)
    with pytest.raises(ValueError, match="texts must hold at least one text, got none"):
        embed(None, None, [])
    with pytest.raises(ValueError, match="cells must be at most the number of vectors, 300, got 301"):
        k_means(SOME, 301, generator())
    with pytest.raises(ValueError, match="probe must be at most the number of cells, 4, got 5"):
        InvertedFile(SOME, 4, generator())(SOME[0], 3, 5)
    with pytest.raises(ValueError, match="k must be at least 0, got -1"):
        reciprocal_ranks(SOME, -1)
