"""Japanese vowels: 640 utterances of nine speakers, each a sequence of 7 to 29 vectors (Kudo, Toyama & Shimbo 1999).

Nine men say the vowels /ae/, one behind the other. A vector holds 12 cepstral coefficients of a short stretch of the sound, and
the task is to tell who speaks. The files are read by path from the installed package `aeon`, which is never imported.
"""

from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from tutorlib.data.series import read_series
from tutorlib.packages import installed_file

PACKAGE, FILE = "aeon", "datasets/data/JapaneseVowels/JapaneseVowels_{}.ts"
SHA256 = {  # aeon 1.6.0
    "TRAIN": "68a430eabd919cc77f40b1f5f3bc0dcafacc1486bca9260785aeb7d262cc78cd",
    "TEST": "b3d41d6a0ca3bcad3afb9ca7d4365382aa51341e2e58bae2a574babdda5b9462",
}
LENGTH, WIDTH, SPEAKERS = 29, 12, 9


class Utterances(NamedTuple):
    """inputs (N, 29, 12) in float32, right-padded with zeros; lengths (N,) and labels (N,), 0 to 8, in int64."""

    inputs: Tensor
    lengths: Tensor
    labels: Tensor


class Vowels(NamedTuple):
    """Two disjoint sets of utterances by the same nine speakers."""

    train: Utterances
    test: Utterances


def load_vowels() -> Vowels:
    """270 utterances to train on, 30 of each speaker, and 370 to test on, 24 to 88 of each, both sorted by speaker.

    Raises ModuleNotFoundError where the package is missing, FileNotFoundError where it lacks a file, ValueError where a file
    is not the expected one.
    """
    train, test = (installed_file(PACKAGE, FILE.format(part), sha256, what="The set of Japanese vowels")
                   for part, sha256 in SHA256.items())
    return Vowels(read_utterances(train), read_utterances(test))


def read_utterances(path: Path) -> Utterances:
    """The utterances of a file in the text format `.ts`, one on each line behind the line `@data`.

    Raises ValueError for a file without data and for a line of another form.
    """
    path = Path(path)
    utterances, labels = zip(*(_checked(*series, path.name) for series in read_series(path)), strict=True)
    inputs = torch.stack([F.pad(utterance, (0, 0, 0, LENGTH - len(utterance))) for utterance in utterances])  # (N, 29, 12)
    return Utterances(inputs, torch.tensor([len(utterance) for utterance in utterances]), torch.tensor(labels))


def _checked(values: list[list[float]], speaker: str, file: str) -> tuple[Tensor, int]:
    """12 coefficients over T stretches of time and the speaker, counted from 1 -> (T, 12) and the label."""
    lengths = sorted({len(row) for row in values})
    if len(values) != WIDTH or len(lengths) != 1 or lengths[0] > LENGTH or not 1 <= int(speaker) <= SPEAKERS:
        raise ValueError(f"path: a line of {file} must have {WIDTH} coefficients of one length, at most {LENGTH}, and a "
                         f"speaker from 1 to {SPEAKERS}, got {len(values)} of the lengths {lengths} and {speaker}")
    return torch.tensor(values).T, int(speaker) - 1
