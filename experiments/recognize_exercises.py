"""A small convolutional network that tells shoulder exercises by a watch: tested on pieces at random, and on people.

    python experiments/recognize_exercises.py experiments/records/physiotherapy.json

Ten folds each: windows dealt at random, a tenth of every recording, or a person. A record that exists is gone on with.
"""

import argparse
import time
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tutorlib.data.physiotherapy import EXERCISES, SENSORS, Windows, cut_windows, load_physiotherapy
from tutorlib.device import seed_everything
from tutorlib.records import complete, open_record, rounded, surroundings

LENGTH, STRIDE, FOLDS, EPOCHS, BATCH, RATE = 200, 100, 10, 8, 64, 3e-3


class Run(NamedTuple):
    split: str  # "random", "time" or "people"
    fold: int
    own: bool = False  # each person's windows to mean 0 and spread 1


def runs() -> list[Run]:
    return [Run(split, fold, own) for own, split in ((False, "people"), (False, "random"), (True, "people"), (False, "time"))
            for fold in range(FOLDS)]


def network(width: int = 32) -> nn.Sequential:
    """Windows (B, 6, L) -> logits (B, 7): three convolutions along time, each halving it, and a mean."""
    sizes = SENSORS, width, width, 2 * width
    layers = [layer for inner, outer in pairwise(sizes)
              for layer in (nn.Conv1d(inner, outer, 9, stride=2, padding=4), nn.BatchNorm1d(outer), nn.ReLU())]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Dropout(0.3), nn.Linear(2 * width, len(EXERCISES)))


def folds(windows: Windows, split: str) -> Tensor:
    """The fold (N,) of each window: its person, the tenth of its recording that it lies in, or any."""
    if split == "people":
        return windows.people
    if split == "random":
        return torch.randperm(len(windows.labels), generator=torch.Generator().manual_seed(0)) % FOLDS
    recording, piece = windows.people * 100 + windows.labels * 10 + windows.arms, torch.zeros_like(windows.people)
    for each in recording.unique():
        rows = (recording == each).nonzero()[:, 0]
        piece[rows] = torch.arange(len(rows)) * FOLDS // len(rows)
    return piece


def taught(held: Tensor, split: str) -> Tensor:
    """The windows (N,) to learn from: those not held out nor, by time, beside one that is, which overlaps it."""
    return ~(held | held.roll(1) | held.roll(-1)) if split == "time" else ~held


def per_person(values: Tensor, windows: Windows) -> Tensor:
    """Values (N, ...) with mean 0 and spread 1 over all windows of a person's arm; no label is used."""
    made = torch.empty_like(values)
    for who in (windows.people * 2 + windows.arms).unique():
        rows = windows.people * 2 + windows.arms == who
        dims = (0, 2) if values.dim() == 3 else 0
        made[rows] = (values[rows] - values[rows].mean(dims, keepdim=True)) / (values[rows].std(dims, keepdim=True) + 1e-6)
    return made


def fitted(inputs: Tensor, labels: Tensor, seed: int) -> nn.Module:
    seed_everything(seed)
    model, steps = network(), EPOCHS * (len(labels) // BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), RATE, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(labels))[:steps // EPOCHS * BATCH].split(BATCH):
            loss = F.cross_entropy(model(inputs[rows]), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return model.eval()


def perform(run: Run) -> dict:
    begun = time.process_time()
    windows = cut_windows(load_physiotherapy(), LENGTH, STRIDE)
    inputs = windows.inputs / windows.inputs.std((0, 2), keepdim=True)
    if run.own:
        inputs = per_person(windows.inputs, windows)
    held = folds(windows, run.split) == run.fold
    known = taught(held, run.split)
    model = fitted(inputs[known], windows.labels[known], run.fold)
    with torch.no_grad():
        said = model(inputs[held]).argmax(1)
    right = (said == windows.labels[held]).double().mean().item()
    return run._asdict() | rounded({"right": right}) | {"seconds": round(time.process_time() - begun, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("record", type=Path, help="JSON file to write, or to go on with")
    path = parser.parse_args().record
    record = open_record(path, lambda: {"settings": {"length": LENGTH, "stride": STRIDE, "epochs": EPOCHS, "batch": BATCH,
                                                     "rate": RATE}, **surroundings(), "runs": []})
    complete(path, record, runs(), perform)


if __name__ == "__main__":
    main()
