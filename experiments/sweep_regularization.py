"""Choose the strengths of the chapter "Regularization and augmentation", one network at a time.

    python experiments/sweep_regularization.py results.json --runs 10

trains networks on 300 digits each with every method and strength, and writes their accuracies on the 1,000 training digits that
no run trains on (these choose the strength) and on the test digits. It prints, for each, the mean difference from training
without the method and its standard error over the runs, which share digits, start and order of batches. About ten minutes.
"""

import argparse
import json
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from tutorlib.data.batches import ShuffledBatches
from tutorlib.data.digits import Digits, load_digits
from tutorlib.evaluation.classification import accuracy
from tutorlib.models.mlp import MLP
from tutorlib.training.augmentation import cutmix, cutout, mixup, rotate, shift
from tutorlib.training.loop import train
from tutorlib.training.losses import cross_entropy
from tutorlib.training.regularization import l2_penalty, proximal_l1, smooth_labels
from tutorlib.training.schedules import warmup_linear

EXAMPLES, BATCH, HIDDEN, RATE = 300, 60, 64, 6e-3
STRENGTHS = {
    "none": [0],
    "L1": [0.03, 0.1, 0.2],
    "L2": [1e-3, 3e-3, 1e-2],
    "dropout": [0.2, 0.5, 0.7],
    "smoothing": [0.05, 0.1, 0.3],
    "shift": [1, 2, 3],
    "rotate": [10, 15, 25],
    "cutout": [4, 8, 12],
    "mixup": [0.1, 0.3, 1.0],
    "cutmix": [0.1, 0.3, 1.0],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="JSON file to write")
    parser.add_argument("--runs", type=int, default=10, help="runs for each strength, at most 10 (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=300, help="steps of training (default: %(default)s)")
    parser.add_argument("--methods", nargs="+", choices=STRENGTHS, default=list(STRENGTHS),
                        help="beside none, with which they are compared (default: all)")
    options = parser.parse_args()
    digits, results = load_digits(), []
    for method in ["none", *(method for method in options.methods if method != "none")]:  # the reference comes first
        for strength in STRENGTHS[method]:
            scores = [scored(digits, method, strength, run, options.steps) for run in range(options.runs)]
            validation, test = zip(*scores, strict=True)
            results.append({"method": method, "strength": strength, "validation": validation, "test": test})
            print(f"{method:10} {strength:<6} " + "  ".join(
                f"{part} {sentence(results[-1][part], results[0][part])}" for part in ("validation", "test")), flush=True)
    options.results.write_text(json.dumps({"steps": options.steps, "results": results}, indent=1) + "\n")


def scored(digits: Digits, method: str, strength: float, run: int, steps: int) -> tuple[float, float]:
    """Accuracy on the digits that no run trains on, and on the test digits, of run `run` on 300 digits of its own."""
    rows = slice(run * EXAMPLES, (run + 1) * EXAMPLES)
    batches = ShuffledBatches(digits.train.images[rows], digits.train.labels[rows], batch_size=BATCH, seed=run,
                              augment=augmentation(method, strength))
    torch.manual_seed(run)
    network = MLP((784, HIDDEN, 10), dropout=strength if method == "dropout" else 0.0)
    optimizer = torch.optim.Adam(network.parameters(), lr=RATE)
    if method == "L1":
        proximal_l1(optimizer, strength)
    loss: Callable = partial(cross_entropy, label_smoothing=strength if method == "smoothing" else 0.0)
    if method == "L2":
        def loss(network: MLP, batch: tuple[Tensor, Tensor]) -> Tensor:
            return cross_entropy(network, batch) + strength * l2_penalty(network)
    train(network, batches, loss, optimizer, steps=steps, schedule=warmup_linear(0, steps), clip_norm=None, progress=False)
    return accuracy(network, digits.train.images[3000:], digits.train.labels[3000:]), accuracy(network, *digits.test)


def augmentation(method: str, strength: float) -> Callable | None:
    """The change of a batch (images, labels, generator) that the method makes, if it is an augmentation."""
    changes = {"shift": shift, "rotate": rotate, "cutout": cutout}
    mixtures = {"mixup": mixup, "cutmix": cutmix}
    if method in changes:
        return lambda images, labels, generator: (changes[method](images, strength, generator), labels)
    if method in mixtures:
        return lambda images, labels, generator: mixtures[method](images, smooth_labels(labels, 10, 0.0), strength, generator)
    return None


def sentence(scores: list[float], reference: list[float]) -> str:
    """The mean score and, in percentage points, the mean difference from the reference with its standard error."""
    difference = 100 * (torch.tensor(scores) - torch.tensor(reference))
    error = difference.std().item() / math.sqrt(len(scores)) if len(scores) > 1 else math.nan
    return f"{torch.tensor(scores).mean():.4f} ({difference.mean():+.2f} +- {error:.2f})"


if __name__ == "__main__":
    main()
