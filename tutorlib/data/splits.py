"""Parts to train on, to choose by and to judge by, in which nothing stands on both sides."""

import hashlib
from collections.abc import Callable, Sequence
from typing import TypeVar

Item = TypeVar("Item")


def split_by_group(items: Sequence[Item], group: Callable[[Item], str], *, valid: float,
                   test: float) -> tuple[list[Item], list[Item], list[Item]]:
    """Train, valid and test: an item goes where the sha256 of its group's name says, whatever else is in the list.

    `valid` and `test` are the shares of two parts, the rest is to train on; the order stays. Raises ValueError where they are
    no such shares.
    """
    if not (valid >= 0 and test >= 0 and valid + test <= 1):
        raise ValueError(f"valid and test must be shares of a whole, got {valid} and {test}")
    train, chosen_by, judged_by = [], [], []
    for item in items:
        position = int(hashlib.sha256(group(item).encode()).hexdigest()[:8], 16) / 16**8  # in [0, 1)
        (judged_by if position < test else chosen_by if position < test + valid else train).append(item)
    return train, chosen_by, judged_by
