"""How good detections are: overlap of boxes, average precision, and the kinds of errors.

Boxes are (cx, cy, w, h), center, width and height, in any one unit.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

IOU_LEVELS = tuple(0.5 + 0.05 * k for k in range(10))  # COCO's: .5, .55, ... .95
RECALLS = 101  # COCO reads precision at recalls 0, .01, ... 1


class Detections(NamedTuple):
    """What a model says of one image: boxes (M, 4), labels (M,), scores (M,), the higher the surer."""

    boxes: Tensor
    labels: Tensor
    scores: Tensor


class Objects(NamedTuple):
    """What is there in one image: boxes (M, 4) and labels (M,)."""

    boxes: Tensor
    labels: Tensor


def corners(boxes: Tensor) -> Tensor:
    """(..., 4) as (cx, cy, w, h) -> (..., 4) as (left, top, right, bottom)."""
    center, extent = boxes.split(2, dim=-1)  # (..., 2) each
    return torch.cat([center - extent / 2, center + extent / 2], dim=-1)


def overlaps(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Areas of intersection and of union of boxes that broadcast, (..., 4) and (..., 4) -> (...,) twice."""
    (start, end), (other_start, other_end) = corners(first).split(2, -1), corners(second).split(2, -1)  # (..., 2) each
    sides = (torch.minimum(end, other_end) - torch.maximum(start, other_start)).clamp(min=0)  # (..., 2)
    shared = sides[..., 0] * sides[..., 1]  # (...,)
    return shared, first[..., 2] * first[..., 3] + second[..., 2] * second[..., 3] - shared


