"""What more than one room asks of an argument: a whole number, a string, a list of ids."""

from collections.abc import Iterable
from numbers import Integral
from typing import Any


def check_whole(name: str, value: Any, least: int = 1) -> None:
    """Raise ValueError unless `value` is a whole number of at least `least`; True and 3.0 are none."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise ValueError(f"{name} must be a whole number, got {value!r}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")


def check_counts(**counts: Any) -> None:
    """`check_whole` for each of several arguments that must be at least 1, or are None and not given."""
    for name, value in counts.items():
        if value is not None:
            check_whole(name, value)


def check_string(name: str, value: Any) -> None:
    """Raise ValueError unless `value` is a string: a list of characters or bytes would be taken for a text."""
    if not isinstance(value, str):
        raise ValueError(f"{name} must be a string, got {type(value).__name__} {str(value)[:40]}")


def whole_numbers(name: str, values: Iterable[Any]) -> list[int]:
    """A list, array or tensor (N,) of ids as a list of int. Raises ValueError for what would have to be rounded, and bools."""
    values = values.tolist() if hasattr(values, "tolist") else values
    numbers = [value.item() if hasattr(value, "item") else value for value in values]  # a list may hold tensors
    for number in numbers:
        if isinstance(number, bool) or not isinstance(number, int):
            raise ValueError(f"{name} must be whole numbers, got {number!r}")
    return numbers
