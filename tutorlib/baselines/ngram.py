"""What counting achieves on text: an n-gram language model with the best smoothing known for it, and a test for copying.

Contexts and n-grams are numbers in base V, so that counting is sorting and looking up is a binary search.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from tutorlib.arguments import check_whole

LARGEST = 2**63 - 1  # of an int64


class _Level(NamedTuple):
    """All that the text says about n-grams of one length, ascending: G grams in C contexts of n - 1 tokens."""

    grams: Tensor  # (G,)
    kept: Tensor  # (G,): counts less their discounts
    contexts: Tensor  # (C,)
    totals: Tensor  # (C,): sum of the counts in a context
    lower: Tensor  # (C,): the share that the discounts leave to the next shorter context


class KneserNey:
    """An n-gram model, interpolated, with modified Kneser-Ney smoothing (Chen & Goodman 1999, section 4.1.6).

    tokens (N,) are the text, integers in [0, vocabulary); `order` is n, so that a token is predicted from the n - 1 before it:

        p_n(w | h) = max(c(h w) - D, 0) / c(h) + lower(h) p_{n-1}(w | h without its first token)

    D depends on whether c(h w) is 1, 2 or more, and is estimated from the text; lower(h) is what the discounts took, so that
    the probabilities sum to 1. Below order n, c counts the distinct tokens seen before a gram, not its occurrences. p_0 is
    uniform. A context never seen leaves all to the next shorter one.
    Raises ValueError where the arguments do not fit, or vocabulary^order exceeds an int64. Tokens may be int32.
    """

    def __init__(self, tokens: Tensor, vocabulary: int, order: int = 5):
        _check_base("order", order, vocabulary)
        _check_text(tokens, vocabulary)
        if len(tokens) < order:
            raise ValueError(f"tokens must be at least {order}, the order, got {len(tokens)}")
        self.vocabulary, self.order, self.levels = vocabulary, order, []
        grams, counts = encode_windows(tokens, vocabulary, order).unique(return_counts=True)  # (G,) each
        for length in range(order, 0, -1):
            self.levels.insert(0, _level(grams, counts, vocabulary))
            if length > 1:
                first = encode_windows(tokens[:length], vocabulary, length)  # (1,): nothing stands before it, but it is a gram
                distinct = torch.cat([grams, first]).unique()
                grams, counts = (distinct % vocabulary ** (length - 1)).unique(return_counts=True)  # the first token cut off

    def score(self, tokens: Tensor) -> Tensor:
        """Log probability in nats of each token (N,) given up to n - 1 tokens before it: (N,), float64."""
        _check_text(tokens, self.vocabulary)
        p = torch.full(tokens.shape, 1 / self.vocabulary, dtype=torch.float64, device=tokens.device)  # (N,)
        for length, level in enumerate(self.levels, start=1):
            grams = encode_windows(tokens, self.vocabulary, length)  # (N - length + 1,); the first tokens keep what they have
            p[length - 1:] = _interpolate(level, grams // self.vocabulary, grams, p[length - 1:])
        return p.log()

    def __call__(self, tokens: Tensor) -> Tensor:
        """Log probabilities of every next token, as a language model gives its logits: tokens (B, T) -> (B, T, V), float32."""
        if tokens.dim() != 2:
            raise ValueError(f"tokens must have the shape (B, T), got {tuple(tokens.shape)}")
        _check_text(tokens.flatten(), self.vocabulary)
        p = torch.full((*tokens.shape, self.vocabulary), 1 / self.vocabulary, dtype=torch.float64, device=tokens.device)
        every = torch.arange(self.vocabulary, device=tokens.device)  # (V,)
        for length, level in enumerate(self.levels, start=1):
            if length - 1 <= tokens.size(1):
                contexts = encode_windows(tokens, self.vocabulary, length - 1)  # (B, T - length + 2), from 1 token on (B, T)
                contexts = contexts[:, -tokens.size(1):, None]  # (B, T', 1)
                grams = contexts * self.vocabulary + every  # (B, T', V)
                seen = slice(tokens.size(1) - contexts.size(1), None)
                p[:, seen] = _interpolate(level, contexts.expand_as(grams), grams, p[:, seen])
        return p.log().float()


class SubstringIndex:
    """Finds what a piece of text has word for word in common with a long one.

    text (N,) integers in [0, vocabulary). Every window of `least` tokens is listed once, sorted; a common piece is found by
    its first `least` tokens and then read on.
    Raises ValueError where vocabulary^least exceeds an int64 or the text is shorter than `least`.
    """

    def __init__(self, text: Tensor, vocabulary: int, least: int = 8):
        _check_base("least", least, vocabulary)
        _check_text(text, vocabulary)
        if len(text) < least:
            raise ValueError(f"text must have at least {least} tokens, got {len(text)}")
        self.text, self.vocabulary, self.least = text, vocabulary, least
        self.windows, self.places = encode_windows(text, vocabulary, least).sort()

    def longest(self, piece: Tensor) -> tuple[int, int, int]:
        """The longest substring that piece (M,) shares with the text: (length, its place in the piece, in the text).

        (0, 0, 0) where the two share no `least` tokens in a row. Of equally long ones the first in the piece.
        """
        _check_text(piece, self.vocabulary)  # in base V another token would be taken for a row of others
        wanted = encode_windows(piece, self.vocabulary, self.least)  # (M - least + 1,)
        first, behind = torch.searchsorted(self.windows, wanted), torch.searchsorted(self.windows, wanted, right=True)
        start = torch.arange(len(wanted), device=piece.device).repeat_interleave(behind - first)  # (P,): every pair of places
        offset = (behind - first).cumsum(0) - behind  # (M - least + 1,): from a pair's number to its window's, negated
        place = self.places[torch.arange(len(start), device=piece.device) - offset[start]]  # (P,)
        if not len(start):
            return 0, 0, 0
        length = self.least
        while True:  # read on by one token, and keep the pairs that agree
            room = (start + length < len(piece)) & (place + length < len(self.text))
            ahead = start[room] + length, place[room] + length
            same = piece[ahead[0]] == self.text[ahead[1]]
            if not same.any():
                return length, start[0].item(), place[0].item()
            start, place, length = ahead[0][same] - length, ahead[1][same] - length, length + 1


def encode_windows(tokens: Tensor, vocabulary: int, length: int) -> Tensor:
    """Each window of `length` tokens as one number in base V: (..., N) -> (..., N - length + 1). None has length 0: zeros."""
    count = tokens.size(-1) - length + 1
    codes = torch.zeros((*tokens.shape[:-1], max(count, 0)), dtype=torch.int64, device=tokens.device)
    for place in range(length):
        codes = codes * vocabulary + tokens[..., place:place + codes.size(-1)]
    return codes


def _level(grams: Tensor, counts: Tensor, vocabulary: int) -> _Level:
    taken = discounts(counts)[counts.clamp(max=3)]  # (G,)
    contexts, owner = (grams // vocabulary).unique_consecutive(return_inverse=True)  # (C,), (G,)
    sums = torch.zeros(2, len(contexts), dtype=torch.float64, device=grams.device)
    sums.index_add_(1, owner, torch.stack([counts.double(), taken]))  # (2, C)
    return _Level(grams, counts - taken, contexts, sums[0], sums[1] / sums[0])


def discounts(counts: Tensor) -> Tensor:
    """What is taken from a count of 0, 1, 2 and from 3 on: (4,), given how often each gram occurs, (G,).

    Chen & Goodman (1999), equation 17, from counts of counts.

    Where a text is too small for the estimate, half of the count is taken.
    """
    number = torch.bincount(counts.clamp(max=5), minlength=6).tolist()  # how many grams occur 1, 2, 3, 4 times
    base = number[1] / max(number[1] + 2 * number[2], 1)
    estimates = [k - (k + 1) * base * number[k + 1] / number[k] if number[k] else 0.0 for k in (1, 2, 3)]
    taken = [d if 0 < d < k else k / 2 for k, d in zip((1, 2, 3), estimates, strict=True)]
    return torch.tensor([0.0, *taken], dtype=torch.float64, device=counts.device)


def _interpolate(level: _Level, contexts: Tensor, grams: Tensor, lower: Tensor) -> Tensor:
    """p(gram's last token | context), given `lower`, the same with the context's first token cut off; all of one shape."""
    place, known = _find(level.contexts, contexts)
    column, seen = _find(level.grams, grams)
    own = level.kept[column].masked_fill(~seen, 0.0) / level.totals[place]
    return torch.where(known, own + level.lower[place] * lower, lower)


def _find(ascending: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Where each wanted number stands in an ascending list, and whether it does."""
    place = torch.searchsorted(ascending, wanted.contiguous()).clamp(max=len(ascending) - 1)
    return place, ascending[place] == wanted


def _check_base(name: str, length: int, vocabulary: int) -> None:
    check_whole("vocabulary", vocabulary, least=0)  # as floats, large numbers in base V would be rounded
    check_whole(name, length, least=0)
    if length < 1 or vocabulary < 1 or vocabulary**length > LARGEST:
        raise ValueError(f"{name} must be at least 1 and vocabulary^{name} at most 2^63 - 1, got {vocabulary}^{length}")


def _check_text(tokens: Tensor, vocabulary: int) -> None:
    if tokens.dim() != 1 or tokens.dtype not in (torch.int64, torch.int32):
        raise ValueError(f"tokens must be integers of the shape (N,), got {tokens.dtype} {tuple(tokens.shape)}")
    if len(tokens) and not 0 <= tokens.min() <= tokens.max() < vocabulary:
        raise ValueError(f"tokens must lie in [0, {vocabulary}), got {tokens.min()} to {tokens.max()}")
