"""Twelve methods of the chapter "Regularization and augmentation", ten runs each, and the controls behind its reasons.

    OMP_NUM_THREADS=1 python experiments/sweep_regularization.py experiments/records/regularization.json

Run r trains a network of one hidden layer on 300 digits of its own. Every method sees the same digits, starts and order of
batches, so that differences are taken run by run. The 1,000 training digits that no run trains on choose each method's
strength after 300 steps; the test digits take no part in it. Then come 1,000 steps, random labels, moves and noise that say
nothing about pictures, label smoothing by its parts, mixtures of which only the pictures or only the labels are mixed, more
digits, and two methods together. The ten networks of a method are trained side by side, as stacked matrices. The record is
written after every method; a second call goes on. About seven minutes on one core.
"""

import argparse
import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tutorlib.data.batches import ShuffledBatches
from tutorlib.data.digits import Images, load_digits
from tutorlib.models.mlp import MLP
from tutorlib.records import missing, open_record, rounded, surroundings, write_record
from tutorlib.training.augmentation import cutmix, cutout, mixup, rotate, shift
from tutorlib.training.loop import History, train
from tutorlib.training.regularization import l2_penalty, proximal_l1, smooth_labels
from tutorlib.training.schedules import warmup_linear

R, EXAMPLES, POOL, BATCH, HIDDEN, RATE = 10, 300, 3000, 60, 64, 6e-3
LENGTHS = (300, 1000)  # steps; the first chooses the strengths
LONGEST = 3000  # of shifts on random labels: slow, or impossible?
MIXTURES = {"mixup": mixup, "cutmix": cutmix}
STRENGTHS = {
    "L1": (0.03, 0.1, 0.2),
    "L2": (1e-3, 3e-3, 1e-2),
    "dropout": (0.2, 0.5, 0.7),
    "smoothing": (0.05, 0.1, 0.3),
    "noise": (0.3, 0.6, 0.9),
    "pixels": (0.2, 0.5, 0.7),
    "shift": (1, 2, 3),
    "rotate": (10, 15, 25),
    "cutout": (4, 8, 12),
    "mixup": (0.1, 0.3, 1.0),
    "cutmix": (0.1, 0.3, 1.0),
}
PARTS = ("certainty", "evenness", "cap")  # of label smoothing
HALVES = ("pictures", "labels")  # of a mixture
CONTROLS = ("scrambled", "noise", "more noise")  # of a shift
MEMORIZING = ("none", "shift", "rotate", "L2", "dropout", "smoothing")  # the methods that meet random labels
SIZES = (600, 1200, 2400)  # digits
STOPPED_ON = 60  # digits, of the 300
TOGETHER = "shift + rotate"
MANY = ("smoothing",)  # the methods that are tried on the largest number of digits too
KEPT = 4  # decimals


class Run(NamedTuple):
    """Ten networks, trained alike: run r of them on digits r * 300 to r * 300 + size of the pool."""

    method: str
    strength: float = 0
    steps: int = 300
    size: int = EXAMPLES
    labels: str = "true"


class Networks(nn.Module):
    """Ten networks 784-64-10 side by side; nothing passes between them, and Adam treats every number on its own."""

    def __init__(self, dropout: float = 0.0):
        super().__init__()
        first, second = zip(*(started(r).layers for r in range(R)), strict=True)
        self.weights = nn.ParameterList(
            torch.stack([layer.weight.detach().T for layer in layers]) for layers in (first, second)
        )  # (R, 784, F) and (R, F, 10)
        self.biases = nn.ParameterList(
            torch.cat([layer.bias.detach() for layer in layers]) for layers in (first, second)
        )  # of one dimension, so that no penalty takes them
        self.dropout = nn.Dropout(dropout)

    def forward(self, images: Tensor) -> Tensor:  # (R, B, 1, 28, 28)
        (w1, w2), (b1, b2) = self.weights, self.biases
        hidden = images.flatten(2) @ w1 + b1.view(R, 1, -1)  # (R, B, F)
        return self.dropout(hidden.relu()) @ w2 + b2.view(R, 1, -1)  # (R, B, 10)


