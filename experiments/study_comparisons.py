"""The runs behind the chapter "Experiments": one method under many seeds, two that differ a little, and a sweep.

    OMP_NUM_THREADS=1 python experiments/study_comparisons.py experiments/records/comparisons.json

Every run trains a network of one hidden layer on 1,000 digits (196 pixels, 300 steps of 60) and is judged on the same 3,800
others. The arms: "plain" under 60 seeds, "dropout" and "more digits" (1,200 of them) under 30. Of each run the record keeps
which of the 3,800 it got right, as a hexadecimal number whose highest bit is the first digit. Then a sweep of four settings:
200 random trials, and 8 studies of 40 trials by optuna's TPE, each with its share right on 500 development digits (the first of
the 3,800) and on the 3,300 others. About two and a half minutes on one core; a second call goes on.
"""

import argparse
import hashlib
import math
import time
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tutorlib.data.batches import ShuffledBatches
from tutorlib.data.digits import load_digits, pooled
from tutorlib.models.mlp import MLP
from tutorlib.records import missing, open_record, run_of, surroundings, write_record
from tutorlib.training.loop import train
from tutorlib.training.losses import cross_entropy

SIZE, MORE, STEPS, BATCH, KEPT = 1000, 1200, 300, 60, 5  # digits to train on; decimals of a loss
DEVELOPMENT = 500  # of the rows that are judged, the first
SEEDS = {"plain": 60, "dropout": 30, "more digits": 30}
TRIALS, STUDIES, LENGTH = 200, 8, 40


class Run(NamedTuple):
    arm: str
    seed: int


class Settings(NamedTuple):
    rate: float = 3e-3
    hidden: int = 64
    dropout: float = 0.0
    decay: float = 0.01


PLAIN = Settings()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("record", type=Path)
    path = parser.parse_args().record
    record = open_record(path, lambda: {**surroundings(), "data": digest(), "runs": [], "random": [], "studies": []})
    for run in missing([Run(arm, seed) for arm, many in SEEDS.items() for seed in range(many)], record):
        record["runs"].append(measured(run))
        if run.seed % 10 == 9:
            write_record(path, record)
            print(run, f"{record['runs'][-1]['right'].count('f') / 950:.2f}", flush=True)
    if not record["random"]:
        record["random"] = random_trials()
    while len(record["studies"]) < STUDIES:
        record["studies"].append(study(len(record["studies"])))
        print("study", len(record["studies"]), max(trial["development"] for trial in record["studies"][-1]), flush=True)
        write_record(path, record)
    write_record(path, record)


@cache
def digits() -> tuple[Tensor, Tensor]:
    """Vectors (5000, 196) and labels (5000,); the first 1,200 train, the others are judged."""
    train_part, test = load_digits()
    return pooled(torch.cat([train_part.images, test.images])), torch.cat([train_part.labels, test.labels])


def digest() -> str:
    """What tells these data from others: the first sixteen figures of their sha256."""
    return hashlib.sha256(b"".join(part.numpy().tobytes() for part in digits())).hexdigest()[:16]


def trained(seed: int, settings: Settings = PLAIN, size: int = SIZE, steps: int = STEPS) -> tuple[MLP, list[float]]:
    """A network and its losses. The seed decides the start, the order of the batches and what dropout drops."""
    x, labels = digits()
    torch.manual_seed(seed)
    model = MLP((x.shape[1], settings.hidden, 10), dropout=settings.dropout)
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.rate, weight_decay=settings.decay)
    batches = ShuffledBatches(x[:size], labels[:size], batch_size=BATCH, seed=seed)
    history = train(model, batches, cross_entropy, optimizer, steps=steps, clip_norm=None, progress=False)
    return model.eval(), history.losses


@torch.no_grad()
def judged(model: nn.Module) -> Tensor:
    """Which of the 3,800 digits that nobody trains on it gets right, (3800,) of booleans."""
    x, labels = digits()
    return model(x[MORE:]).argmax(1) == labels[MORE:]


def of_arm(run: Run, steps: int = STEPS) -> tuple[MLP, list[float]]:
    settings = Settings(dropout=0.2) if run.arm == "dropout" else PLAIN
    return trained(run.seed, settings, MORE if run.arm == "more digits" else SIZE, steps)


def measured(run: Run) -> dict[str, Any]:
    began = time.process_time()
    model, losses = of_arm(run)
    return {**run._asdict(), "first": [round(loss, KEPT) for loss in losses[:3]], "right": packed(judged(model)),
            "seconds": round(time.process_time() - began, 2)}


# -- the sweep ----------------------------------------------------------------------------------------------------------


def scored(settings: Settings, seed: int) -> dict[str, Any]:
    """One trial: its settings, and its shares right on the development digits and on the others."""
    right = judged(trained(seed, settings)[0]).double()
    return {**{name: float(f"{value:.4g}") for name, value in settings._asdict().items()},
            "development": round(right[:DEVELOPMENT].mean().item(), 4), "test": round(right[DEVELOPMENT:].mean().item(), 5)}


def random_trials(many: int = TRIALS) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(0)
    found = []
    for seed in range(many):
        rate, hidden, dropout, decay = torch.rand(4, generator=generator).tolist()
        found.append(scored(Settings(math.exp(math.log(3e-4) + rate * math.log(100)), round(8 * 16**hidden), 0.6 * dropout,
                                     1e-3 * 1000**decay), seed))
    return found


def study(number: int, length: int = LENGTH) -> list[dict[str, Any]]:
    """One study by TPE with its own seed, over the same ranges: the trials in their order."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    found = []

    def objective(trial: optuna.Trial) -> float:
        settings = Settings(trial.suggest_float("rate", 3e-4, 3e-2, log=True), trial.suggest_int("hidden", 8, 128, log=True),
                            trial.suggest_float("dropout", 0, 0.6), trial.suggest_float("decay", 1e-3, 1, log=True))
        found.append(scored(settings, 1000 * (number + 1) + trial.number))
        return found[-1]["development"]

    optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=number)).optimize(objective, length)
    return found


# -- what the page reads --------------------------------------------------------------------------------------------------


def packed(right: Tensor) -> str:
    """(N,) of booleans as a hexadecimal number of N bits, the first the highest."""
    return f"{int(''.join(map(str, right.int().tolist())), 2):0{-(-len(right) // 4)}x}"


def unpacked(figures: str, rows: int) -> Tensor:
    """(rows,) of 0 and 1: `packed`, undone."""
    return torch.tensor([int(bit) for bit in f"{int(figures, 16):0{rows}b}"])


def rights(record: dict, arm: str) -> Tensor:
    """(seeds, 3800) of 0 and 1, the seeds in their order."""
    runs = sorted((run for run in record["runs"] if run["arm"] == arm), key=lambda run: run["seed"])
    return torch.stack([unpacked(run["right"], 5000 - MORE) for run in runs])


def rerun(record: dict, arm: str, seed: int) -> int:
    """On how many of the 3,800 digits a repetition differs from the record."""
    kept = next(run for run in record["runs"] if run_of(Run, run) == Run(arm, seed))
    return int((judged(of_arm(Run(arm, seed))[0]) != unpacked(kept["right"], 5000 - MORE).bool()).sum())


if __name__ == "__main__":
    main()
