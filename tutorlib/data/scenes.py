"""Scenes: several handwritten digits and colored shapes in one picture, which may overlap, with their boxes and masks.

They are drawn, so that there is no end of them, and every box and mask is exact. Digits are given: whoever trains on scenes of
training digits and tests on scenes of test digits has no digit in both.
"""

import colorsys
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from tutorlib.arguments import check_whole
from tutorlib.data.batches import numbered_generator
from tutorlib.data.digits import Images

NAMES = (*"0123456789", "circle", "square", "triangle")
TRIES = 20  # places that are tried for an object before the scene goes without it
INK = 0.5  # from here on a pixel of a digit counts as its own


class Scenes(NamedTuple):
    """N pictures of side S; picture k shows M_k objects, from the back to the front.

    images (N, 3, S, S) in float32, 0 to 1; boxes: N of (M_k, 4), center, width and height as shares of the side; labels: N of
    (M_k,), places in `NAMES`; masks: N of (M_k, S, S), the pixels where an object is in sight; classes (N, S, S) of int64, the
    label + 1 of the object in sight at each pixel, or 0 for the background.

    A box is the smallest that holds its object's mask: what is hidden does not count, as in COCO (Lin et al. 2014).
    """

    images: Tensor
    boxes: list[Tensor]
    labels: list[Tensor]
    masks: list[Tensor]
    classes: Tensor


def make_scenes(number: int, digits: Images, seed: int, *, size: int = 64, objects: tuple[int, int] = (1, 5),
                sides: tuple[int, int] = (14, 28), visible: float = 0.6, noise: float = 0.05) -> Scenes:
    """Draw scenes. Scene k depends on `seed`, k and the options alone, whatever their number.

    `objects` and `sides` are the least and the most objects of a scene and pixels of an object's longer side, each as likely
    as the next (a digit's fine ends may be a pixel or two too faint to count). Each of `NAMES` is as likely where the digits
    are balanced. At least the share `visible` of each object's pixels stays in sight, and at least one (1: none hides
    another); an object for which no such place was found in 20 tries is left out. `noise` is the standard deviation of what
    is added to each pixel.
    Raises ValueError for ranges that are none, sides that do not fit, a share outside [0, 1], a negative noise.
    """
    check_whole("number", number)
    _check_range("objects", objects, least=0)
    _check_range("sides", sides, least=4)
    if sides[1] > size:
        raise ValueError(f"sides must be at most size={size}, got {tuple(sides)}")
    if not 0 <= visible <= 1:
        raise ValueError(f"visible must lie in [0, 1], got {visible}")
    if not noise >= 0:
        raise ValueError(f"noise must be at least 0, got {noise}")
    glyphs = [tight(image[0]) for image in digits.images]
    drawn = [_draw(glyphs, digits.labels, numbered_generator(seed, k), size, objects, sides, visible, noise)
             for k in range(number)]
    images, labels, masks = zip(*drawn, strict=True)
    return Scenes(torch.stack(images), [boxes_of(each) for each in masks], list(labels), list(masks),
                  torch.stack([_class_map(*each) for each in zip(masks, labels, strict=True)]))


def boxes_of(masks: Tensor) -> Tensor:
    """The smallest boxes that hold masks (M, H, W): (M, 4), center, width and height as shares of W and H.

    A pixel reaches from its left to its right edge: a mask of one pixel has a box of one pixel. Raises ValueError for an empty
    mask, which has no box.
    """
    edges = []
    for along, length in ((masks.any(1), masks.size(2)), (masks.any(2), masks.size(1))):  # (M, W), (M, H)
        if not along.any(1).all():
            raise ValueError("masks must each hold a pixel, got an empty one")
        first = along.int().argmax(1)  # (M,)
        last = length - along.flip(1).int().argmax(1)  # (M,), one behind the last pixel
        edges.append(torch.stack([(first + last) / 2, (last - first).float()], 1) / length)  # (M, 2): center, extent
    return torch.stack(edges, 2).flatten(1)  # (M, 4): cx, cy, w, h


