"""What size buys: tasks that are learned from a prompt, by small models and by a real one, and losses that a law foretells.

    OMP_NUM_THREADS=1 python experiments/study_scale.py experiments/records/scale.json

Four parts. "context" trains small models on prompts whose mapping is drawn anew, with two layers, with one, and with one that
is given the token before each token; "tasks" trains them on ever more different mappings. "family" trains GPTs of several
widths on equally many characters; when the small ones are done the script writes into the record what it expects of the
large ones, and only then runs those; "rate" gives all of them the rate of the smallest, and "around" two of them half and
twice their own. "words" and "dates" ask SmolLM2, unchanged, with a number of examples in its prompt. The record is written
after every run; a second call goes on where it stopped.
"""

import argparse
import random
import time
from functools import cache
from itertools import product
from pathlib import Path
from statistics import mean
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tutorlib.data.batches import RandomWindows, numbered_generator
from tutorlib.data.bible import load_bible
from tutorlib.data.in_context import MappingPrompts, Prompts, shown_before
from tutorlib.evaluation.scaling import fit_scaling_law
from tutorlib.models import GPT, GPTConfig
from tutorlib.pretrained import load
from tutorlib.records import missing, open_record, rounded, surroundings, write_record
from tutorlib.text.characters import CharacterTokenizer
from tutorlib.training import token_cross_entropy, train, warmup_cosine

SEEDS = (0, 1, 2)
SYMBOLS, LABELS, PAIRS = 4, 8, 8
LEARNING = 300  # steps
MODELS = {"two layers": (2, 64), "one layer": (1, 64), "one layer, wide": (1, 128), "one layer, told": (1, 64)}
TASKS = (1, 4, 16, 64, 3584)  # different mappings in training; 512 of the 4,096 are held out
LENGTH, BATCH, STEPS, LAYERS, RATE = 16, 32, 512, 2, 0.4
FITTED, FORETOLD = (16, 20, 24, 32, 40, 48), (96, 128)
FACTORS = {"half": 0.5, "twice": 2.0}  # of the rate that a width has in the family
SHOTS, ASKED = (0, 1, 2, 4), 40  # of dates
WORDS = ([" dog", " cat", " horse", " bird"], [" red", " blue", " green", " black", " white", " yellow", " brown", " pink"])
PROMPTS = 100  # of words
MONTHS = "January February March April May June July August September October November December".split()
FIRST = 3  # losses at the start, which another machine can repeat


class Run(NamedTuple):
    """One training, or one question to the real model: `arm` is the model, the width, the number of mappings, the shots."""

    part: str
    arm: str
    seed: int


def runs(stage: int) -> list[Run]:
    """Stage 1, the large members of the family, comes after what is expected of them; stage 2 last."""
    if stage == 0:
        return [Run("words", arm, 0) for arm in ("true", "drawn anew")] + [
            Run("dates", f"{arm} {shots}", 0) for shots in SHOTS for arm in ("true", "shuffled") if shots or arm == "true"] + [
            Run("context", name, seed) for seed in SEEDS for name in MODELS] + [
            Run("tasks", str(count), seed) for seed in SEEDS for count in TASKS] + [
            Run("family", str(width), seed) for seed in SEEDS for width in FITTED]
    if stage == 1:
        return [Run("family", str(width), seed) for seed in SEEDS for width in FORETOLD]
    return [Run("rate", str(width), seed) for seed in SEEDS for width in (32, 96)] + [
        Run("around", f"{width} {name}", seed) for seed in SEEDS for width in (FITTED[0], FORETOLD[0]) for name in FACTORS]


# -- models -------------------------------------------------------------------------------------------------------------


def new_gpt(vocabulary: int, length: int, width: int, heads: int, layers: int = LAYERS, hidden: int | None = None) -> GPT:
    """Its matrices start at 0.02 (768 / width)^0.5, so that all widths start alike."""
    model = GPT(GPTConfig(vocabulary, length, width, heads, layers, hidden))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_((768 / width) ** 0.5)
    return model


class Told(nn.Module):
    """A GPT whose every place is also given the token before it, by a table of its own: nothing else is changed."""

    def __init__(self, model: GPT):
        super().__init__()
        self.model, self.before = model, nn.Embedding.from_pretrained(model.embedding.weight.detach().clone().normal_(0, 0.07),
                                                                      freeze=False)

    def forward(self, tokens: Tensor) -> Tensor:
        model, earlier = self.model, F.pad(tokens, (1, -1))  # (B, T): at the first place a token that means nothing
        states = model.position(model.embedding(tokens) + self.before(earlier))
        for layer in model.layers:
            states = layer(states, causal=True)  # (B, T, D)
        return model.output(model.norm(states))


def adamw(model: nn.Module, rate: float, beta: float) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, beta), weight_decay=0.0, fused=True)


# -- prompts ------------------------------------------------------------------------------------------------------------


def label_logits(model: nn.Module, tokens: Tensor) -> Tensor:
    """(B, pairs, V), read at each symbol."""
    return model(tokens[:, :-1])[:, ::2]


