"""Basic motions: 80 recordings of ten seconds from a watch on the wrist, of four activities (Bagnall et al. 2018).

Four students stand, run, walk and play badminton. A recording holds 100 readings of six sensors: acceleration along the three
axes of the watch, and the speed of turning about them. The files are read by path from the installed package `aeon`, which is
never imported.
"""

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from tutorlib.data.series import read_series
from tutorlib.packages import installed_file

PACKAGE, FILE = "aeon", "datasets/data/BasicMotions/BasicMotions_{}.ts"
SHA256 = {  # aeon 1.6.0
    "TRAIN": "8dc43cc6306cb679c888c01e26f91772ac4441a916da43bac8b79734a538b9d6",
    "TEST": "79213102bc6fca1a398ad98ce1185dff0208fa3d1465e687f48288946b0ff8dc",
}
SENSORS, LENGTH = 6, 100
ACTIVITIES = "Standing", "Running", "Walking", "Badminton"


class Recordings(NamedTuple):
    """inputs (N, 6, 100) in float32, three axes of acceleration and three of turning; labels (N,) in int64, 0 to 3."""

    inputs: Tensor
    labels: Tensor


class Motions(NamedTuple):
    """Two disjoint sets of recordings."""

    train: Recordings
    test: Recordings


def load_motions() -> Motions:
    """40 recordings to learn from and 40 to test on, ten of each activity in both, sorted by activity.

    Raises ModuleNotFoundError where the package is missing, FileNotFoundError where it lacks a file, ValueError where a file
    is not the expected one.
    """
    train, test = (installed_file(PACKAGE, FILE.format(part), sha256, what="The set of basic motions")
                   for part, sha256 in SHA256.items())
    return Motions(read_recordings(train), read_recordings(test))


def read_recordings(path: Path) -> Recordings:
    """The recordings of a file in the text format `.ts`, one on each line behind the line `@data`.

    Raises ValueError for a file without data and for a line of another form.
    """
    path = Path(path)
    recordings, labels = zip(*(_checked(*series, path.name) for series in read_series(path)), strict=True)
    return Recordings(torch.tensor(recordings), torch.tensor(labels))


def _checked(values: list[list[float]], activity: str, file: str) -> tuple[list[list[float]], int]:
    """Six rows of 100 readings, and the label as a number."""
    lengths = sorted({len(row) for row in values})
    if len(values) != SENSORS or lengths != [LENGTH] or activity not in ACTIVITIES:
        raise ValueError(f"path: a line of {file} must have {SENSORS} rows of {LENGTH} readings and one of {ACTIVITIES}, "
                         f"got {len(values)} of the lengths {lengths} and {activity!r}")
    return values, ACTIVITIES.index(activity)
