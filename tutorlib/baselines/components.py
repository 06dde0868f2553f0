"""Detection without learning a detector: pixels of one color that touch are an object, and the most similar template names it.

What one would write before training a network: it needs a ground that differs from the objects, and objects of one color each.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from tutorlib.data.scenes import boxes_of, tight
from tutorlib.evaluation.detection import Detections

SIDE = 16  # pixels of a template's side


class Templates(NamedTuple):
    """Shapes (K, SIDE * SIDE) of length 1, and their labels (K,)."""

    shapes: Tensor
    labels: Tensor


def ground_of(images: Tensor) -> Tensor:
    """The median color of each image: (N, 3, H, W) -> (N, 3, 1, 1)."""
    return images.flatten(2).median(-1).values[..., None, None]


def link(images: Tensor, *, contrast: float, alike: float) -> Tensor:
    """images (N, 3, H, W) -> the number of the component of each pixel (N, H, W), or -1 where it is ground.

    The ground has the median color of its image; a pixel is an object's where a channel is further than `contrast` from it. Two
    such pixels beside each other are linked where no channel of their colors, divided by their brightness, differs by more than
    `alike`. A component's number is the place of its first pixel.
    """
    solid = (images - ground_of(images)).abs().amax(1) > contrast  # (N, H, W)
    color = images / images.sum(1, keepdim=True).clamp(min=1e-3)  # (N, 3, H, W)
    N, H, W = solid.shape
    right = solid[..., 1:] & solid[..., :-1] & ((color[..., 1:] - color[..., :-1]).abs().amax(1) < alike)  # (N, H, W - 1)
    below = solid[:, 1:] & solid[:, :-1] & ((color[..., 1:, :] - color[..., :-1, :]).abs().amax(1) < alike)  # (N, H - 1, W)
    number = torch.arange(H * W, device=images.device).view(H, W).repeat(N, 1, 1)  # (N, H, W)
    while True:  # the least number goes from neighbor to neighbor until none changes
        before = number.clone()
        for linked, one, other in ((right, number[..., 1:], number[..., :-1]), (below, number[:, 1:], number[:, :-1])):
            least = torch.minimum(one, other)
            one.copy_(torch.where(linked, least, one))
            other.copy_(torch.where(linked, torch.minimum(one, other), other))
        if torch.equal(number, before):
            return number.where(solid, -1)


def detect_components(images: Tensor, templates: Templates, *, contrast: float = 0.16, alike: float = 0.1,
                      least: int = 25) -> list[Detections]:
    """The components of at least `least` pixels of images (N, 3, H, W), each with the label of the most similar template.

    The score is the cosine between the component's shape and the template.
    """
    return [_detect(number, templates, least) for number in link(images, contrast=contrast, alike=alike)]


def _detect(number: Tensor, templates: Templates, least: int) -> Detections:
    names, counts = number[number >= 0].unique(return_counts=True)
    masks = number == names[counts >= least].view(-1, 1, 1)  # (M, H, W)
    if not len(masks):
        return Detections(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0))
    shapes = torch.stack([fitted(tight(mask).float()) for mask in masks])  # (M, SIDE * SIDE)
    scores, best = (shapes @ templates.shapes.T).max(1)  # (M,)
    return Detections(boxes_of(masks), templates.labels[best], scores)


def fitted(ink: Tensor) -> Tensor:
    """Ink (h, w) scaled so that its longer side is SIDE, in the middle of a square, as a vector of length 1, (SIDE * SIDE,)."""
    h, w = (max(1, round(SIDE * extent / max(ink.shape))) for extent in ink.shape)
    small = F.interpolate(ink[None, None], size=(h, w), mode="bilinear", antialias=True)[0, 0]  # (h, w)
    left, top = (SIDE - w) // 2, (SIDE - h) // 2
    square = F.pad(small, (left, SIDE - w - left, top, SIDE - h - top))  # (SIDE, SIDE)
    return F.normalize(square.flatten(), dim=0)