def started(r: int) -> MLP:
    """The network of run r before its first step."""
    torch.manual_seed(r)
    return MLP((784, HIDDEN, 10))


@cache
def parts() -> tuple[Images, Images, Images]:
    """The pool of 3,000 digits, the 1,000 that choose, and the test."""
    train_set, test = load_digits()
    return Images(*(part[:POOL] for part in train_set)), Images(*(part[POOL:] for part in train_set)), test


def digits_of(r: int, run: Run) -> Images:
    images, labels = (part.roll(-EXAMPLES * r, 0)[: run.size] for part in parts()[0])
    if run.labels == "random":
        labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(r))]
    return Images(images, labels)


def change_of(method: str, strength: float) -> Callable | None:
    """What the method makes of a batch (images, labels, generator), if it is an augmentation."""
    moves = {"shift": shift, "rotate": rotate, "cutout": cutout, "mirror": mirrored, "noise": noisy, "pixels": blanked}
    name, _, half = method.partition(", ")
    if name == "shift" and half:
        return lambda images, labels, g: (meaningless(images, int(strength), half, g), labels)
    if name in moves:
        return lambda images, labels, g: (moves[name](images, strength, g), labels)
    if name in MIXTURES:
        return partial(mixed, MIXTURES[name], strength, half)
    if method == TOGETHER:
        return partial(changed, strength)
    return None


def mirrored(images: Tensor, share: float, g: torch.Generator) -> Tensor:
    """The mistake of the chapter: so many of the images, left to right."""
    chosen = torch.rand(len(images), generator=g) < share
    return torch.where(chosen.view(-1, 1, 1, 1), images.flip(3), images)


def noisy(images: Tensor, deviation: float, g: torch.Generator) -> Tensor:
    """With normal noise on every pixel."""
    return images + deviation * torch.randn(images.shape, generator=g)


def blanked(images: Tensor, share: float, g: torch.Generator) -> Tensor:
    """With so many of the pixels blank, the others brighter for it: dropout of the inputs."""
    return images * (torch.rand(images.shape, generator=g) >= share) / (1 - share)


def meaningless(images: Tensor, largest: int, kind: str, g: torch.Generator) -> Tensor:
    """Changes of a shift's size that say nothing about pictures.

    "scrambled" shifts after the pixels were put in another order, the same for all, and puts them back; "noise" adds normal
    noise that is as long as the change by the shift, and "more noise" as long as that by the scrambled one.
    """
    if "noise" in kind:
        moved = shift(images, largest, g) if kind == "noise" else meaningless(images, largest, "scrambled", g)
        length = (moved - images).flatten(1).norm(dim=1).view(-1, 1, 1, 1)  # (B, 1, 1, 1)
        noise = torch.randn(images.shape, generator=g)
        return images + length * noise / noise.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    order = torch.randperm(images[0].numel(), generator=torch.Generator().manual_seed(0))
    moved = shift(images.flatten(1)[:, order].view_as(images), largest, g).flatten(1)
    return moved[:, order.argsort()].view_as(images)


def mixed(mix: Callable, alpha: float, half: str, images: Tensor, labels: Tensor, g: torch.Generator) -> tuple[Tensor, Tensor]:
    """A mixture; of half of it, only the pictures are mixed and keep the label of the larger share, or only the labels."""
    pictures, shares = mix(images, smooth_labels(labels, 10, 0.0), alpha, g)
    if half == "pictures":
        return pictures, smooth_labels(shares.argmax(1), 10, 0.0)
    return (images if half == "labels" else pictures), shares


def changed(largest: float, images: Tensor, labels: Tensor, g: torch.Generator) -> tuple[Tensor, Tensor]:
    """Shifted by up to `largest` pixels and rotated by up to 15 degrees."""
    return rotate(shift(images, int(largest), g), 15, g), labels