def label_loss(model: nn.Module, batch: Prompts) -> Tensor:
    return token_cross_entropy(label_logits(model, batch.tokens), batch.tokens[:, 1::2])


@torch.no_grad()
def correct(model: nn.Module, tokens: Tensor, labels: Tensor) -> Tensor:
    return label_logits(model, tokens).argmax(-1) == labels  # (B, pairs)


def known_mappings() -> Tensor:
    """All that are not held out, (3584, 4) label tokens."""
    every = torch.tensor(list(product(range(LABELS), repeat=SYMBOLS)))
    return SYMBOLS + every[every.sum(1) % LABELS != 0]


class FewMappings:
    """Batches of prompts as those of `MappingPrompts`, with mappings out of a list (M, 4)."""

    def __init__(self, mappings: Tensor, seed: int, batch_size: int = 128):
        self.mappings, self.seed, self.batch_size = mappings, seed, batch_size

    def __call__(self, step: int) -> Prompts:
        generator = numbered_generator(self.seed, step)
        mapping = self.mappings[torch.randint(len(self.mappings), (self.batch_size,), generator=generator)]
        symbols = torch.randint(SYMBOLS, (self.batch_size, PAIRS), generator=generator)
        return Prompts(torch.stack([symbols, mapping.gather(1, symbols)], 2).flatten(1), mapping)


def learn(model: nn.Module, batches, upto: int | None = None):
    return train(model, batches, label_loss, adamw(model, 0.005, 0.98), steps=upto or LEARNING, progress=False,
                 schedule=warmup_cosine(30, LEARNING))


def new_prompts() -> Prompts:
    return MappingPrompts(batch_size=2000, seed=1, held_out=True)(0)


def context(run: Run, upto: int | None = None) -> dict:
    layers, width = MODELS[run.arm]
    torch.manual_seed(run.seed)
    model = new_gpt(SYMBOLS + LABELS, 2 * PAIRS, width, 1, layers, 16)
    model = Told(model) if run.arm.endswith("told") else model
    history = learn(model, MappingPrompts(seed=run.seed), upto)
    new = new_prompts()
    right, shown = correct(model.eval(), new.tokens, new.tokens[:, 1::2]).float(), shown_before(new.tokens) > 0
    return {"shown": right[shown].mean().item(), "not shown": right[~shown].mean().item(), "shots": right.mean(0).tolist(),
            "parameters": sum(p.numel() for p in model.parameters()), "first": history.losses[:FIRST]}


def tasks(run: Run, upto: int | None = None) -> dict:
    known = known_mappings()
    chosen = known[torch.randperm(len(known), generator=numbered_generator(run.seed, 0))[:int(run.arm)]]
    torch.manual_seed(run.seed)
    model = new_gpt(SYMBOLS + LABELS, 2 * PAIRS, 64, 1, 2, 16)
    history = learn(model, FewMappings(chosen, run.seed), upto)
    found = {"first": history.losses[:FIRST]}
    for name, asked in (("own", FewMappings(chosen, run.seed, 2000)(LEARNING)), ("new", new_prompts())):
        found[name] = correct(model.eval(), asked.tokens, asked.tokens[:, 1::2]).float().mean(0).tolist()
    return found


# -- the family ---------------------------------------------------------------------------------------------------------


@cache
def corpus() -> tuple[Tensor, Tensor, int]:
    """Characters to train on (N,), held-out windows (W, T + 1), and how many characters there are."""
    text, unseen = ("\n".join(part) for part in load_bible())
    tokenizer = CharacterTokenizer(text + unseen)
    train_text, new_text = (torch.tensor(tokenizer.encode(part)) for part in (text, unseen))
    return train_text, new_text.unfold(0, LENGTH + 1, 189)[:2048], len(tokenizer)


def next_loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return token_cross_entropy(model(batch[0]), batch[1])


