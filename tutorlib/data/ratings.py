"""A file of ratings that the reader brings: lines of user, item, rating and timestamp, read as text and nothing else."""

import csv
import math
import os
from pathlib import Path
from typing import NamedTuple

COLUMNS = ("user", "item", "rating", "timestamp")


class Rating(NamedTuple):
    """One line of the file."""

    user: str
    item: str
    rating: float
    time: float  # any unit in which later is more


class Ratings(NamedTuple):
    """The lines in the order of their times, and the names of the items: item number n is `items[n - 1]`."""

    lines: list[Rating]
    items: list[str]

    def histories(self, least: float = -math.inf) -> dict[str, list[tuple[int, float]]]:
        """For each user the items rated at least `least`, as (number, time), oldest first, each item at its first time."""
        number = {name: place for place, name in enumerate(self.items, start=1)}
        found: dict[str, dict[int, float]] = {}
        for line in self.lines:
            if line.rating >= least:
                found.setdefault(line.user, {}).setdefault(number[line.item], line.time)
        return {user: list(chosen.items()) for user, chosen in found.items()}


def read_ratings(path: str | os.PathLike) -> Ratings:
    """Read a CSV file, UTF-8, whose first line names the columns user, item, rating, timestamp, in any order.

    Other columns are passed over; lines of one time stay in the file's order. Raises FileNotFoundError where there is no file,
    and ValueError, with the number of the line, for a missing or doubled column, a line of another length, an empty name, and a
    rating or timestamp that is no finite number.
    """
    path = Path(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = _lines(path.name, csv.reader(file, strict=True))
    except UnicodeDecodeError as error:
        raise ValueError(f"{path.name}: not UTF-8 text ({error.reason} at byte {error.start})") from None
    lines.sort(key=lambda line: line.time)  # stable
    return Ratings(lines, sorted({line.item for line in lines}))


def _lines(name: str, reader) -> list[Rating]:
    try:
        header = [column.strip().lower() for column in next(reader, [])]
        place = _places(name, header)
        rows = [(reader.line_num, row) for row in reader if row]
    except csv.Error as error:
        raise ValueError(f"{name}, line {reader.line_num}: {error}") from None
    if not rows:
        raise ValueError(f"{name}: no line below the header, expected at least one rating")
    return [_rating(f"{name}, line {number}", row, len(header), place) for number, row in rows]


def _places(name: str, header: list[str]) -> list[int]:
    for column in COLUMNS:
        if header.count(column) != 1:
            raise ValueError(f"{name}, line 1: the header must name each of {', '.join(COLUMNS)} once, "
                             f"got {', '.join(header)!r}")
    return [header.index(column) for column in COLUMNS]


def _rating(where: str, row: list[str], columns: int, place: list[int]) -> Rating:
    if len(row) != columns:
        raise ValueError(f"{where}: expected {columns} values, as the header has, got {len(row)}")
    user, item, rating, time = (row[at].strip() for at in place)
    for column, value in (("user", user), ("item", item)):
        if not value:
            raise ValueError(f"{where}: {column} must be a name, got nothing")
    return Rating(user, item, _number(where, "rating", rating), _number(where, "timestamp", time))


def _number(where: str, column: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{where}: {column} must be a finite number, got {text!r}")
    return number
