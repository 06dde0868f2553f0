"""One small GPT on characters of the World English Bible, trained with many ways to write a number: which bits are needed?

    OMP_NUM_THREADS=1 python experiments/train_precision.py experiments/records/precision.json

The ways to store a weight and to compute with it (`ARMS`), then a dial (`DIALS`): the bits of the fraction that are left of
the stored weights, rounded to nearest or stochastically while all is computed in float32, or that are left of all numbers
that a matrix product reads and gives, and of their gradients, while the weights stay in float32. Each run of a seed starts from
the same weights and reads the same batches in the same order. bfloat16 is PyTorch's own. float16 is float32 whose numbers are
rounded at each linear map (`RoundedLinear`), since a CPU without instructions for it takes twenty times as long.

Before them a step of models of several widths is timed, float32 against autocast, on the process's own clock.
The record is written after every run; a second call goes on where it stopped.
"""

import argparse
import math
import time
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tutorlib.data.batches import RandomWindows
from tutorlib.data.bible import load_bible
from tutorlib.device import seed_everything
from tutorlib.layers.linears import replace_linears
from tutorlib.models import GPT, GPTConfig
from tutorlib.records import missing, open_record, rounded, surroundings, write_record
from tutorlib.text.characters import CharacterTokenizer
from tutorlib.training import token_cross_entropy, warmup_linear
from tutorlib.training.precision import (
    BFLOAT16,
    LossScaler,
    MasterWeights,
    NumberFormat,
    RoundedLinear,
    RoundedWeights,
    round_stochastically,
    round_to,
)

SEEDS, STEPS, WARM, BATCH, LENGTH, RATE = (0, 1, 2), 600, 30, 16, 64, 2e-3
WIDTH, HEADS, LAYERS = 64, 4, 2
ARMS = ("float32", "autocast", "bfloat16", "float32 moments", "stochastic", "master", "float16", "scaled")
DIALS, BITS = ("nearest", "stochastic weights", "arithmetic"), (7, 5, 3, 2)
EVERY, WINDOWS, FIRST = 20, 256, 4
WIDTHS, ROUNDS = (32, 128, 512), 7  # of the models whose steps are timed


class Run(NamedTuple):
    """An arm, or a dial at some bits."""

    arm: str
    bits: int
    seed: int


class Texts(NamedTuple):
    """Characters to train on and held out, (N,) each; how many kinds there are."""

    train: Tensor
    held_out: Tensor
    vocabulary: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("record", type=Path, help="JSON file to write")
    path, texts = parser.parse_args().record, load_texts()
    record = open_record(path, lambda: {"settings": settings(), **surroundings(),
                                        "first_losses": rounded(first_losses(texts), 5), "runs": []})
    if "speed" not in record:
        record["speed"] = rounded([timed(width) for width in WIDTHS])
        write_record(path, record)
    for run in missing(plan(), record):
        record["runs"].append(run._asdict() | rounded(trained(texts, run)))
        write_record(path, record)
        print({name: value for name, value in record["runs"][-1].items() if name not in ("curve", "gains")}, flush=True)


def settings() -> dict:
    return {"steps": STEPS, "warm": WARM, "batch": BATCH, "length": LENGTH, "rate": RATE, "width": WIDTH, "heads": HEADS,
            "layers": LAYERS, "held_out_windows": WINDOWS}


def plan() -> list[Run]:
    """The arms seed by seed, then the dials."""
    arms = [Run(arm, 0, seed) for seed in SEEDS for arm in ARMS]
    return arms + [Run(dial, bits, seed) for seed in SEEDS[:2] for bits in BITS for dial in DIALS]


