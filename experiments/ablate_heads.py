"""Induction heads of SmolLM2-135M: which heads copy, and what repeated and ordinary text cost without them.

    OMP_NUM_THREADS=1 python experiments/ablate_heads.py experiments/records/heads.json

A sequence is a row of random ordinary tokens and the same row again. Heads are scored on some sequences and switched off on
others; ordinary text is the World English Bible. The record is written after every condition; a second call goes on.
"""

import argparse
import json
import random
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from tutorlib.data.bible import load_bible
from tutorlib.interpretation import attention_weights, heads_off
from tutorlib.pretrained import load
from tutorlib.records import rounded, surroundings, write_record

PERIOD, SCORED, ABLATED, WINDOW, WINDOWS = 40, 3, 5, 80, 3
ORDINARY = range(1000, 20_000)  # token ids: neither marks nor bytes nor rare pieces

Head = tuple[int, int]


def repeated(count: int, seed: int, period: int = PERIOD) -> Tensor:
    """Random tokens, said twice: (count, 2 period)."""
    tokens = torch.randint(ORDINARY.start, ORDINARY.stop, (count, period), generator=torch.Generator().manual_seed(seed))
    return tokens.repeat(1, 2)


def head_scores(model, tokens: Tensor, period: int = PERIOD) -> tuple[Tensor, Tensor]:
    """Each head's mean weight, in the second half, on the token after the earlier copy and on the token before: (N, H) each."""
    weights = torch.stack(attention_weights(model, tokens))  # (N, B, H, T, T)
    after = weights.diagonal(1 - period, dim1=-2, dim2=-1)[..., 1:]  # (N, B, H, period): query t, key t - period + 1
    before = weights.diagonal(-1, dim1=-2, dim2=-1)[..., period - 1:]
    return after.mean((1, 3)), before.mean((1, 3))


@torch.no_grad()
def losses(model, tokens: Tensor) -> Tensor:
    """Nats a token, (B, T - 1): entry t - 1 is the loss of token t."""
    return F.cross_entropy(model(tokens)[:, :-1].mT, tokens[:, 1:], reduction="none")


def ordered(scores: Tensor) -> list[Head]:
    """All heads, the highest score first."""
    return [(place // scores.size(1), place % scores.size(1)) for place in scores.flatten().argsort(descending=True).tolist()]


def conditions(induction: Tensor, before: Tensor) -> dict[str, list[Head]]:
    """What is switched off together, by name. "beside": drawn in the layers of the others, without them."""
    best, heads = ordered(induction), induction.size(1)
    layer = best[0][0]
    found = {"none": [], "best": best[:1], "previous token": ordered(before)[:1]}
    found |= {f"layer {layer}, head {head}": [(layer, head)] for head in range(heads) if (layer, head) != best[0]}
    found |= {"best 5": best[:5]} | {f"5 beside, {draw}": beside(best[:5], best[:16], heads, draw) for draw in range(3)}
    return found


def beside(taken: list[Head], excluded: list[Head], heads: int, seed: int) -> list[Head]:
    """For each head taken, another of its layer that is drawn and not excluded."""
    dice, found = random.Random(seed), []
    for layer, _ in taken:
        free = [(layer, head) for head in range(heads) if (layer, head) not in excluded + found]
        found.append(dice.choice(free))
    return found


def text_windows(tokenizer) -> Tensor:
    """The beginnings of chapters that are held out: (WINDOWS, WINDOW)."""
    chapters = load_bible().held_out[:WINDOWS]
    return torch.tensor([tokenizer.encode(chapter[:2000])[:WINDOW] for chapter in chapters])


def measure(model, text: Tensor, off: list[Head]) -> dict:
    """Loss of each sequence: its first half, its second, and of each window of text."""
    with heads_off(model, off):
        twice, plain = losses(model, repeated(ABLATED, 1)), losses(model, text)
    return {"heads": off, "first": twice[:, :PERIOD - 1].mean(1).tolist(), "second": twice[:, PERIOD:].mean(1).tolist(),
            "text": plain.mean(1).tolist()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("record", type=Path, help="JSON file to write, or to go on with")
    path = parser.parse_args().record
    model, tokenizer = load("smollm2")
    if path.exists():
        record = json.loads(path.read_text())
    else:
        start = time.process_time()
        induction, before = head_scores(model, repeated(SCORED, 0))
        record = {"settings": {"period": PERIOD, "scored": SCORED, "ablated": ABLATED, "window": WINDOW, "windows": WINDOWS},
                  **surroundings(), "seconds": round(time.process_time() - start, 1),
                  "induction": rounded(induction.tolist()), "before": rounded(before.tolist()), "runs": {}}
    text = text_windows(tokenizer)
    for name, off in conditions(torch.tensor(record["induction"]), torch.tensor(record["before"])).items():
        if name not in record["runs"]:
            start = time.process_time()
            record["runs"][name] = rounded(measure(model, text, off)) | {"seconds": round(time.process_time() - start, 1)}
            write_record(path, record)
            print(name, off, record["runs"][name]["seconds"], sum(record["runs"][name]["second"]) / ABLATED, flush=True)


if __name__ == "__main__":
    main()