def iou(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union of boxes that broadcast, (..., 4) and (..., 4) -> (...,), from 0 (apart) to 1 (equal).

    Two boxes without area, whose union is 0, have IoU 0. For every pair of (M, 4) and (N, 4): `iou(a[:, None], b)`.
    """
    shared, union = overlaps(first, second)
    return shared / union.where(union > 0, 1)


def detections(logits: Tensor, boxes: Tensor, least: float = 0.0) -> list[Detections]:
    """A DETR's outputs, logits (B, Q, C + 1) and boxes (B, Q, 4), as detections of B images, each from the surest down.

    Class C is "no object". A query's label is the most probable of the others, its score that probability; scores below `least`
    are left out.
    """
    scores, labels = logits.softmax(-1)[..., :-1].max(-1)  # (B, Q) each
    found = []
    for image_boxes, image_labels, image_scores in zip(boxes, labels, scores, strict=True):
        order = image_scores.argsort(descending=True, stable=True)  # (Q,)
        order = order[image_scores[order] >= least]
        found.append(Detections(image_boxes[order], image_labels[order], image_scores[order]))
    return found


def average_precision(found: Sequence[Detections], there: Sequence[Objects],
                      levels: Sequence[float] = IOU_LEVELS) -> float:
    """The mean over classes and levels of IoU of the area under precision against recall, as in COCO (Lin et al. 2014).

    `levels=[0.5]` gives AP50. For one class and level, detections of all images are taken from the surest down. One is right if
    its IoU with an object of its class that none before has taken is at least the level; it takes the one it overlaps most.
    Precision at a recall is the best at that recall or any higher; the area is its mean at the recalls 0, .01, ... 1. A class
    of which no object is there does not count. COCO's crowds, size ranges and limit of 100 detections an image are left out.
    Raises ValueError where the numbers of images differ, there is no object at all, or no level.
    """
    _check_images(found, there)
    labels = sorted({label for each in there for label in each.labels.tolist()})
    if not labels:
        raise ValueError("there must hold at least one object, got none")
    if not levels:
        raise ValueError("levels must hold at least one IoU, got none")
    mine, scores = (torch.cat([getattr(seen, name) for seen in found]) for name in ("labels", "scores"))  # (N,)
    total = torch.cat([real.labels for real in there]).bincount().tolist()
    overlap = [_same_class(*pair) for pair in zip(found, there, strict=True)]
    areas = []
    for level in levels:
        right = torch.tensor([each for image in overlap for each in rights(*image, level)], dtype=torch.bool)  # (N,)
        for label in labels:
            order = scores[mine == label].argsort(descending=True, stable=True)
            areas.append(_area(right.to(scores.device)[mine == label][order], total[label]))
    return sum(areas) / len(areas)


def _same_class(seen: Detections, real: Objects) -> tuple[list[list[float]], list[int]]:
    """IoU of M detections and N objects of an image (M, N), -1 where their classes differ, and the surest detections' order."""
    differ = seen.labels[:, None] != real.labels  # (M, N)
    overlap = iou(seen.boxes[:, None], real.boxes).masked_fill(differ, -1)  # (M, N)
    return overlap.tolist(), seen.scores.argsort(descending=True, stable=True).tolist()


def rights(overlap: list[list[float]], order: list[int], level: float) -> list[bool]:
    """Which of M detections are right, from their IoU with N objects (M, N), -1 for those of another class.

    In their order, each takes the free object it overlaps most, if their IoU is at least `level`.
    """
    free, right = set(range(len(overlap[0]))) if overlap else set(), [False] * len(overlap)
    for place in order:
        best = max(free, key=overlap[place].__getitem__, default=None)
        if best is not None and overlap[place][best] >= level:
            right[place] = True
            free.remove(best)
    return right


def _area(right: Tensor, total: int) -> float:
    """Under precision against recall, from detections in order, right or wrong (N,), and the number of objects."""
    hits = right.cumsum(0).double()  # (N,)
    precision = hits / torch.arange(1, len(right) + 1, device=right.device)  # (N,)
    best = precision.flip(0).cummax(0).values.flip(0)  # (N,): at this recall or a higher one
    at = torch.searchsorted(hits / total, _recalls(right.device))  # (101,): the first to reach each recall
    return torch.cat([best, best.new_zeros(1)])[at.clamp(max=len(right))].mean().item()  # 0 where it is never reached


def _recalls(device: torch.device) -> Tensor:
    return torch.linspace(0, 1, RECALLS, dtype=torch.float64, device=device)  # (101,)


KINDS = ("right", "duplicate", "wrong class", "poor box", "nothing there", "missed")


def kinds_of_error(found: Sequence[Detections], there: Sequence[Objects], *, level: float = 0.5,
                   near: float = 0.1) -> dict[str, int]:
    """How often detections are right and how the others err, and how many objects are missed: counts by the names in `KINDS`.

    Detections are sorted by what they meet (after Bolya et al. 2020), the first that holds: "right", an object of their class,
    at least `level` of IoU, that no surer one has taken; "duplicate", one that is taken; "wrong class", an object of another
    class; "poor box", one of their class at IoU from `near` to `level`; "nothing there". An object that no detection is right
    about is "missed". Give only detections that are sure enough to be shown. Raises ValueError where the numbers of images
    differ.
    """
    _check_images(found, there)
    counts = dict.fromkeys(KINDS, 0)
    for seen, real in zip(found, there, strict=True):
        order = seen.scores.argsort(descending=True, stable=True)
        free = torch.ones(len(real.labels), dtype=torch.bool)
        for box, label in zip(seen.boxes[order], seen.labels[order], strict=True):
            kind, which = _kind(iou(box, real.boxes), real.labels == label, free, level, near)
            counts[kind] += 1
            if kind == "right":
                free[which] = False
        counts["missed"] += int(free.sum())
    return counts


def _kind(overlap: Tensor, same: Tensor, free: Tensor, level: float, near: float) -> tuple[str, int | None]:
    """Of one detection: its IoU with N objects, which are of its class, which are free -> its kind, the object it takes."""
    right = (overlap >= level) & same & free
    if right.any():
        return "right", int((overlap * right).argmax())
    for kind, met in (("duplicate", (overlap >= level) & same), ("wrong class", overlap >= level),
                      ("poor box", (overlap >= near) & same)):
        if met.any():
            return kind, None
    return "nothing there", None


def _check_images(found: Sequence[Detections], there: Sequence[Objects]) -> None:
    if len(found) != len(there):
        raise ValueError(f"found and there must be of the same images, got {len(found)} and {len(there)}")
