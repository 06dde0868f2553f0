"""Held-out loss on the way of trainings on text, with a rate that falls and with one that stays: curves to be foretold.

    OMP_NUM_THREADS=1 python experiments/study_forecasts.py experiments/records/forecasts.json

The trainings are those of attention in train_architectures.py on a Bible's characters, from the same seeds and batches; every
50 steps the network is asked about held-out text. One arm keeps its rate instead of letting it fall along a cosine, and
changes nothing else. The record is written after every run; a second call goes on where it stopped.
"""

import argparse
import math
import runpy
import time
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import torch

from tutorlib.records import missing, open_record, rounded, surroundings, write_record
from tutorlib.training import train, warmup_cosine

FAMILY = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("train_architectures.py"))))
STEPS, EVERY, WARMUP = 400, 50, 20
SEEDS = (0, 1, 2)


class Forecast(NamedTuple):
    """One training: the seed of its start and batches, and whether its rate falls or stays."""

    seed: int
    rate: str


def runs() -> list[Forecast]:
    return [Forecast(seed, rate) for seed in SEEDS for rate in ("falls", "stays")]


def stays(step: int) -> float:
    """The schedule without its fall: the same warm-up, then 1."""
    return min(1.0, (step + 1) / WARMUP)


def curve(run: Forecast, text, steps: int = STEPS) -> dict:
    """Held-out nats a character after every 50 steps, and the losses of the batches at these steps and of the first three."""
    model, batches = FAMILY.prepare(FAMILY.Run("corpus", 128, "attention", run.seed), text)
    optimizer = torch.optim.AdamW(model.parameters(), lr=FAMILY.RATE, betas=(0.9, 0.95), weight_decay=0.0, fused=True)

    def nats(network: torch.nn.Module) -> float:
        return FAMILY.bits_a_character(network, text.held_out, 128) * math.log(2)

    history = train(
        model,
        batches,
        FAMILY.loss,
        optimizer,
        steps=steps,
        progress=False,
        evaluate=nats,
        evaluate_every=EVERY,
        schedule=warmup_cosine(WARMUP, STEPS) if run.rate == "falls" else stays,
    )
    return {
        "first": history.losses[:3],
        "batch": history.losses[EVERY - 1 :: EVERY],
        "held_out": [value for _, value in history.evaluations],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("record", type=Path)
    path = parser.parse_args().record
    torch.set_num_threads(1)
    text = FAMILY.corpus()
    record = open_record(path, lambda: {"steps": STEPS, "every": EVERY, **surroundings(), "runs": []})
    for run in missing(runs(), record):
        start = time.process_time()
        found = rounded(curve(run, text))
        record["runs"].append(run._asdict() | {"seconds": round(time.process_time() - start, 1)} | found)
        write_record(path, record)


if __name__ == "__main__":
    main()
