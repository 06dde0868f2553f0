"""How many times as long a training step takes in float32 as with autocast to bfloat16, by the width of a small GPT.

    OMP_NUM_THREADS=1 python experiments/time_precision.py experiments/records/precision.json

The two steps are taken one after the other, on the process's own clock, and their ratio is taken round by round, so that a
busy machine does not favor one. The record names the processor, on which such a ratio depends.
"""

import argparse
import time
from pathlib import Path

import torch

from tutorlib.device import seed_everything
from tutorlib.models import GPT, GPTConfig
from tutorlib.records import rounded, surroundings, write_record
from tutorlib.training import token_cross_entropy

WIDTHS, ROUNDS = (32, 128, 512), 7
VOCABULARY, LENGTH, BATCH, LAYERS = 512, 128, 8, 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("record", type=Path, help="JSON file to write")
    path = parser.parse_args().record
    settings = {"rounds": ROUNDS, "vocabulary": VOCABULARY, "length": LENGTH, "batch": BATCH, "layers": LAYERS}
    write_record(path, {"settings": settings, "seed": 0, **surroundings(),
                        "speed": rounded([timed(width, ROUNDS) for width in WIDTHS])})


def timed(width: int, rounds: int) -> list[float]:
    """The width, and the quartiles over rounds of the ratio: float32's seconds over autocast's."""
    seed_everything(0)
    model = GPT(GPTConfig(VOCABULARY, LENGTH, width=width, num_heads=width // 32, num_layers=LAYERS))
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    windows, ratios = torch.randint(0, VOCABULARY, (BATCH, LENGTH + 1)), []
    for place in range(rounds + 1):
        seconds = [step_seconds(model, optimizer, windows, fast) for fast in (False, True)]
        ratios += [seconds[0] / seconds[1]] if place else []  # the first round is for the caches
    return [width, *torch.tensor(ratios).quantile(torch.tensor([0.25, 0.5, 0.75])).tolist()]


def step_seconds(model: GPT, optimizer: torch.optim.Optimizer, windows: torch.Tensor, fast: bool) -> float:
    """Of one step, on the process's own clock."""
    begun = time.process_time()
    with torch.autocast("cpu", torch.bfloat16, enabled=fast):
        loss = token_cross_entropy(model(windows[:, :-1]), windows[:, 1:])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return time.process_time() - begun


if __name__ == "__main__":
    main()
