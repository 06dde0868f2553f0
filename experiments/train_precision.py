"""Train a small GPT from scratch in few bits: float16 by the scale of its loss, and bfloat16 weights without a float32 copy.

    OMP_NUM_THREADS=1 python experiments/train_precision.py experiments/records/train_precision.json

writes, for six seeds, what each way gives on held-out text after equally many steps. A seed's weights and batches are the
same in all ways. Where one is in float16, its products are (autocast), and weights and optimizer in float32; where one is in
bfloat16, its weights are, and everything is computed in float32. The record is written anew after each run, and a run that
it has is not made again.
"""

import argparse
import runpy
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from tutorlib.data.batches import RandomWindows
from tutorlib.device import seed_everything
from tutorlib.models import GPT, GPTConfig
from tutorlib.records import missing, open_record, rounded, surroundings, write_record
from tutorlib.training import token_cross_entropy
from tutorlib.training.precision import BFLOAT16, LossScaler, RoundedWeights, round_stochastically, round_to

VOCABULARY, LENGTH, BATCH, WIDTH, LAYERS, HEADS = 2048, 128, 4, 64, 2, 2
STEPS, SEEDS, HIGH, LOW, HELD_OUT = 180, (0, 1, 2, 3, 4, 5), 3e-3, 3e-4, 64
NEVER = 10**6  # steps until a scale doubles: it stays


class Run(NamedTuple):
    """One training: a way to hold numbers, the power of two by which a float16 loss is multiplied, the rate, the seed."""

    way: str
    power: int | None
    rate: float
    seed: int


def planned() -> list[Run]:
    """One seed after the other, so that a record that was cut has whole seeds."""
    ways = [("float32", None, HIGH), ("float16", -8, HIGH), ("float16", 0, HIGH), ("float16", 16, HIGH),
            ("nearest", None, HIGH), ("chance", None, HIGH),
            ("float32", None, LOW), ("nearest", None, LOW), ("chance", None, LOW)]
    return [Run(*way, seed) for seed in SEEDS for way in ways]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("record", type=Path, help="JSON file to write")
    path = parser.parse_args().record
    settings = {"vocabulary": VOCABULARY, "length": LENGTH, "batch": BATCH, "width": WIDTH, "layers": LAYERS,
                "heads": HEADS, "steps": STEPS, "held_out": HELD_OUT}
    record = open_record(path, lambda: {"settings": settings, **surroundings(), "runs": []})
    tokens, unseen = texts()
    for run in missing(planned(), record):
        record["runs"].append(run._asdict() | rounded(trained(run, tokens, unseen), 5))
        write_record(path, record)
        print(record["runs"][-1], flush=True)


def texts() -> tuple[Tensor, Tensor]:
    """Tokens to train on (N,), and rows of held-out ones (HELD_OUT, T + 1): those of the recorded GPT."""
    *_, tokens, unseen = runpy.run_path(str(Path(__file__).with_name("train_gpt.py")))["prepared"]()
    rows = unseen.unfold(0, LENGTH + 1, LENGTH)
    return tokens, rows[::len(rows) // HELD_OUT][:HELD_OUT]


def trained(run: Run, tokens: Tensor, unseen: Tensor, steps: int = STEPS) -> dict:
    """Nats a held-out token at the end; steps left out; the share of the logits' gradients that were zero in the last step."""
    seed_everything(run.seed)
    model = GPT(GPTConfig(VOCABULARY, LENGTH, width=WIDTH, num_heads=HEADS, num_layers=LAYERS))
    optimizer, scaler = optimizer_of(run, model), LossScaler(2.0 ** (run.power or 0), interval=NEVER)
    batches = RandomWindows(tokens, LENGTH, batch_size=BATCH, seed=run.seed)
    left_out, zeros, start = 0, [], time.process_time()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = run.rate * min(1.0, (step + 1) / 20, (steps - step) / (0.7 * steps))
        inputs, targets = batches(step)  # (B, T) each
        with torch.autocast("cpu", torch.float16, enabled=run.way == "float16"):
            logits = model(inputs)  # (B, T, V)
            loss = token_cross_entropy(logits, targets)
        if step + 1 == steps:
            logits.register_hook(lambda gradient: zeros.append((gradient == 0).float().mean().item()))
        optimizer.zero_grad()
        scaler.scaled(loss).backward()
        left_out += not scaler.step(optimizer)
    return {"nats": held_out(model, unseen), "left_out": left_out, "zeros": zeros[0],
            "seconds": time.process_time() - start}


def optimizer_of(run: Run, model: GPT) -> torch.optim.Optimizer | RoundedWeights:
    """AdamW; where the weights are in bfloat16, only what the rounding leaves of its step."""
    adam: Callable = partial(torch.optim.AdamW, lr=run.rate, betas=(0.9, 0.95), weight_decay=0.0)
    dice = torch.Generator().manual_seed(run.seed)
    rounding = {"nearest": partial(round_to, form=BFLOAT16),
                "chance": partial(round_stochastically, form=BFLOAT16, generator=dice)}.get(run.way)
    return RoundedWeights(model.parameters(), adam, rounding) if rounding else adam(model.parameters())


@torch.no_grad()
def held_out(model: GPT, rows: Tensor) -> float:
    """Nats a token of rows (N, T + 1), computed in float32."""
    return F.cross_entropy(model(rows[:, :-1]).mT, rows[:, 1:]).item()


if __name__ == "__main__":
    main()