def partly_smoothed(part: str, smoothing: float, logits: Tensor, labels: Tensor) -> Tensor:
    """A part of the smoothed loss, which is the sum of two: how sure of the label, and how even over the other classes.

    "certainty" asks for the smoothed probability of the label and for nothing else, "evenness" for a sure label and for equal
    probabilities of the others. "cap" is no part: an example whose label has the smoothed probability counts no longer.
    """
    target = 1 - smoothing * (logits.size(1) - 1) / logits.size(1)
    log, is_label = logits.log_softmax(1), F.one_hot(labels, logits.size(1)).bool()  # (B, C)
    sure, others = log[is_label], log.masked_fill(is_label, -torch.inf).logsumexp(1)  # (B,) each
    if part == "certainty":
        return -(target * sure + (1 - target) * others).mean()
    if part == "cap":
        return -(sure * (sure.exp() < target)).mean()
    among = logits.masked_select(~is_label).view(len(logits), -1).log_softmax(1)  # (B, C - 1)
    return -(sure + (1 - target) * among.mean(1)).mean()


def trained(run: Run, steps: int | None = None, **options: Any) -> tuple[Networks, History]:
    """The networks of a run, after so many steps (all, by default)."""
    change = change_of(run.method, run.strength)
    sets = [ShuffledBatches(*digits_of(r, run), batch_size=BATCH, seed=r, augment=change) for r in range(R)]
    part = run.method.partition("smoothing, ")[2]
    criterion = (
        partial(partly_smoothed, part, run.strength)
        if part
        else partial(F.cross_entropy, label_smoothing=run.strength if run.method == "smoothing" else 0.0)
    )
    dropout = run.strength if run.method == "dropout" else 0.0

    def loss(networks: Networks, batch: list[Tensor]) -> Tensor:
        logits, targets = networks(batch[0]).flatten(0, 1), batch[1].flatten(0, 1)
        penalty = run.strength * l2_penalty(networks) if run.method == "L2" else 0
        return R * criterion(logits, targets) + penalty  # the sum of ten losses, since each has its own weights

    networks = Networks(dropout)
    torch.manual_seed(0)  # of the masks
    optimizer = torch.optim.Adam(networks.parameters(), lr=RATE, fused=True)
    if run.method == "L1":
        proximal_l1(optimizer, run.strength)

    def stacked(step: int) -> list[Tensor]:
        return [torch.stack(part) for part in zip(*(batches(step) for batches in sets), strict=True)]  # (R, B, ...) each

    history = train(
        networks,
        stacked,
        loss,
        optimizer,
        steps=steps or run.steps,
        schedule=warmup_linear(0, run.steps),
        clip_norm=None,
        progress=False,
        **options,
    )
    return networks.eval(), history


@torch.no_grad()
def scores(networks: Networks, images: Tensor, labels: Tensor) -> Tensor:
    """Share of right answers and cross-entropy of each network, (2, R), on its own images (R, n, ...) or on shared ones."""
    logits = networks(images.expand(R, *images.shape[-4:])).transpose(1, 2)  # (R, 10, n)
    labels = labels.expand(R, -1)  # (R, n)
    right = (logits.argmax(1) == labels).float().mean(1)  # (R,)
    return torch.stack([right, F.cross_entropy(logits, labels, reduction="none").mean(1)])


def own(run: Run, rows: slice = slice(None)) -> Images:
    """The digits of all ten runs, (R, n, ...)."""
    images, labels = zip(*(digits_of(r, run) for r in range(R)), strict=True)
    return Images(*(torch.stack([each[rows] for each in part]) for part in (images, labels)))


def measured(run: Run) -> list[dict]:
    """The record's entries of a run: one, and for stopping a second one, of its networks at the end."""
    begun = time.process_time()
    if run.method == "stopping":
        return stopped(run)
    networks, history = trained(run)
    _, validation, test = parts()
    kept = {"seen": scores(networks, *own(run)), "validation": scores(networks, *validation), "test": scores(networks, *test)}
    return [entry(run, kept, history, begun)]


