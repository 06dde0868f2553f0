"""The loss of a language model on a text, on models whose loss is known; n-grams of what it writes."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tutorlib.evaluation.language import TokenLoss, distinct_ngrams, mean_token_loss, repeated_ngrams, stream_windows


class Sums(nn.Module):
    """A model that looks back: the logits of a position are a table's row for the sum of all tokens up to it."""

    def __init__(self, vocabulary=5):
        super().__init__()
        self.dropout = nn.Dropout(0.5)
        self.table = torch.randn(vocabulary, vocabulary, generator=torch.Generator().manual_seed(0))

    def forward(self, tokens):
        return self.dropout(self.table[tokens.cumsum(1) % len(self.table)])


def text(count):
    return torch.randint(5, (count,), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("together", [1, 4, 9, 2048])
@pytest.mark.parametrize("count", [2, 3, 4, 5, 6, 8, 9, 10, 30])
def test_each_token_but_the_first_is_predicted_once_in_its_window(count, together):
    """Windows of 4: none whole, just one, one and a part, several."""
    model, tokens = Sums(), text(count)
    batches = stream_windows(tokens, 4, together=together)
    assert torch.cat([targets.flatten() for _, targets in batches]).tolist() == tokens[1:].tolist()
    assert all(inputs.shape == targets.shape and 0 < inputs.numel() <= max(together, 4) for inputs, targets in batches)
    expected = [F.cross_entropy(model.table[tokens[i // 4 * 4:i + 1].sum() % 5], tokens[i + 1]) for i in range(count - 1)]
    found = mean_token_loss(model, batches)
    assert found.nats == pytest.approx(torch.stack(expected).mean().item(), rel=1e-5) and found.tokens == count - 1


def test_the_mean_weighs_tokens_and_not_batches():
    model, batches = Sums(), stream_windows(text(6), 4)
    parts = [mean_token_loss(model, [batch]) for batch in batches]
    assert [part.tokens for part in parts] == [4, 1]
    assert mean_token_loss(model, batches).nats == pytest.approx((4 * parts[0].nats + parts[1].nats) / 5)


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_is_put_back(training):
    model = Sums().train(training)
    assert mean_token_loss(model, stream_windows(text(30), 4)) == mean_token_loss(Sums().eval(), stream_windows(text(30), 4))
    assert model.training is training


def test_int32_tokens_and_low_precision():
    assert mean_token_loss(Sums(), stream_windows(text(30).int(), 4)) == mean_token_loss(Sums(), stream_windows(text(30), 4))
    low, rounded = Sums(), Sums()
    low.table = low.table.bfloat16()
    rounded.table = low.table.float()
    assert mean_token_loss(low, stream_windows(text(30), 4)) == mean_token_loss(rounded, stream_windows(text(30), 4))


def test_perplexity_and_bits_by_hand():
    """Of 8 equally probable tokens the perplexity is 8; where each spells 1.5 characters, a character takes 3 / 1.5 bits."""
    loss = TokenLoss(math.log(8), 6)
    assert loss.perplexity == pytest.approx(8) and loss.bits_a_character(9) == pytest.approx(2)
    assert TokenLoss(1000.0, 1).perplexity == math.inf


def test_what_has_no_loss_is_refused():
    for tokens in (text(1), text(0), text(6).view(2, 3)):
        with pytest.raises(ValueError, match=r"tokens must have the shape \(N,\) with N at least 2"):
            stream_windows(tokens, 4)
    with pytest.raises(ValueError, match="length must be at least 1, got 0"):
        stream_windows(text(9), 0)
    with pytest.raises(ValueError, match="batches must hold at least one token to predict, got none"):
        mean_token_loss(Sums(), [])
    with pytest.raises(ValueError, match=r"targets must lie in \[0, 5\)"):
        mean_token_loss(Sums(), [(text(4)[None], torch.tensor([[1, 2, -100, 3]]))])
    with pytest.raises(ValueError, match="characters must be at least 1, got 0"):
        TokenLoss(1.0, 1).bits_a_character(0)
    model = Sums()
    model.table[3, 0] = torch.nan
    with pytest.raises(FloatingPointError, match="the loss is nan over 29 tokens"):
        mean_token_loss(model, stream_windows(text(30), 4))
    assert model.training


# Text

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


def test_the_ngrams_of_a_tensor_are_those_of_its_numbers():
    rows = torch.tensor([[1, 2, 1, 2], [3, 3, 3, 3]])
    assert distinct_ngrams(rows, 1) == distinct_ngrams(rows.tolist(), 1) == 3 / 8
    assert repeated_ngrams([*rows], 1) == repeated_ngrams(rows.tolist(), 1) == pytest.approx((2 / 4 + 3 / 4) / 2)


def test_wrong_ngrams_are_refused():
    for share in (distinct_ngrams, repeated_ngrams):
        with pytest.raises(ValueError, match="sequences must be a list of at least one sequence, got 'abab'"):
            share("abab", 1)  # each letter would be a sequence that never repeats itself
        with pytest.raises(ValueError, match=r"sequences must be a list of at least one sequence, got \[\]"):
            share([], 1)
        for n in (2.0, True):
            with pytest.raises(ValueError, match=f"n must be a whole number, got {n}"):
                share(["abab"], n)