def _draw(glyphs: Sequence[Tensor], labels: Tensor, generator: torch.Generator, size: int, objects: tuple[int, int],
          sides: tuple[int, int], visible: float, noise: float) -> tuple[Tensor, Tensor, Tensor]:
    """One scene: its image (3, S, S), labels (M,) and masks (M, S, S)."""
    image = (0.05 + 0.3 * torch.rand(3, 1, 1, generator=generator)).expand(3, size, size)  # a dark ground
    shown, masks = [], torch.zeros(0, size, size, dtype=torch.bool)
    for _ in range(_between(objects, torch.rand(1, generator=generator).item())):
        which, side, *color = torch.rand(5, generator=generator).tolist()
        places = torch.rand(TRIES, 2, generator=generator)
        label, ink = _object(which, _between(sides, side), glyphs, labels, generator)  # ink (h, w)
        for placed in (_placed(ink, place, size) for place in places.tolist()):  # (S, S)
            remaining = masks & (placed < INK)  # (M, S, S)
            needed = [max(1, visible * pixels) for _, pixels in shown]  # (M,)
            if (remaining.sum((1, 2)) >= torch.tensor(needed)).all():
                shown.append((label, int((placed >= INK).sum())))
                masks = torch.cat([remaining, (placed >= INK)[None]])  # (M + 1, S, S)
                image = image + placed * (_tint(*color) - image)  # the ink covers what lies behind it
                break
    light = 0.75 + 0.5 * torch.rand(1, 1, 4, 4, generator=generator)  # uneven light, from three to five quarters
    image = image * F.interpolate(light, size=(size, size), mode="bilinear", align_corners=True)[0]
    image = (image + noise * torch.randn(3, size, size, generator=generator)).clamp(0, 1)
    return image, torch.tensor([label for label, _ in shown], dtype=torch.int64), masks


def _object(which: float, side: int, glyphs: Sequence[Tensor], labels: Tensor,
            generator: torch.Generator) -> tuple[int, Tensor]:
    """A label, and its ink (h, w) from 0 to 1; the longer of h and w is `side`."""
    kind = int(which * len(NAMES))  # at most len(NAMES) - 1: `which` is below 1
    if kind >= 10:
        return kind, shape_ink(NAMES[kind], side)
    place = int(torch.randint(len(glyphs), (), generator=generator))
    glyph = glyphs[place]
    h, w = (max(1, round(side * extent / max(glyph.shape))) for extent in glyph.shape)
    ink = F.interpolate(glyph[None, None], size=(h, w), mode="bilinear", antialias=True)[0, 0]
    return int(labels[place]), ink / ink.max()  # a thin stroke made small pales


def shape_ink(name: str, side: int) -> Tensor:
    """1 inside, 0 outside, (side, side); the triangle stands on its base."""
    center = (torch.arange(side) + 0.5) / side  # (side,), of pixels
    y, x = center[:, None], center[None, :]
    if name == "circle":
        inside = (x - 0.5) ** 2 + (y - 0.5) ** 2 <= 0.25
    elif name == "square":
        inside = torch.ones(side, side)
    else:
        inside = (x - 0.5).abs() <= y / 2
    return inside.float()


def _placed(ink: Tensor, place: Sequence[float], size: int) -> Tensor:
    """Ink (h, w) in an empty picture (S, S); place (0, 0) is its upper left corner, (1, 1) its lower right one."""
    (h, w), (across, down) = ink.shape, place
    left, top = int(across * (size - w + 1)), int(down * (size - h + 1))
    return F.pad(ink, (left, size - w - left, top, size - h - top))


def tight(ink: Tensor) -> Tensor:
    """The part of ink or of a mask (H, W) that holds all its pixels: (h, w). Raises ValueError where it has none."""
    solid = ink >= INK  # (H, W)
    if not solid.any():
        raise ValueError("mask must hold a pixel, got an empty one")
    rows, columns = (solid.any(axis).nonzero()[:, 0] for axis in (1, 0))
    return ink[rows[0]:rows[-1] + 1, columns[0]:columns[-1] + 1]


def _tint(hue: float, saturation: float, value: float) -> Tensor:
    """A clear color, (3, 1, 1)."""
    return torch.tensor(colorsys.hsv_to_rgb(hue, 0.5 + 0.5 * saturation, 0.7 + 0.3 * value)).view(3, 1, 1)


def _class_map(masks: Tensor, labels: Tensor) -> Tensor:
    """masks (M, S, S), no pixel in two of them, labels (M,) -> (S, S), label + 1 or 0."""
    return (masks * (labels + 1)[:, None, None]).sum(0)


def _between(limits: tuple[int, int], share: float) -> int:
    """A whole number from the least to the most, both included."""
    least, most = limits
    return least + int(share * (most - least + 1))


def _check_range(name: str, limits: tuple[int, int], least: int) -> None:
    if len(limits) != 2:
        raise ValueError(f"{name} must be the least and the most, got {limits!r}")
    for limit in limits:
        check_whole(name, limit, least=least)
    if limits[0] > limits[1]:
        raise ValueError(f"{name} must be the least and the most, got {tuple(limits)}")
