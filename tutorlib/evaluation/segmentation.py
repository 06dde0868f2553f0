"""How well every pixel is named: counts of pixels, overlap of classes, what happens near boundaries, and objects as a whole.

A class that stands neither in the truth nor in the prediction has no score: it is NaN, and means leave it out.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from tutorlib.arguments import check_counts


def confusion_matrix(predicted: Tensor, classes: Tensor, num_classes: int) -> Tensor:
    """How many pixels of class i were called class j: (C, C) of int64, a row for each true class.

    `predicted` and `classes` are integers in [0, C) of one shape, as (N, H, W). Matrices of batches may be added up.
    Raises ValueError for different shapes, other numbers, and where there is no pixel.
    """
    check_counts(num_classes=num_classes)
    if predicted.shape != classes.shape or not classes.numel():
        raise ValueError("predicted and classes must have one shape and hold a pixel, "
                         f"got {tuple(predicted.shape)} and {tuple(classes.shape)}")
    for name, values in (("predicted", predicted), ("classes", classes)):
        if values.is_floating_point():
            raise ValueError(f"{name} must be integers, got {values.dtype}")
        if not 0 <= values.min() <= values.max() < num_classes:
            raise ValueError(f"{name} must lie in [0, {num_classes}), got values from {values.min()} to {values.max()}")
    pairs = classes.long() * num_classes + predicted.long()  # (N, H, W): one number for each pair
    return pairs.flatten().bincount(minlength=num_classes**2).view(num_classes, num_classes)


def pixel_accuracy(confusion: Tensor) -> float:
    """The share of pixels that are named right."""
    return (confusion.diagonal().sum() / confusion.sum()).item()


def iou(confusion: Tensor) -> Tensor:
    """Of each class, the pixels that are both truth and prediction by those that are either: (C,) of float64.

    Its name is intersection over union, or the Jaccard index.
    """
    both = confusion.diagonal().double()
    return both / (confusion.sum(0) + confusion.sum(1) - both)  # 0 / 0 is NaN: the class is absent in both


def mean_iou(confusion: Tensor) -> float:
    """The mean of `iou` over the classes that have one; each counts the same, however few its pixels."""
    return iou(confusion).nanmean().item()


def dice(confusion: Tensor) -> Tensor:
    """Of each class, twice the pixels that are both, over the sum of the two: (C,). It is F1, and 2 IoU / (1 + IoU)."""
    return 2 * confusion.diagonal().double() / (confusion.sum(0) + confusion.sum(1))


def near_boundary(classes: Tensor, width: int) -> Tensor:
    """Which pixels of (N, H, W) have another class within `width` pixels, up, down, sideways or diagonally: bool.

    The edge of the image is no boundary.
    """
    check_counts(width=width)
    values = classes[:, None].double()  # (N, 1, H, W): max_pool2d asks for floats
    side = 2 * width + 1
    highest, lowest = (F.max_pool2d(sign * values, side, stride=1, padding=width) for sign in (1, -1))
    return (highest != -lowest)[:, 0]  # (N, H, W)


def distance_to_boundary(classes: Tensor, most: int) -> Tensor:
    """How far the nearest pixel of another class is: (N, H, W) of int64, 1 at a boundary, `most` for all that is further."""
    check_counts(most=most)
    distance = torch.full_like(classes, most, dtype=torch.int64)
    for width in range(most - 1, 0, -1):
        distance[near_boundary(classes, width)] = width
    return distance


def boundary_iou(predicted: Tensor, classes: Tensor, num_classes: int, width: int = 1) -> Tensor:
    """`iou` of each class over its rim: its pixels that lie within `width` of another class (Cheng et al. 2021). (C,).

    The rim of the prediction is that of the predicted class. predicted and classes (N, H, W). Raises ValueError as
    `confusion_matrix` does.
    """
    confusion_matrix(predicted, classes, num_classes)  # refuses
    rims = near_boundary(predicted, width), near_boundary(classes, width)  # (N, H, W) each
    scores = []
    for number in range(num_classes):
        ours, true = (rim & (values == number) for rim, values in zip(rims, (predicted, classes), strict=True))
        scores.append((ours & true).sum().double() / (ours | true).sum())
    return torch.stack(scores)


def named_objects(predicted: Tensor, masks: Sequence[Tensor], classes: Sequence[Tensor]) -> Tensor:
    """Whether each object is named right by the vote of its pixels: bool, of all objects of all images in a row.

    predicted (N, H, W), masks N of (M, H, W) bool, classes N of (M,), from 1. The pixels inside an object's mask vote, those
    that were called background, 0, abstain; where all abstain the object is missed.
    """
    found = []
    for image, inside, true in zip(predicted, masks, classes, strict=True):
        for mask, number in zip(inside, true.tolist(), strict=True):
            votes = image[mask][image[mask] > 0]
            found.append(bool(len(votes)) and votes.bincount().argmax().item() == number)
    return torch.tensor(found, dtype=torch.bool)
