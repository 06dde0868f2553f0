"""How good a ranking is when one item is right: its rank, among all items or among a few drawn ones, and what is made of it."""

import torch
from torch import Tensor

from tutorlib.arguments import check_counts


def target_ranks(scores: Tensor, targets: Tensor, excluded: Tensor | None = None) -> Tensor:
    """The rank of each target among all items that are not excluded: (B,) float64, 1 is the best.

    scores (B, I + 1), of which column 0 is no item; targets (B,) from 1 to I; excluded (B, T) items, a history, 0 for none.
    Of items that score as the target does, half count as better: that is its mean rank if ties are broken by chance.
    Raises ValueError for other shapes, a target that is no item or is excluded, and a score that is not a number.
    """
    _check(scores, targets)
    among = torch.ones_like(scores, dtype=torch.bool)
    among[:, 0] = False
    if excluded is not None:
        if len(excluded) != len(targets) or (excluded == targets[:, None]).any():
            raise ValueError(f"excluded must be (B, T) items without the targets, B = {len(targets)}, "
                             f"got {tuple(excluded.shape)}")
        among.scatter_(1, excluded, False)
    return _rank(scores, targets, among)


def sampled_ranks(scores: Tensor, targets: Tensor, excluded: Tensor, negatives: int, generator: torch.Generator) -> Tensor:
    """The rank of each target among itself and `negatives` others, drawn evenly from what is not excluded: (B,) float64.

    A shortcut of many papers, another measure than `target_ranks` (Krichene and Rendle 2020). Arguments and errors as there;
    also ValueError where fewer items than `negatives` are left.
    """
    _check(scores, targets)
    check_counts(negatives=negatives)
    dice = torch.rand(scores.shape, generator=generator)
    dice[:, 0] = -1
    dice.scatter_(1, torch.cat([excluded, targets[:, None]], 1), -1)
    drawn = dice.topk(min(negatives, dice.size(1)), dim=1)  # (B, negatives)
    if negatives > dice.size(1) or (drawn.values < 0).any():
        raise ValueError(f"negatives must be at most the items left beside history and target, got {negatives}")
    among = torch.zeros_like(scores, dtype=torch.bool).scatter(1, drawn.indices, True)
    return _rank(scores, targets, among)


def hits_at(rank: Tensor, k: int) -> Tensor:
    """1 where the target is among the first `k`, else 0: (B,) float64. Its mean is the hit rate, HR@k."""
    check_counts(k=k)
    return (rank <= k).double()


def discounted_gains(rank: Tensor, k: int) -> Tensor:
    """1 / log2(1 + rank) among the first `k`, else 0: (B,) float64. Its mean is NDCG@k where one item is right.

    Source: Järvelin and Kekäläinen 2002. The best ranking of one right item has the gain 1, so nothing is left to divide by.
    """
    return hits_at(rank, k) / (1 + rank.double()).log2()


def gini(counts: Tensor) -> float:
    """How unequal counts (I,) are: 0 where all are equal, 1 - 1/I where one has all.

    The mean difference of two, over twice the mean. Raises ValueError for a negative count, and where all are 0.
    """
    if counts.dim() != 1 or not len(counts) or (counts < 0).any() or not counts.sum() > 0:
        raise ValueError(f"counts must be (I,) numbers of at least 0, one of them more, got {counts}")
    ordered, number = counts.double().sort().values, len(counts)
    place = torch.arange(1, number + 1, dtype=torch.float64)
    return ((2 * place - number - 1) @ ordered / (number * ordered.sum())).item()


def _rank(scores: Tensor, targets: Tensor, among: Tensor) -> Tensor:
    own = scores.gather(1, targets[:, None])  # (B, 1)
    others = among.scatter(1, targets[:, None], False)  # (B, I + 1)
    better, equal = ((scores > own) & others).sum(1), ((scores == own) & others).sum(1)
    return 1 + better.double() + equal.double() / 2


def _check(scores: Tensor, targets: Tensor) -> None:
    if scores.dim() != 2 or targets.shape != scores.shape[:1]:
        raise ValueError(f"scores must be (B, I + 1) and targets (B,), got {tuple(scores.shape)} and {tuple(targets.shape)}")
    if len(targets) and not 1 <= targets.min() <= targets.max() < scores.size(1):
        raise ValueError(f"targets must be items from 1 to {scores.size(1) - 1}, got {targets.min()} to {targets.max()}")
    if scores.isnan().any():
        raise ValueError("scores must be numbers, got NaN")
