"""Series with labels in the text format `.ts`, as the installed package `aeon` holds them."""

from pathlib import Path


def read_series(path: Path) -> list[tuple[list[list[float]], str]]:
    """The lines behind `@data`: each a series, a list of channels with their values over time, and its label.

    In a line the channels and then the label stand with colons between, the values of a channel with commas.
    Raises ValueError for a file without data.
    """
    path = Path(path)
    _, _, data = path.read_text("utf8").partition("@data\n")
    if not data:
        raise ValueError(f"path: {path.name} must have lines behind the line @data, got none")
    return [_read_line(line) for line in data.splitlines()]


def _read_line(line: str) -> tuple[list[list[float]], str]:
    *channels, label = line.split(":")
    return [[float(value) for value in channel.split(",")] for channel in channels], label
