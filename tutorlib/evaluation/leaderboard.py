"""A competition with hidden labels: a public score for each submission, a private one at the end, and the Ladder in between.

Labels are classes (N,). The competition draws which rows are public; a participant never learns which.
"""

import csv
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from tutorlib.arguments import check_whole


class Leaderboard:
    """Answers a submission (N,) with its share right on `public_rows` rows that it drew and keeps to itself.

    Raises ValueError for labels that are no whole numbers (N,), and where not at least one row is public and one private.
    """

    def __init__(self, labels: Tensor, public_rows: int, generator: torch.Generator | None = None) -> None:
        if labels.dim() != 1 or labels.is_floating_point():
            raise ValueError(f"labels must be whole numbers (N,), got {labels.dtype} of shape {tuple(labels.shape)}")
        check_whole("public_rows", public_rows)
        if public_rows >= len(labels):
            raise ValueError(f"public_rows must leave a private row, at most {len(labels) - 1}, got {public_rows}")
        order = torch.randperm(len(labels), generator=generator)
        self._labels, self._public, self._private = labels, order[:public_rows], order[public_rows:]
        self.submissions = 0

    def submit(self, predictions: Tensor) -> float:
        """The public score of predictions (N,). Raises ValueError for another shape."""
        right = self._right(predictions, self._public)
        self.submissions += 1
        return self._answer(right)

    def private_score(self, predictions: Tensor) -> float:
        """The share right on the private rows, which is to be asked once, at the end."""
        return self._right(predictions, self._private).mean().item()

    def _answer(self, right: Tensor) -> float:
        return right.mean().item()

    def _right(self, predictions: Tensor, rows: Tensor) -> Tensor:
        if predictions.shape != self._labels.shape:
            raise ValueError(f"predictions must be {tuple(self._labels.shape)}, one a row, got {tuple(predictions.shape)}")
        return (predictions[rows] == self._labels[rows]).double()


class Ladder(Leaderboard):
    """A leaderboard that answers with the best score so far, and moves it only for a better that exceeds its own error.

    A submission is compared, row by row, with the best one: where the difference of their means is larger than its standard
    error, it becomes the best. (Blum and Hardt 2015, the parameter-free Ladder.)
    """

    def __init__(self, labels: Tensor, public_rows: int, generator: torch.Generator | None = None) -> None:
        super().__init__(labels, public_rows, generator)
        self._best: Tensor | None = None

    def _answer(self, right: Tensor) -> float:
        if self._best is None or (right - self._best).mean() > (right - self._best).std() / math.sqrt(len(right)):
            self._best = right
        return self._best.mean().item()


def write_submission(path: Path, ids: Sequence[str], predictions: Sequence[int]) -> None:
    """A file of the form that competitions ask for: a header `Id,Label`, then a line a row.

    Raises ValueError where there is not one prediction an id.
    """
    if len(ids) != len(predictions):
        raise ValueError(f"ids and predictions must be equally many, got {len(ids)} and {len(predictions)}")
    with Path(path).open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("Id", "Label"), *zip(ids, map(int, predictions), strict=True)])


def read_submission(path: Path, ids: Sequence[str]) -> Tensor:
    """The predictions of such a file in the order of `ids` (N,), whatever the order of its lines.

    Raises ValueError for another header, an id that is missing, unknown or there twice, and a label that is no whole number.
    """
    with Path(path).open(newline="", encoding="utf-8") as file:
        header, *lines = [*csv.reader(file)] or [[]]
    if header != ["Id", "Label"]:
        raise ValueError(f"the header must be Id,Label, got {','.join(header)!r}")
    found: dict[str, int] = {}
    for place, line in enumerate(lines, 2):
        if len(line) != 2 or line[0] in found or not line[1].lstrip("-").isdecimal():
            raise ValueError(f"line {place} must be an id that is new and a whole number, got {','.join(line)!r}")
        found[line[0]] = int(line[1])
    if found.keys() != set(ids):
        odd = sorted(found.keys() ^ set(ids))[0]
        raise ValueError(f"ids must be those of the competition; {odd!r} is {'unknown' if odd in found else 'missing'}")
    return torch.tensor([found[each] for each in ids])
