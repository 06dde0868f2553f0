"""Images whose answer is planted: sixteen cells, one bright shape that decides the class, dark shapes that decide nothing."""

from typing import NamedTuple

import torch
from torch import Tensor

from tutorlib.arguments import check_counts

CELL, SIDE = 7, 4  # pixels of a cell, cells of a side
SHAPES = ("cross", "ring", "bars", "corner")
_DRAWN = ("#...# .#.#. ..#.. .#.#. #...#", ".###. #...# #...# #...# .###.",
          "##### ..... ##### ..... #####", "#.... #.... #.... #.... #####")
GLYPHS = torch.tensor([[[float(pixel == "#") for pixel in row] for row in shape.split()] for shape in _DRAWN])  # (4, 5, 5)


class Planted(NamedTuple):
    """What `planted` drew. A shape is a number from 0 to 3, a cell one from 0 to 15, row by row."""

    images: Tensor  # (B, 1, 28, 28): 0 is gray, 1 bright, -1 dark
    labels: Tensor  # (B,): the shape of the first bright one
    bright: Tensor  # (B, C): the cells of the bright shapes; the first decides
    dark: Tensor  # (B, N): the cells of the dark ones
    dark_shapes: Tensor  # (B, N)


def planted(count: int, generator: torch.Generator, *, copies: int = 1, dark: int = 3, rival: bool = False,
            noise: float = 0.2, labels: Tensor | None = None, dark_shapes: Tensor | None = None) -> Planted:
    """`count` images of 28 x 28 pixels. The class is the shape of the bright one; dark ones are drawn from the same four.

    copies: how often the bright shape stands in the image. With `rival`, the last copy is of another class instead.
    noise: the standard deviation of the background. A shape has 5 x 5 pixels, anywhere in its cell of 7 x 7.
    labels (B,), dark_shapes (B, N): these instead of drawn ones. All else is drawn as without them, so a generator in the same
    state gives the same images with other shapes. Raises ValueError for counts below 1, more shapes than cells, a rival
    without a second copy, and shapes given in another number.
    """
    check_counts(count=count, copies=copies, dark=dark)
    if copies + dark > SIDE**2:
        raise ValueError(f"copies + dark must be at most {SIDE**2} cells, got {copies} + {dark}")
    if rival and copies < 2:
        raise ValueError(f"copies must be at least 2 with a rival, got {copies}")

    def numbers(high: int, *shape: int) -> Tensor:
        return torch.randint(high, shape, generator=generator)

    labels = _given("labels", labels, numbers(len(SHAPES), count))  # (B,)
    bright_shapes = labels[:, None].repeat(1, copies)  # (B, C)
    if rival:
        bright_shapes[:, -1] = (labels + 1 + numbers(len(SHAPES) - 1, count)) % len(SHAPES)
    dark_shapes = _given("dark_shapes", dark_shapes, numbers(len(SHAPES), count, dark))  # (B, N)
    cells = torch.rand(count, SIDE**2, generator=generator).argsort(1)[:, :copies + dark]  # (B, C + N), all different
    images = noise * torch.randn(count, SIDE * CELL, SIDE * CELL, generator=generator)
    shift = numbers(CELL - 4, count, copies + dark, 2)  # 0, 1 or 2 pixels, down and right
    for number, shape in enumerate(torch.cat([bright_shapes, dark_shapes], 1).unbind(1)):
        ink = GLYPHS[shape] * (1 if number < copies else -1)  # (B, 5, 5)
        top = cells[:, number] // SIDE * CELL + shift[:, number, 0]  # (B,)
        left = cells[:, number] % SIDE * CELL + shift[:, number, 1]
        rows, columns = (start[:, None] + torch.arange(5) for start in (top, left))  # (B, 5)
        images[torch.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]] += ink
    return Planted(images[:, None], labels, cells[:, :copies], cells[:, copies:], dark_shapes)


def _given(name: str, given: Tensor | None, drawn: Tensor) -> Tensor:
    if given is not None and given.shape != drawn.shape:
        raise ValueError(f"{name} must be {tuple(drawn.shape)}, got {tuple(given.shape)}")
    return drawn if given is None else given