def stopped(run: Run) -> list[dict]:
    """240 digits to train on, and back to the evaluation, of thirty, with the lowest loss on the other 60."""
    begun, kept, watched = time.process_time(), own(run, slice(240)), own(run, slice(240, None))

    def all_scores(networks: Networks) -> Tensor:
        return torch.stack([scores(networks, *part) for part in (kept, watched, *parts()[1:])])  # (4, 2, R)

    _, history = trained(
        run._replace(method="none", size=EXAMPLES - STOPPED_ON), evaluate=all_scores, evaluate_every=run.steps // 30
    )
    values = torch.stack([value for _, value in history.evaluations])  # (30, 4, 2, R)
    entries = []
    for method, lowest in (("stopping", values[:, 1, 1].argmin(0)), ("240 digits", torch.full((R,), len(values) - 1))):
        at = values[lowest, :, :, torch.arange(R)].movedim(0, -1)  # (4, 2, R)
        found = dict(zip(("seen", "validation", "test"), (at[0], at[2], at[3]), strict=True))
        entries.append(
            entry(run._replace(method=method), found, history, begun)
            | {"after": [history.evaluations[i][0] for i in lowest.tolist()]}
        )
    return entries


def entry(run: Run, found: dict[str, Tensor], history: History, begun: float) -> dict:
    kept = (
        {part: each[0].tolist() for part, each in found.items()}
        | {f"{part} loss": each[1].tolist() for part, each in found.items()}
        | {"first": history.losses[:3]}
    )
    return run._asdict() | rounded(kept, KEPT) | {"seconds": round(time.process_time() - begun, 1)}


def found(record: dict, **what: Any) -> list[dict]:
    """The entries with these values."""
    return [each for each in record["runs"] if all(each[name] == value for name, value in what.items())]


def chosen(record: dict, method: str) -> float:
    """The strength of a method that is best for the digits that choose, after the shorter training."""
    tried = found(record, method=method, steps=LENGTHS[0], size=EXAMPLES, labels="true")
    return max(tried, key=lambda each: mean(each["validation"]))["strength"]


def later(record: dict, method: str) -> list[Run]:
    """What waits for the strength: longer training, random labels, and the parts of a method."""
    strength, last = chosen(record, method), LENGTHS[-1]
    runs = [Run(method, strength, last)]
    runs += [Run(method, strength, last, labels="random")] if method in MEMORIZING else []
    if method == "shift":
        runs += [Run(method, strength, LONGEST, labels="random")]
    if method == "smoothing":
        runs += [Run(method, 0.1, last)] + [Run(f"{method}, {part}", 0.1, steps) for part in PARTS for steps in LENGTHS]
    controls = {"shift": CONTROLS, "mixup": HALVES}.get(method, ())
    return list(dict.fromkeys(runs + [Run(f"{method}, {name}", strength, last) for name in controls]))


def with_more(record: dict) -> list[Run]:
    """Plain training on more digits, and at the largest number some of the methods too."""
    last, most = LENGTHS[-1], SIZES[-1]
    return (
        [Run("none", 0, LENGTHS[0], SIZES[0])]
        + [Run("none", 0, last, size) for size in SIZES]
        + [Run(method, chosen(record, method), last, most) for method in MANY]
    )


def plans(record: dict, method: str) -> list[Callable[[], list[Run]]]:
    """What is measured of a method; the second half needs what the first has found."""
    if method == "more digits":
        return [lambda: with_more(record)]
    if method == "together":
        return [lambda: [Run(TOGETHER, 2, LENGTHS[-1])]]
    if method == "stopping":
        return [lambda: [Run(method, 0, steps) for steps in LENGTHS]]
    return [lambda: [Run(method, strength) for strength in STRENGTHS.get(method, (0,))], lambda: later(record, method)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("record", type=Path, help="JSON file to write, or to go on with")
    parser.add_argument(
        "--only",
        nargs="+",
        choices=["none", *STRENGTHS, "stopping", "more digits", "together"],
        help="of the methods (default: all)",
    )
    options = parser.parse_args()
    record = open_record(options.record, lambda: surroundings() | {"runs": []})
    for method in options.only or ["none", *STRENGTHS, "stopping", "more digits", "together"]:
        go_on(record, method, options.record)


def go_on(record: dict, method: str, path: Path) -> None:
    """Measure what the record lacks of a method, and write it."""
    for plan in plans(record, method):
        for run in missing(plan(), record):
            record["runs"] += measured(run)
            write_record(path, record)
            last = record["runs"][-1]
            print(
                *run,
                f"{mean(last['seen']):.4f} {mean(last['validation']):.4f} {mean(last['test']):.4f}",
                last["seconds"],
                flush=True,
            )


if __name__ == "__main__":
    main()