def timed(width: int) -> list[float]:
    """Width, and how many times as long a step takes in float32 as in autocast: quartiles of rounds, one after the other."""
    seed_everything(0)
    model = GPT(GPTConfig(512, 128, width=width, num_heads=width // 32, num_layers=2))
    optimizer, windows, ratios = adamw(model.parameters()), torch.randint(0, 512, (8, 129)), []
    for place in range(ROUNDS + 1):
        seconds = []
        for fast in (False, True):
            begun = time.process_time()
            with torch.autocast("cpu", torch.bfloat16, enabled=fast):
                loss = token_cross_entropy(model(windows[:, :-1]), windows[:, 1:])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            seconds.append(time.process_time() - begun)
        ratios += [seconds[0] / seconds[1]] if place else []  # the first round is for the caches
    return [width, *torch.tensor(ratios).quantile(torch.tensor([0.25, 0.5, 0.75])).tolist()]


def load_texts() -> Texts:
    train, held_out = ("\n\n".join(part) for part in load_bible())
    tokenizer = CharacterTokenizer(train + held_out)
    return Texts(*(torch.tensor(tokenizer.encode(text)) for text in (train, held_out)), len(tokenizer))


def new_model(vocabulary: int, seed: int) -> GPT:
    seed_everything(seed)
    return GPT(GPTConfig(vocabulary, LENGTH, width=WIDTH, num_heads=HEADS, num_layers=LAYERS))


def adamw(weights: list[nn.Parameter]) -> torch.optim.AdamW:
    return torch.optim.AdamW(list(weights), lr=RATE)


def coarse(values: Tensor, bits: int) -> Tensor:
    """`round_to` a fraction of so many bits with the exponents of float32, in three operations (Dekker 1971; Veltkamp)."""
    far = values * (2.0 ** (23 - bits) + 1)  # 2^104 and larger would overflow; nothing here is near
    return far - (far - values)


def to_half(values: Tensor) -> Tensor:
    return values.half().float()


def prepared(model: GPT, run: Run) -> tuple[GPT, object, LossScaler]:
    """The model as the run stores and computes it, its optimizer, and its scaler, which scales by 1 where none is wanted."""
    scaler, dice = LossScaler(1.0, interval=10**9), torch.Generator().manual_seed(run.seed)
    by_dice = partial(round_stochastically, form=NumberFormat(8, run.bits or 7), generator=dice)
    if run.arm in ("bfloat16", "float32 moments", "stochastic", "master"):
        model = model.bfloat16()
    if run.arm in ("float16", "scaled"):
        replace_linears(model, partial(RoundedLinear, rounding=to_half))
    if run.arm == "scaled":
        scaler = LossScaler(interval=100)
    if run.arm == "arithmetic":
        replace_linears(model, partial(RoundedLinear, rounding=partial(coarse, bits=run.bits)))
    if run.arm == "master":
        return model, MasterWeights(model.parameters(), adamw), scaler
    if run.arm == "float32 moments":
        return model, RoundedWeights(model.parameters(), adamw, partial(round_to, form=BFLOAT16)), scaler
    if run.arm == "nearest":
        return model, RoundedWeights(model.parameters(), adamw, partial(coarse, bits=run.bits)), scaler
    if run.arm in ("stochastic", "stochastic weights"):
        return model, RoundedWeights(model.parameters(), adamw, by_dice), scaler
    return model, adamw(model.parameters()), scaler


def trained(texts: Texts, run: Run, steps: int = STEPS) -> dict:
    """What a run gave: bits a character on held-out text, the curve, and which weights are still what they were."""
    begun = time.process_time()
    model, optimizer, scaler = prepared(new_model(texts.vocabulary, run.seed), run)
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    losses, scales = fit(model, optimizer, scaler, texts, run, steps)
    spent = time.process_time() - begun
    stayed = {name: (weight == before[name]).float().mean().item() for name, weight in model.named_parameters()}
    gains = torch.cat([weight.detach().float() for name, weight in model.named_parameters() if name.endswith("norm.weight")])
    return {"bits_held_out": held_out_bits(model, texts), "seconds": spent,
            "curve": [sum(losses[place:place + EVERY]) / EVERY for place in range(0, len(losses), EVERY)],
            "stayed": share(stayed, before, ""), "gains_stayed": share(stayed, before, "norm.weight"),
            "gains": gains.tolist() if run.seed == 0 and run.arm in ARMS else [], "scales": scales}


def share(stayed: dict[str, float], weights: dict[str, Tensor], end: str) -> float:
    """Of the weights whose name ends so, those that have not moved."""
    sizes = {name: weight.numel() for name, weight in weights.items() if name.endswith(end)}
    return sum(stayed[name] * size for name, size in sizes.items()) / sum(sizes.values())


def fit(model: GPT, optimizer, scaler: LossScaler, texts: Texts, run: Run, steps: int) -> tuple[list[float], list[float]]:
    """The losses, and the scale after every EVERY steps."""
    batches = RandomWindows(texts.train, LENGTH, batch_size=BATCH, seed=run.seed)
    schedule, losses, scales = warmup_linear(WARM, STEPS), [], []
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = RATE * schedule(step)
        optimizer.zero_grad()
        inputs, targets = batches(step)
        with torch.autocast("cpu", torch.bfloat16, enabled=run.arm == "autocast"):
            loss = token_cross_entropy(model(inputs), targets)
        scaler.scaled(loss).backward()
        scaler.step(optimizer, clip_norm=1.0)
        losses.append(loss.item())
        if step % EVERY == 0:
            scales.append(math.log2(scaler.scale))
    return losses, scales


@torch.no_grad()
def held_out_bits(model: GPT, texts: Texts) -> float:
    """Bits a character of the second halves of windows that lie evenly in the held-out text."""
    windows = texts.held_out.unfold(0, LENGTH + 1, (len(texts.held_out) - LENGTH - 1) // WINDOWS)[:WINDOWS]  # (W, T + 1)
    half = LENGTH // 2
    nats = [F.cross_entropy(model(part[:, :-1])[:, half:].float().mT, part[:, half + 1:]) for part in windows.split(64)]
    return torch.stack(nats).mean().item() / math.log(2)


def first_losses(texts: Texts) -> list[float]:
    run = Run("float32", 0, 0)
    return fit(*prepared(new_model(texts.vocabulary, 0), run), texts, run, FIRST)[0]


if __name__ == "__main__":
    main()
