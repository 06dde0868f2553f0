"""Pictures with two marks, for a question that no single place of them answers: are the marks the same?"""

import torch
import torch.nn.functional as F
from torch import Tensor

from tutorlib.arguments import check_counts
from tutorlib.data.digits import Images

GRID, CELL, BITS = 4, 7, 3  # cells a side of the picture; pixels a side of a cell; squares a side of a mark
CELLS = GRID**2


def draw_pairs(number: int, generator: torch.Generator, *, near: bool = False) -> Images:
    """`number` pictures of 28 x 28 pixels in 4 x 4 cells, two of which hold a mark: images (N, 1, 28, 28), labels (N,).

    A mark is 3 x 3 squares of 2 x 2 pixels, each ink or paper by a coin. In half of the pictures the second mark is the first
    once more, label 1; in the others its squares are shuffled until it differs, label 0, so that both have as much ink. Marks
    of one color, which cannot differ then, are not drawn. The cells are any two; with `near`, two that share a side.
    """
    check_counts(number=number)
    code = torch.randint(1, 2**BITS**2 - 1, (number, 1), generator=generator)  # neither all paper nor all ink
    first = (code >> torch.arange(BITS**2)) & 1  # (N, 9)
    labels = torch.randint(2, (number,), generator=generator)  # (N,)
    second = torch.where(labels[:, None] == 1, first, _shuffled(first, generator))
    marks = torch.stack([first, second], dim=1).float().view(-1, 2, BITS, BITS)
    large = F.pad(marks.repeat_interleave(2, -1).repeat_interleave(2, -2), (0, 1, 0, 1))  # (N, 2, 7, 7)
    cells = torch.zeros(number, CELLS, CELL, CELL)
    rows = torch.arange(number)[:, None]
    cells[rows, _places(number, generator, near)] = large
    grid = cells.view(-1, GRID, GRID, CELL, CELL).transpose(2, 3)  # (N, 4, 7, 4, 7)
    return Images(grid.reshape(-1, 1, GRID * CELL, GRID * CELL), labels)


def _shuffled(marks: Tensor, generator: torch.Generator) -> Tensor:
    """Each row (N, 9) in another order, one that changes it."""
    result = marks.clone()
    while (same := (result == marks).all(1)).any():
        order = torch.rand(marks.shape, generator=generator).argsort(1)
        result[same] = marks.gather(1, order)[same]
    return result


def _places(number: int, generator: torch.Generator, near: bool) -> Tensor:
    """Two different cells for each picture, (N, 2)."""
    if not near:
        return torch.rand(number, CELLS, generator=generator).argsort(1)[:, :2]
    place = torch.arange(CELLS).view(GRID, GRID)
    across = torch.stack([place[:, :-1], place[:, 1:]], -1).view(-1, 2)  # (12, 2)
    down = torch.stack([place[:-1], place[1:]], -1).view(-1, 2)
    sides = torch.cat([across, down, across.flip(1), down.flip(1)])  # (48, 2)
    return sides[torch.randint(len(sides), (number,), generator=generator)]
