"""Shoulder exercises at home: ten people with a smartwatch do seven exercises with either arm (Burns et al. 2018).

140 recordings, one for each person, exercise and arm, of 20 repetitions or so: three axes of acceleration and three of turning,
fifty readings a second. The file comes from the installed package `seglearn`, which is never imported. It is a pickle, and is
not unpickled: `pickletools` lists what it says, and the numbers are taken from the list.
"""

import pickletools
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from tutorlib.packages import installed_file

FILE = "data/watch_dataset.npy"
SHA256 = "eb122f23cdf06ef6bd6c6c5312958ec5cf9d038e2e6d457b8081662c75a42537"  # seglearn 1.2.5
RATE, SENSORS, RECORDINGS = 50, 6, 140
EXERCISES = ("pendulum", "abduction", "forward elevation", "internal rotation", "external rotation", "trapezius extension",
             "upright row")
HEADER = 128  # bytes of an .npy file, before its content


class Recordings(NamedTuple):
    """series, a list of 140 tensors (T, 6) in float32; labels (140,) 0 to 6, people (140,) 0 to 9, arms (140,) 1 right."""

    series: list[Tensor]
    labels: Tensor
    people: Tensor
    arms: Tensor


class Windows(NamedTuple):
    """Pieces of equal length: inputs (N, 6, L), labels (N,), people (N,), arms (N,), and where each begins, in seconds (N,)."""

    inputs: Tensor
    labels: Tensor
    people: Tensor
    arms: Tensor
    starts: Tensor


def load_physiotherapy() -> Recordings:
    """All recordings, sorted by person, exercise and arm.

    Raises ModuleNotFoundError where the package is missing, FileNotFoundError where it lacks the file, ValueError where the
    file is not the expected one.
    """
    return read_physiotherapy(installed_file("seglearn", FILE, SHA256, what="The set of shoulder exercises"))


def read_physiotherapy(path: Path) -> Recordings:
    """The recordings of a file as the package has it. Nothing in it is executed.

    Raises ValueError for a file that holds anything but 140 recordings and three numbers for each.
    """
    texts = [argument for code, argument, _ in pickletools.genops(Path(path).read_bytes()[HEADER:])
             if code.name == "BINUNICODE" and len(argument) > 8 * SENSORS]
    if len(texts) != RECORDINGS + 3 or any(len(text) % (8 * SENSORS) for text in texts[:-3]):
        raise ValueError(f"path: expected {RECORDINGS} recordings of {SENSORS} sensors and three lists, got {len(texts)}")
    series = [_numbers(text, torch.float64).view(SENSORS, -1).mT.float() for text in texts[:-3]]
    labels, people, arms = (_numbers(text, kind) for text, kind in
                            zip(texts[-3:], (torch.int64, torch.int64, torch.float64), strict=True))
    order = torch.argsort(people * 100 + labels * 10 + arms.long())
    return Recordings([series[i] for i in order], labels[order], people[order] - 1, arms[order].long())


def _numbers(text: str, dtype: torch.dtype) -> Tensor:
    """Bytes that were written as letters, read as numbers."""
    return torch.frombuffer(bytearray(text.encode("latin1")), dtype=dtype).clone()


def cut_windows(recordings: Recordings, length: int, step: int) -> Windows:
    """The windows of `length` readings, a new one every `step`; what is left over at the end of a recording is dropped.

    Raises ValueError for a length below 2, a step below 1, and where no recording is so long.
    """
    if length < 2 or step < 1:
        raise ValueError(f"length and step must be at least 2 and 1, got {length} and {step}")
    pieces = [one.unfold(0, length, step) if len(one) >= length else one.new_empty(0, SENSORS, length)
              for one in recordings.series]  # (pieces, 6, L) each
    counts = torch.tensor([len(piece) for piece in pieces])
    if not counts.sum():
        raise ValueError(f"length must be at most that of the longest recording, got {length}")
    starts = torch.cat([torch.arange(len(piece)) for piece in pieces]) * step / RATE
    labels, people, arms = (each.repeat_interleave(counts) for each in recordings[1:])
    return Windows(torch.cat(pieces), labels, people, arms, starts)
