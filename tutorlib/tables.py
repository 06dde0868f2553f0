"""Results as a small table: rendered by Jupyter and by the book, aligned columns anywhere else."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev


@dataclass(frozen=True)
class Table:
    """Cells that are already written out; `table` makes and checks it."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def __repr__(self) -> str:
        lines = (self.header, *self.rows)
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        padded = ("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)
        return "\n".join(line.rstrip() for line in padded)

    def _repr_markdown_(self) -> str:
        first, *others = [[cell.replace("|", "\\|") for cell in line] for line in (self.header, *self.rows)]
        lines = [first, ["---"] * len(first), *others]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A table of strings: the names of its columns, and one list of cells a row.

    Numbers come as the text that is to be read, rounded and with their error. Raises ValueError where a row has another
    number of cells than the header, or a cell is no string.
    """
    lines = [tuple(header), *map(tuple, rows)]
    for place, line in enumerate(lines):
        if len(line) != len(lines[0]):
            raise ValueError(f"rows[{place - 1}] has {len(line)} cells; the header has {len(lines[0])}")
        wrong = [cell for cell in line if not isinstance(cell, str)]
        if wrong:
            raise ValueError(f"a cell of a table is {wrong[0]!r}; expected a string, rounded as it is to be read")
    return Table(lines[0], tuple(lines[1:]))


def with_error(values: Sequence[float], digits: int = 2) -> str:
    """The mean of measurements that do not depend on one another, and its standard error: `.46 ± .03`.

    The error is the standard deviation, with N - 1, over the root of N. Raises ValueError for fewer than two values.
    """
    if len(values) < 2:
        raise ValueError(f"values must be at least two, for an error, got {len(values)}")
    error = stdev(values) / len(values) ** 0.5
    return f"{number(mean(values), digits)}\u00a0±\u00a0{number(error, digits)}"


def number(value: float, digits: int = 2) -> str:
    """A number as the tables write it: so many decimals, a minus sign that is one, no zero before the point: `−.05`."""
    text = f"{value:z.{digits}f}".replace("-", "−")
    return text.replace("0.", ".", 1) if text.lstrip("−").startswith("0.") else text
