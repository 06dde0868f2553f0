"""Twenty labelled photographs and the names of ImageNet's 1,000 classes, from installed packages that are never imported.

The photographs are those of ImageNet (Deng et al. 2009) which the package `foolbox` carries; the names come from `open_clip`.
"""

import ast
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tutorlib.arguments import check_whole
from tutorlib.packages import check_files_sha256, installed_file

LABELS = 243, 559, 438, 990, 949, 853, 609, 609, 915, 455, 541, 630, 741, 471, 129, 99, 251, 22, 317, 305
SHA256 = "d625818dacf79cc40ced71ff12f1d4955c3d2655ae4b047b3c93b1819cb8f3fe"  # of all files, one after the other; foolbox 3.3.4
NAMES_SHA256 = "3bd8adb168bdf80fd681a71258e67f2c4d0f8ed73eae9b504ed5063e1726bbe9"  # open_clip_torch 3.3.0
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's channels, by which pretrained networks are fed


class Photograph(NamedTuple):
    """image (3, H, W) of uint8; label, the number of its ImageNet class."""

    image: Tensor
    label: int


def load_photographs() -> list[Photograph]:
    """All twenty.

    Raises ModuleNotFoundError where `foolbox` is not installed, ValueError where its files are not the expected ones.
    """
    from PIL import Image  # an extra, as plots are: the package itself does not need it

    paths = [installed_file("foolbox", f"data/imagenet_{number:02d}_{label}.jpg", what="The set of photographs")
             for number, label in enumerate(LABELS)]
    check_files_sha256(paths, SHA256, "the photographs of foolbox", "foolbox 3.3.4")
    pictures = [np.array(Image.open(path).convert("RGB")) for path in paths]  # (H, W, 3)
    return [Photograph(torch.from_numpy(picture).permute(2, 0, 1), label)  # (3, H, W)
            for picture, label in zip(pictures, LABELS, strict=True)]


def to_input(image: Tensor, side: int = 224) -> Tensor:
    """(3, H, W) of uint8 -> (1, 3, side, side) as pretrained networks want it.

    The shorter edge is resized to side · 8/7, the middle square is cut out, and ImageNet's mean and deviation of each channel
    are taken off. Raises ValueError for an image of another shape or type, whose values would be of another size.
    """
    if image.dim() != 3 or image.size(0) != 3 or 0 in image.shape or image.dtype != torch.uint8:
        raise ValueError(f"image must be (3, H, W) of torch.uint8, got {tuple(image.shape)} of {image.dtype}")
    check_whole("side", side)
    height, width = image.shape[-2:]
    scale = side * 8 / 7 / min(height, width)
    size = round(height * scale), round(width * scale)
    resized = F.interpolate(image[None].float() / 255, size, mode="bilinear", antialias=True, align_corners=False)
    top, left = (size[0] - side) // 2, (size[1] - side) // 2
    square = resized[..., top : top + side, left : left + side]  # (1, 3, side, side)
    mean, std = (torch.tensor(values, device=image.device).view(3, 1, 1) for values in (MEAN, STD))
    return (square - mean) / std


def load_class_names() -> list[str]:
    """A name for each of the 1,000 classes, in order. Raises as `load_photographs` does, for the package `open_clip_torch`."""
    path = installed_file("open_clip", "zero_shot_metadata.py", NAMES_SHA256, distribution="open_clip_torch",
                          what="The list of class names")
    return list(_assigned_tuple(path, "IMAGENET_CLASSNAMES"))


def _assigned_tuple(path: Path, name: str) -> tuple[str, ...]:
    """The value of a literal assignment in a Python file that is read, not run."""
    source = path.read_text("utf8")
    start = re.search(rf"^{name} = ", source, flags=re.M)
    module = ast.parse(source[start.start():])
    return ast.literal_eval(module.body[0].value)
