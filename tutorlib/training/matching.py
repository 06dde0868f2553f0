"""Set prediction: which prediction answers for which object, and the loss that follows (Carion et al. 2020, section 3.1)."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from tutorlib.evaluation.detection import corners, overlaps

CLASS, L1, GIOU = 1.0, 5.0, 2.0  # weights of the three terms, of cost and loss alike
NO_OBJECT = 0.1  # weight of "no object" among the classes, of which most predictions are


class Targets(NamedTuple):
    """All objects of B images in a row: labels (M,), boxes (M, 4) as (cx, cy, w, h) in [0, 1], and the image of each (M,)."""

    labels: Tensor
    boxes: Tensor
    image: Tensor

    @classmethod
    def of(cls, labels: Sequence[Tensor], boxes: Sequence[Tensor]) -> "Targets":
        """From one tensor of labels and one of boxes an image."""
        image = torch.arange(len(labels)).repeat_interleave(torch.tensor([len(each) for each in labels]))
        return cls(torch.cat(list(labels)), torch.cat(list(boxes)), image.to(labels[0].device))


def generalized_iou(first: Tensor, second: Tensor) -> Tensor:
    """IoU less the share of the hull, the smallest box around both, that neither covers (Rezatofighi et al. 2019).

    Boxes that broadcast, (..., 4) and (..., 4) -> (...,), from -1 (far apart) to 1 (equal). Unlike IoU it says of boxes that do
    not meet how far they are apart. Two points at one place have 0.
    """
    shared, union = overlaps(first, second)
    (start, end), (other_start, other_end) = corners(first).split(2, -1), corners(second).split(2, -1)  # (..., 2) each
    sides = torch.maximum(end, other_end) - torch.minimum(start, other_start)  # (..., 2)
    hull = sides[..., 0] * sides[..., 1]  # (...,)
    return shared / union.where(union > 0, 1) - (hull - union) / hull.where(hull > 0, 1)


def assign_by_trying(costs: Sequence[Sequence[float]]) -> list[int]:
    """A column for each row, no column twice, at the least total cost: the definition. M rows, Q columns: Q! / (Q - M)! trials.

    Raises ValueError for more rows than columns.
    """
    columns = _columns(costs)
    return list(min(itertools.permutations(range(columns), len(costs)),
                    key=lambda chosen: sum(row[column] for row, column in zip(costs, chosen, strict=True))))


def assign(costs: Sequence[Sequence[float]]) -> list[int]:
    """The same in O(M² Q), by shortest augmenting paths: the Hungarian method (Kuhn 1955; Jonker & Volgenant 1987).

    Each row in turn looks for the cheapest way to a free column, on which rows that have one may move to another. `row_price`
    and `price` (of columns) are such that no cost is below their sum, and what is assigned costs just that; so it is optimal.
    Raises ValueError for more rows than columns, and for costs that are no numbers.
    """
    columns = _columns(costs)
    if any(cost != cost for row in costs for cost in row):
        raise ValueError("costs must be numbers, got nan")
    owner: list[int | None] = [None] * columns  # the row that has a column
    row_price, price = [0.0] * len(costs), [0.0] * columns
    for start in range(len(costs)):
        length, before = [float("inf")] * columns, [None] * columns  # of the shortest way to a column, and the column before it
        done, column, row, reached = [], None, start, 0.0
        while row is not None:
            for other in range(columns):
                if other not in done:
                    way = reached + costs[row][other] - row_price[row] - price[other]
                    if way < length[other]:
                        length[other], before[other] = way, column
            column = min((other for other in range(columns) if other not in done), key=length.__getitem__)
            reached, row = length[column], owner[column]
            done.append(column)
        row_price[start] += reached
        for other in done[:-1]:
            row_price[owner[other]] += reached - length[other]
            price[other] -= reached - length[other]
        while column is not None:  # back along the way, each column to the row that stood before it
            owner[column] = start if before[column] is None else owner[before[column]]
            column = before[column]
    chosen = {row: column for column, row in enumerate(owner) if row is not None}
    return [chosen[row] for row in range(len(costs))]


def _columns(costs: Sequence[Sequence[float]]) -> int:
    columns = len(costs[0]) if len(costs) else 0
    if len(costs) > columns:
        raise ValueError(f"costs must have at least as many columns as rows, got {len(costs)} rows and {columns} columns")
    return columns


def matching_costs(logits: Tensor, boxes: Tensor, targets: Targets) -> Tensor:
    """What it would cost that a query answers for an object: logits (B, Q, C + 1), boxes (B, Q, 4) -> (M, Q).

    The probability, not its logarithm, of the object's class with a minus, 5 times the L1 distance, 2 times 1 - GIoU less a
    constant: those queries are cheap that are right already.
    """
    probability = logits.softmax(-1)[targets.image]  # (M, Q, C + 1)
    probability = probability[torch.arange(len(targets.labels)), :, targets.labels]  # (M, Q)
    near, there = boxes[targets.image], targets.boxes[:, None]  # (M, Q, 4), (M, 1, 4)
    return -CLASS * probability + L1 * (near - there).abs().sum(-1) - GIOU * generalized_iou(near, there)


@torch.no_grad()
def match(logits: Tensor, boxes: Tensor, targets: Targets) -> Tensor:
    """The query that answers for each object (M,), no query of an image twice, at the least total cost.

    Raises ValueError where an image has more objects than queries.
    """
    counts = targets.image.bincount(minlength=len(logits)).tolist()  # (B,)
    if max(counts, default=0) > logits.size(1):
        raise ValueError(f"an image must have at most as many objects as queries, {logits.size(1)}, got {max(counts)}")
    costs = matching_costs(logits, boxes, targets).split(counts)  # B of (M_b, Q)
    chosen = [column for image in costs for column in assign(image.tolist())]
    return torch.tensor(chosen, dtype=torch.int64, device=logits.device)


def set_loss(logits: Tensor, boxes: Tensor, targets: Targets, query: Tensor, *, no_object: float = NO_OBJECT) -> Tensor:
    """The loss where `query` (M,) answers for the objects: cross-entropy of all queries, L1 and GIoU of the matched ones.

    logits (B, Q, C + 1), boxes (B, Q, 4) -> scalar. The class of all other queries is "no object", with the weight `no_object`
    in a weighted mean; L1 and 1 - GIoU are means over the objects.
    """
    B, Q, classes = logits.shape
    target = torch.full((B, Q), classes - 1, device=logits.device)  # (B, Q): no object
    target[targets.image, query] = targets.labels
    weight = torch.ones(classes, dtype=logits.dtype, device=logits.device)
    weight[-1] = no_object
    named = F.cross_entropy(logits.flatten(0, 1), target.flatten(), weight)
    matched, number = boxes[targets.image, query], max(1, len(query))  # (M, 4)
    distance = (matched - targets.boxes).abs().sum() / number
    overlap = (1 - generalized_iou(matched, targets.boxes)).sum() / number
    return CLASS * named + L1 * distance + GIOU * overlap


def detr_loss(logits: Tensor, boxes: Tensor, targets: Targets, *, no_object: float = NO_OBJECT) -> Tensor:
    """The sum over N decoder layers of the loss of each, matched for itself: logits (N, B, Q, C + 1), boxes (N, B, Q, 4).

    All layers but the last are auxiliary: give `logits[-1:]` and `boxes[-1:]` to go without.
    """
    precise = torch.promote_types(logits.dtype, torch.float32)  # bfloat16 has no place for a hundredth of a picture
    layers = zip(logits.to(precise), boxes.to(precise), strict=True)
    return sum(set_loss(*layer, targets, match(*layer, targets), no_object=no_object) for layer in layers)
