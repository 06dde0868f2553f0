"""How good a search is: the rank of the first right passage, the share of questions that find one among the first k, MRR.

With several right passages a question counts as answered by any of them, as papers on question answering count
(top-k accuracy; they also call it recall at k). Source of MRR: Voorhees 1999.
"""

import torch
from torch import Tensor

from tutorlib.arguments import check_whole


def first_ranks(scores: Tensor, relevant: Tensor) -> Tensor:
    """scores (Q, N), relevant (Q, N) of bool -> the rank (Q,) of the best right passage, from 1; a tie counts against it.

    Raises ValueError for other shapes, and for a question without a right passage.
    """
    if scores.dim() != 2 or scores.shape != relevant.shape or relevant.dtype != torch.bool:
        raise ValueError(f"scores and relevant must both have the shape (Q, N), relevant of bool, got {tuple(scores.shape)} "
                         f"and {relevant.dtype} {tuple(relevant.shape)}")
    if not relevant.any(dim=1).all():
        raise ValueError("relevant must hold a right passage for each question, "
                         f"got none for question {int((~relevant.any(dim=1)).nonzero()[0])}")
    best = scores.masked_fill(~relevant, -torch.inf).amax(dim=1, keepdim=True)  # (Q, 1)
    return ((scores >= best) & ~relevant).sum(dim=1) + 1


def recall_at(ranks: Tensor, k: int) -> float:
    """The share of ranks (Q,) that are at most k."""
    check_whole("k", k)
    return (_checked(ranks) <= k).double().mean().item()


def mean_reciprocal_rank(ranks: Tensor) -> float:
    """The mean of 1 / rank over ranks (Q,): 1 where the first passage is always right."""
    return (1 / _checked(ranks).double()).mean().item()


def _checked(ranks: Tensor) -> Tensor:
    if ranks.dim() != 1 or not len(ranks) or ranks.min() < 1:
        raise ValueError(f"ranks must have the shape (Q,), with Q at least 1, and begin at 1, got {ranks}")
    return ranks