def member(width: int, seed: int, rate: float, upto: int | None = None) -> dict:
    """Two layers; 512 steps of 32 rows of 16 characters."""
    text, held_out, vocabulary = corpus()
    torch.manual_seed(seed)
    model = new_gpt(vocabulary, LENGTH, width, max(1, width // 16))
    history = train(model, RandomWindows(text, LENGTH, batch_size=BATCH, seed=seed), next_loss, adamw(model, rate, 0.95),
                    steps=upto or STEPS, progress=False, schedule=warmup_cosine(STEPS // 10, STEPS))
    with torch.no_grad():
        loss = next_loss(model.eval(), (held_out[:, :-1], held_out[:, 1:])).item()
    return {"loss": loss, "N": 12 * LAYERS * width**2, "first": history.losses[:FIRST]}


def expected(found: list[dict]) -> dict:
    """Losses of the large members from the small ones: by the law, and by its rivals, all named before."""
    small = [run for run in found if run["part"] == "family" and int(run["arm"]) in FITTED]
    sizes, losses = torch.tensor([[float(run["N"])] for run in small]), torch.tensor([run["loss"] for run in small])
    law, plain = fit_scaling_law(sizes, losses), fit_scaling_law(sizes, losses, floor=False)
    before, last = (mean(run["loss"] for run in small if int(run["arm"]) == width) for width in FITTED[-2:])
    slope = (last - before) / torch.tensor(FITTED[-1] / FITTED[-2]).log().item()
    asked = torch.tensor([[float(12 * LAYERS * width**2)] for width in FORETOLD])
    return rounded({"floor": law.floor, "scale": law.scales.item(), "exponent": law.exponents.item(),
                    "law": law.predict(asked).tolist(), "no floor": plain.predict(asked).tolist(),
                    "nothing more": [last] * len(FORETOLD),
                    "last gain again": [last + slope * torch.tensor(width / FITTED[-1]).log().item() for width in FORETOLD]})


# -- the real model -----------------------------------------------------------------------------------------------------


@cache
def real_model():
    return load("smollm2")


@torch.no_grad()
def words(run: Run, upto: int | None = None) -> dict:
    """The task of the small models in words, `dog: red`; an answer is the likeliest of all tokens, or of the 8 labels."""
    model, tokenizer = real_model()
    symbol_ids, label_ids, (colon,), (end,) = (
        torch.tensor([tokenizer.encode(word)[0] for word in each]) for each in (*WORDS, [":"], ["\n"]))
    batch = MappingPrompts(batch_size=upto or PROMPTS, seed=2)(0)
    symbols, truth = batch.tokens[:, ::2], batch.tokens[:, 1::2] - SYMBOLS  # (B, pairs)
    said = truth
    if run.arm == "drawn anew":
        said = torch.randint(LABELS, truth.shape, generator=numbered_generator(3, 0))
    text = torch.stack([symbol_ids[symbols], colon.expand_as(truth), label_ids[said], end.expand_as(truth)], 2).flatten(1)
    hits, among = [], []
    for rows, right in zip(text.split(50), truth.split(50), strict=True):
        logits = model(rows)[:, 1::4]  # (B, pairs, V), read at the colon
        hits.append(logits.argmax(-1) == label_ids[right])
        among.append(logits[..., label_ids].argmax(-1) == right)
    seen = shown_before(batch.tokens) > 0
    hits, among = torch.cat(hits).float(), torch.cat(among).float()
    return {"whole": hits.mean(0).tolist(), "among": among.mean(0).tolist(), "shown": among[seen].mean().item(),
            "not shown": among[~seen].mean().item(), "prompts": len(text),
            "rows": [sum(int(hit) << pair for pair, hit in enumerate(row)) for row in hits]}  # a prompt each, a bit a pair


def a_date(dice: random.Random) -> tuple[str, str]:
    month, day, year = dice.randrange(12), dice.randint(10, 28), dice.randint(1900, 2019)
    return f"{MONTHS[month]} {day}, {year}", f"{year}-{month + 1:02}-{day}"


@torch.no_grad()
def dates(run: Run, upto: int | None = None) -> dict:
    """`March 15, 1987 -> 1987-03-15`: right if greedy writing would give every token of the answer."""
    model, tokenizer = real_model()
    arm, shots = run.arm.split()
    dice, right = random.Random(4), []
    for _ in range(upto or ASKED):
        pairs = [a_date(dice) for _ in range(max(SHOTS) + 1)]
        shown, (question, answer) = pairs[:int(shots)], pairs[-1]
        if arm == "shuffled":  # each shot bears the answer of a date that is not in the prompt
            shown = [(asked, a_date(dice)[1]) for asked, _ in shown]
        start = tokenizer.encode("".join(f"{asked} -> {said}\n" for asked, said in shown) + f"{question} ->")
        rest = tokenizer.encode(f" {answer}\n")
        logits = model(torch.tensor([start + rest]))[0, len(start) - 1:-1]  # (tokens of the answer, V)
        right.append(logits.argmax(-1).tolist()[:-1] == rest[:-1])
    return {"right": sum(right), "asked": len(right)}


# -- the record ---------------------------------------------------------------------------------------------------------


def perform(run: Run, upto: int | None = None) -> dict:
    if run.part in ("family", "rate"):
        width = int(run.arm)
        return member(width, run.seed, RATE / (width if run.part == "family" else min(FITTED)), upto)
    if run.part == "around":
        width, factor = run.arm.split()
        return member(int(width), run.seed, FACTORS[factor] * RATE / int(width), upto)
    return {"context": context, "tasks": tasks, "words": words, "dates": dates}[run.part](run, upto)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("record", type=Path, help="JSON file to write, or to go on with")
    path = parser.parse_args().record
    record = open_record(path, lambda: {**surroundings(), "runs": []})
    for stage in range(3):
        if stage == 1 and "expected" not in record:  # before any of the large members is run, and never again
            record["expected"] = expected(record["runs"])
            write_record(path, record)
        for run in missing(runs(stage), record):
            start = time.process_time()
            found = rounded(perform(run))
            record["runs"].append(run._asdict() | found | {"seconds": round(time.process_time() - start, 1)})
            write_record(path, record)
            print(record["runs"][-1], flush=True)


if __name__ == "__main__":
    main()
