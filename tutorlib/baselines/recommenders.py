"""What counting and one factorization get in recommendation: popularity, neighbors, transitions, implicit factors.

Each is made of histories (U, T), oldest first, items from 1 to I, rows filled with 0 on the left, and is then called with
histories (B, T) of anybody, not only of those users: -> scores (B, I + 1), of which column 0 means nothing.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from tutorlib.arguments import check_counts


class Popularity:
    """score(j) = how often j was chosen: the same for everybody."""

    def __init__(self, histories: Tensor, items: int):
        self.counts = _counts(histories, items)  # (I + 1,)

    def __call__(self, histories: Tensor) -> Tensor:
        return self.counts.expand(len(histories), -1)  # (B, I + 1)


class Neighbors:
    """Items that the same people chose: score(j) = sum of cosine(i, j) over the items i of the history.

    cosine(i, j) = users of both / sqrt(users of i * users of j) (Sarwar et al. 2001), with `shrink` added to the root, which
    damps what few users say; over the last `window` items where given.
    """

    def __init__(self, histories: Tensor, items: int, *, shrink: float = 0.0, window: int | None = None):
        check_counts(window=window)
        _check_least("shrink", shrink)
        chosen = indicators(histories, items)  # (U, I + 1)
        both = chosen.T @ chosen  # (I + 1, I + 1)
        norm = both.diagonal().sqrt()  # (I + 1,)
        self.cosine = both / (norm[:, None] * norm + shrink).clamp(min=1e-9)
        self.cosine.fill_diagonal_(0.0)
        self.window = window

    def __call__(self, histories: Tensor) -> Tensor:
        recent = histories if self.window is None else histories[:, -self.window:]
        return indicators(recent, len(self.cosine) - 1) @ self.cosine  # (B, I + 1)


class Transitions:
    """What came next: score(j) = (count of j right after i + prior * share of j) / (count of i + prior), i the last item.

    A bigram model over items. `share` is popularity's, or of any other recommender that is given as `back_off` (its scores, at
    least 0, divided by their sum); `prior` is how many transitions it is worth.
    """

    def __init__(self, histories: Tensor, items: int, *, prior: float = 10.0,
                 back_off: Callable[[Tensor], Tensor] | None = None):
        if not prior > 0:
            raise ValueError(f"prior must be a positive number, got {prior}")
        _check_histories(histories, items)
        before, after = histories[:, :-1].flatten(), histories[:, 1:].flatten()
        real = (before > 0) & (after > 0)
        self.pairs = torch.zeros(items + 1, items + 1)
        self.pairs.index_put_((before[real], after[real]), torch.ones(int(real.sum())), accumulate=True)
        self.prior, self.back_off = prior, Popularity(histories, items) if back_off is None else back_off

    def __call__(self, histories: Tensor) -> Tensor:
        share = self.back_off(histories)  # (B, I + 1)
        share = share / share.sum(1, keepdim=True).clamp(min=1e-9)
        counts = self.pairs[histories[:, -1]]  # (B, I + 1), none after nothing
        return (counts + self.prior * share) / (counts.sum(1, keepdim=True) + self.prior)


class Factorization:
    """User times item, fitted to what was chosen and, less, to all that was not (Hu, Koren and Volinsky 2008): implicit ALS.

    Minimizes sum of c_uj (r_uj - x_u . y_j)^2 + penalty * (x . x + y . y), r = 1 where chosen, else 0, and the confidence
    c = 1 + weight * r, alternately over users and items, each a least-squares problem with a closed form. A history that was
    not trained on gets its x by the same formula.
    """

    def __init__(self, histories: Tensor, items: int, *, factors: int = 16, weight: float = 10.0, penalty: float = 1.0,
                 sweeps: int = 8, generator: torch.Generator):
        check_counts(factors=factors, sweeps=sweeps)
        _check_least("weight", weight)
        if not penalty > 0:
            raise ValueError(f"penalty must be a positive number, got {penalty}")
        self.weight, self.penalty = weight, penalty
        chosen = indicators(histories, items)  # (U, I + 1)
        self.items = 0.1 * torch.randn(items + 1, factors, generator=generator)  # (I + 1, factors)
        for _ in range(sweeps):
            users = least_squares(chosen, self.items, weight, penalty)  # (U, factors)
            self.items = least_squares(chosen.T, users, weight, penalty)

    def __call__(self, histories: Tensor) -> Tensor:
        return self.embed(histories) @ self.items.T  # (B, I + 1)

    def embed(self, histories: Tensor) -> Tensor:
        """The user vectors x (B, factors) of histories (B, T)."""
        return least_squares(indicators(histories, len(self.items) - 1), self.items, self.weight, self.penalty)


def least_squares(chosen: Tensor, fixed: Tensor, weight: float, penalty: float) -> Tensor:
    """For each row of `chosen` (R, C) of 0 and 1 the x that minimizes sum of (1 + weight r) (r - x . fixed)^2 + penalty x . x.

    fixed (C, factors) -> (R, factors): x = (Y'Y + weight sum_chosen y y' + penalty 1)^-1 (1 + weight) sum_chosen y.
    """
    gram = fixed.T @ fixed + penalty * torch.eye(fixed.size(1), dtype=fixed.dtype)  # (factors, factors)
    squares = (fixed[:, :, None] * fixed[:, None, :]).flatten(1)  # (C, factors^2)
    left = gram + weight * (chosen @ squares).view(-1, *gram.shape)  # (R, factors, factors)
    return torch.linalg.solve(left, (1 + weight) * (chosen @ fixed))  # (R, factors)


def indicators(histories: Tensor, items: int) -> Tensor:
    """1 where the row has chosen the item: (B, T) -> (B, I + 1) float32, column 0 empty. Raises ValueError for other items."""
    _check_histories(histories, items)
    found = torch.zeros(len(histories), items + 1)
    found.scatter_(1, histories, 1.0)
    found[:, 0] = 0.0
    return found


def _counts(histories: Tensor, items: int) -> Tensor:
    _check_histories(histories, items)
    counts = torch.bincount(histories.flatten(), minlength=items + 1).float()  # (I + 1,)
    counts[0] = 0.0
    return counts


def _check_histories(histories: Tensor, items: int) -> None:
    check_counts(items=items)
    if histories.dim() != 2 or histories.dtype != torch.long or not histories.numel():
        raise ValueError(f"histories must be integers (U, T), at least one, got {histories.dtype} {tuple(histories.shape)}")
    if not 0 <= histories.min() <= histories.max() <= items:
        raise ValueError(f"histories must hold items from 1 to {items}, and 0 for none, got {histories.min()} to "
                         f"{histories.max()}")


def _check_least(name: str, value: float) -> None:
    if not value >= 0:
        raise ValueError(f"{name} must be a number of at least 0, got {value}")
