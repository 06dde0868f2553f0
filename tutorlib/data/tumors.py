"""Breast tumors: 569 women, 30 measures of the cell nuclei of each, and whether the tumor was malignant (Street et al. 1993).

A needle took cells of the lump; of the nuclei in a picture of them ten features were measured, such as radius and texture,
and of each the mean, its standard error, and the mean of the three largest. The table is read by path from the package
scikit-learn, which is never imported.
"""

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from tutorlib.packages import installed_file

FILE = "datasets/data/breast_cancer.csv"
SHA256 = "fed3eb72d0575ef6192293f5093c6e801b1476b577d0386bf4455504522172ed"  # scikit-learn 1.9
PATIENTS, MEASURES = 569, 30
FEATURES = ("radius", "texture", "perimeter", "area", "smoothness", "compactness", "concavity", "concave points", "symmetry",
            "fractal dimension")
NAMES = tuple(f"{kind} {feature}" for kind in ("mean", "error of", "worst") for feature in FEATURES)


class Tumors(NamedTuple):
    """inputs (569, 30) in float64, named by `NAMES`; labels (569,) in int64: 1 malignant, 0 benign."""

    inputs: Tensor
    labels: Tensor


def load_tumors() -> Tumors:
    """The whole table, in its own order: 212 malignant tumors and 357 benign ones.

    Raises ModuleNotFoundError where scikit-learn is missing, FileNotFoundError where it lacks the file, ValueError where the
    file is not the expected one.
    """
    return read_tumors(installed_file("sklearn", FILE, SHA256, distribution="scikit-learn", what="The table of tumors"))


def read_tumors(path: Path) -> Tumors:
    """The table of a file of comma-separated values: a line of counts, then 30 measures and a label (0 malignant) a line.

    Raises ValueError for a line of another form.
    """
    inputs, labels = [], []
    for number, line in enumerate(Path(path).read_text().splitlines()[1:], 2):
        *measures, label = line.split(",")
        if len(measures) != MEASURES or label not in ("0", "1"):
            raise ValueError(f"path: line {number} must hold {MEASURES} measures and 0 or 1, got {len(measures)} and {label!r}")
        inputs.append([float(value) for value in measures])
        labels.append(1 - int(label))
    return Tumors(torch.tensor(inputs, dtype=torch.float64), torch.tensor(labels))
