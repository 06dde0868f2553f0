"""Teach the real SmolLM2-135M two small tasks, for the chapter "Fine-tuning": with adapters of several ranks and in several
places, with all weights, with the output matrix alone, with shuffled answers, and with other text mixed in.

    OMP_NUM_THREADS=1 python experiments/fine_tune_smollm2.py experiments/records/fine_tune_smollm2.json

A run takes a fixed number of steps of BATCH conversations, all new ones, and counts which answers it gets wholly right,
greedily: of HELD_OUT new questions, and of ELSE of a kind that it never saw. What it forgot is the loss on two other
texts. The record is written anew after every run, in the order of what matters most, and a run that it holds is not done
again. The adapter SAVED is kept in a file beside the record. It all runs in bfloat16 where `--float32` does not forbid it.
"""

import argparse
import inspect
import json
import random
import statistics
import textwrap
import time
from collections.abc import Sequence
from copy import deepcopy
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tutorlib.data.batches import numbered_generator
from tutorlib.data.bible import load_bible
from tutorlib.data.instructions import (
    DATE_INSTRUCTION,
    NUMBER_INSTRUCTION,
    UNSEEN_FORMS,
    Pair,
    date_pairs,
    number_pairs,
)
from tutorlib.generation import generate
from tutorlib.pretrained import load
from tutorlib.pretrained.smollm2 import chat_prompt
from tutorlib.records import missing, open_record, surroundings, write_record
from tutorlib.training import train, warmup_linear
from tutorlib.training.adapters import adapter_parameters, insert_adapters, merge_adapters, save_adapter, unmerge_adapters
from tutorlib.training.instructing import answer_batch, answer_loss
from tutorlib.training.losses import NO_CLASS, token_cross_entropy

BATCH, HELD_OUT, ELSE, TOGETHER, FIRST = 4, 80, 40, 20, 2
WINDOW, WINDOWS = 64, 8  # tokens of other text
MIXED = 1  # windows of other text that are added to a batch
STEPS = {"dates": 40, "numbers": 80}
PLACES = {"all": None, "attention": ("query", "key", "value", "attention.output"),
          "feed-forward": ("gate", "expand", "contract"), "values": ("value",)}
PLACES["layer 14"] = tuple(f"14.{part}.{name.rpartition('.')[2]}" for part in ("attention", "feed_forward")
                           for name in PLACES[part.replace("_", "-")])
INSTRUCTIONS = {"dates": DATE_INSTRUCTION, "numbers": NUMBER_INSTRUCTION}
LONGEST = {"dates": 16, "numbers": 24}  # tokens of an answer that is written out
END = "<|im_end|>"
SHOTS, HELD_SEED, SPOKEN = 4, 900, 3
KEPT = 64, 8, 1, 0  # ranks of a change that are kept
MORE = "16 examples", "other examples", "twice the steps"
BEGUN = "The date is"  # what the untaught model likes to begin with


class Run(NamedTuple):
    task: str
    arm: str  # "none", "begun", "shots", "adapter", "all weights", "output matrix"
    rank: int = 0  # 0: no adapter
    places: str = ""  # one of PLACES
    rate: float = 0.0
    extra: str = ""  # "shuffled": every question has another's answer; "mixed": other text in each batch; one of MORE
    seed: int = 0


SAVED = Run("dates", "adapter", 4, "all", 1e-3)


def steps_of(run: Run) -> int:
    return STEPS[run.task] * (2 if run.extra == "twice the steps" else 1)


def shots_of(run: Run) -> list[Pair]:
    """The solved examples that stand in the prompt."""
    return taught(run)[:16 if run.extra == "16 examples" else SHOTS] if run.arm == "shots" else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("record", type=Path, help="JSON file to write, or to go on with")
    parser.add_argument("--float32", action="store_true", help="no bfloat16")
    parser.add_argument("--runs", type=int, default=1000, help="how many runs at most (default: all)")
    options = parser.parse_args()
    bench = Bench(None if options.float32 else torch.bfloat16)
    record = open_record(options.record, lambda: opened(bench))
    for run in missing(planned(), record)[:options.runs]:
        done, model = bench.done(run)
        record["runs"].append(run._asdict() | done)
        write_record(options.record, record)
        if run == SAVED:
            save_adapter(model, options.record.with_suffix(".safetensors"), torch.float16)
        print({key: value for key, value in record["runs"][-1].items() if key not in ("losses", "said")}, flush=True)
        del model


def opened(bench: "Bench") -> dict:
    return {**surroundings(), "autocast": str(bench.autocast), "steps": STEPS, "batch": BATCH, "held_out": HELD_OUT,
            "first_losses": bench.first_losses(), "runs": []}


def planned() -> list[Run]:
    """What matters most comes first."""
    rank = lambda rank, seed=0: Run("dates", "adapter", rank, "all", 1e-3, seed=seed)  # noqa: E731
    shuffled = lambda seed: Run("dates", "adapter", 8, "all", 1e-3, "shuffled", seed)  # noqa: E731
    every = lambda rate, seed=0: Run("dates", "all weights", rate=rate, seed=seed)  # noqa: E731
    numbers = lambda seed: Run("numbers", "adapter", 8, "all", 1e-3, seed=seed)  # noqa: E731
    few = lambda places: Run("dates", "adapter", 1, places, 1e-3)  # noqa: E731
    return [SAVED, Run("dates", "none"), Run("dates", "shots"), rank(8), shuffled(0), rank(1), few("layer 14"), every(1e-4),
            Run("dates", "adapter", 8, "all", 1e-3, "mixed"), few("values"), rank(64),
            Run("numbers", "none"), numbers(0), Run("numbers", "shots"),
            Run("dates", "output matrix", rate=1e-3), Run("dates", "adapter", 8, "all", 2.5e-4), every(3e-5),
            Run("dates", "adapter", 8, "attention", 1e-3), Run("dates", "adapter", 8, "feed-forward", 1e-3),
            rank(8, 1), every(1e-4, 1), rank(2), rank(16), rank(32), Run("dates", "adapter", 8, "all", 4e-3),
            rank(8, 2), rank(1, 1), rank(64, 1), shuffled(1), every(1e-4, 2), Run("dates", "output matrix", rate=1e-2),
            rank(1, 2), rank(64, 2), numbers(1),
            Run("dates", "begun"), Run("dates", "shots", extra="16 examples"),
            *(Run("dates", "shots", extra="other examples", seed=seed) for seed in (1, 2)),
            Run("dates", "adapter", 8, "all", 2.5e-4, "twice the steps")]


class Bench:
    """The real weights, questions with their answers, other texts, and what each arm does with them."""

    def __init__(self, autocast: torch.dtype | None):
        self.autocast = autocast
        self.model, self.tokenizer = load("smollm2")
        self.bible = load_bible()
        self.texts = {"Bible": self.windows(self.bible.held_out[10::14], WINDOWS),
                      "docstrings": self.windows(docstrings(), WINDOWS)}

    def windows(self, texts: Sequence[str], count: int) -> Tensor:
        """The first WINDOW tokens of `count` texts that have so many: (count, WINDOW)."""
        rows = (self.tokenizer.encode(text[:2000])[:WINDOW] for text in texts)
        return torch.tensor(list(islice((row for row in rows if len(row) == WINDOW), count)))

    def rows(self, task: str, pairs: Sequence[Pair], shots: Sequence[Pair] = (),
             begun: str = "") -> tuple[list[list[int]], list[list[int]]]:
        """The tokens of the questions, asked as the model was trained to be asked, and of the answers, with their end.

        Where the answer has been begun, the prompt goes so far, and what is left is the answer without an end.
        """
        before = [turn for pair in shots for turn in (("user", pair.question), ("assistant", pair.answer))]
        prompts = [chat_prompt([*before, ("user", pair.question)], INSTRUCTIONS[task]) for pair in pairs]
        encode = self.tokenizer.encode
        if begun:
            return [encode(text) + encode(begun) for text in prompts], [encode(" " + pair.answer) for pair in pairs]
        return [encode(text) for text in prompts], [encode(pair.answer + END) for pair in pairs]

    def in_precision(self):
        return torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.autocast is not None)

    def batches(self, run: Run) -> "Batches":
        pairs = taught(run)
        mixed = self.windows(self.bible.train[run.seed::9], MIXED * steps_of(run)) if run.extra == "mixed" else None
        return Batches(*self.rows(run.task, pairs), mixed)

    def build(self, run: Run) -> tuple[nn.Module, list[nn.Parameter]]:
        """A copy of the model as the arm changes it, and what is to be trained."""
        model = deepcopy(self.model)
        if run.arm == "adapter":
            insert_adapters(model, run.rank, names=PLACES[run.places], generator=numbered_generator(run.seed, 1))
            return model, adapter_parameters(model)
        model.requires_grad_(run.arm == "all weights")
        if run.arm == "output matrix":
            model.output.weight = nn.Parameter(model.output.weight.detach().clone())  # no longer the embedding
            return model, [model.output.weight]
        return model, list(model.parameters())

    def fitted(self, run: Run, stop: int | None = None) -> tuple[nn.Module, list[float]]:
        model, moved = self.build(run)
        optimizer = torch.optim.AdamW(moved, lr=run.rate, weight_decay=0.0, fused=True)
        steps = steps_of(run)
        history = train(model, self.batches(run), loss, optimizer, steps=stop or steps, autocast=self.autocast,
                        schedule=warmup_linear(steps // 8, steps), progress=False)
        return model.eval(), history.losses

    def done(self, run: Run) -> tuple[dict, nn.Module]:
        """What a run took and got, and the model that it made."""
        if run.arm in ("none", "shots", "begun"):
            return self.scores(self.model, run), self.model
        start = time.process_time()
        model, losses = self.fitted(run)
        seconds = time.process_time() - start
        trained = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
        if run.arm == "adapter":
            merge_adapters(model)
        found = {"trained": trained, "seconds": round(seconds, 1), "losses": [round(each, 4) for each in losses],
                 **self.scores(model, run)}
        if run.arm == "all weights" and run.seed == 0:
            found["kept"] = self.kept(model, run)
        return found, unmerge_adapters(model) if run.arm == "adapter" else model

    def scores(self, model: nn.Module, run: Run) -> dict:
        shots, begun = shots_of(run), BEGUN if run.arm == "begun" else ""
        found = {"right": {kind: self.right(model, run.task, pairs, shots, begun) for kind, pairs in asked(run.task).items()}}
        if begun:
            return found
        if run.arm != "shots":
            found["nats"] = {name: self.nats(model, windows) for name, windows in self.texts.items()}
        if run.seed == 0 and run.extra != "16 examples":
            found["said"] = {kind: [[*pair, self.said(model, run.task, pair, shots)] for pair in pairs[:SPOKEN]]
                             for kind, pairs in asked(run.task).items()}
        return found

    @torch.no_grad()
    def kept(self, model: nn.Module, run: Run) -> dict[str, dict]:
        """Of what training did to each adapted matrix only the best part of rank r (Eckart and Young 1936); 0: nothing of it.

        What was done to embedding and norms stays. `share` is the mean share of the squared change that is kept.
        """
        changed, before = dict(model.named_parameters()), dict(self.model.named_parameters())
        names = [name for name in changed if name.startswith("layers.") and changed[name].dim() == 2]
        parts = {name: torch.linalg.svd(changed[name] - before[name], full_matrices=False) for name in names}
        found = {}
        for rank in KEPT:
            for name, (left, values, right) in parts.items():
                changed[name].copy_(before[name] + left[:, :rank] * values[:rank] @ right[:rank])
            shares = [(values[:rank].square().sum() / values.square().sum()).item() for _, values, _ in parts.values()]
            found[str(rank)] = {"share": round(statistics.mean(shares), 4),
                                "right": self.right(model, run.task, asked(run.task)["held out"])}
        return found

    @torch.no_grad()
    def right(self, model: nn.Module, task: str, pairs: Sequence[Pair], shots: Sequence[Pair] = (), begun: str = "") -> str:
        """Which answers come out whole, "1" or "0" each: greedily they do where the most probable token is right everywhere."""
        prompts, answers = self.rows(task, pairs, shots, begun)
        if shots:
            return self.right_from(model, prompts, answers)
        found = ""
        for start in range(0, len(pairs), TOGETHER):
            inputs, targets = answer_batch(prompts[start:start + TOGETHER], answers[start:start + TOGETHER])
            with self.in_precision():
                best = model(inputs).argmax(-1)  # (B, T)
            found += "".join(map(str, ((best == targets) | (targets == NO_CLASS)).all(1).int().tolist()))
        return found

    def right_from(self, model: nn.Module, prompts: list[list[int]], answers: list[list[int]]) -> str:
        """The same where prompts begin alike, as with solved examples: that is read once, and each goes on from there."""
        alike = next(place for place, tokens in enumerate(zip(*prompts, strict=False)) if len(set(tokens)) > 1)
        found = ""
        cache = model.new_cache(max(map(len, prompts)) + max(map(len, answers)))
        with self.in_precision():
            model(torch.tensor([prompts[0][:alike]]), cache, last_only=True)
            for prompt, answer in zip(prompts, answers, strict=True):
                inputs, targets = answer_batch([prompt[alike:]], [answer])
                best = model(inputs, cache).argmax(-1)  # (1, T)
                found += str(int(((best == targets) | (targets == NO_CLASS)).all()))
                for layer in cache:
                    layer.shorten(alike)
        return found

    @torch.no_grad()
    def nats(self, model: nn.Module, windows: Tensor) -> list[float]:
        """The mean loss of a token, a window each."""
        with self.in_precision():
            logits = model(windows[:, :-1]).float()  # (B, T, V)
        return [round(each, 4) for each in F.cross_entropy(logits.mT, windows[:, 1:], reduction="none").mean(1).tolist()]

    def said(self, model: nn.Module, task: str, pair: Pair, shots: Sequence[Pair]) -> str:
        """The answer, decoded greedily and cut at LONGEST tokens."""
        prompt = torch.tensor(self.rows(task, [pair], shots)[0])  # (1, T)
        with self.in_precision():
            whole = generate(model, prompt, LONGEST[task], temperature=0, eos=self.tokenizer.encode(END)[0])
        return self.tokenizer.decode(whole[0, prompt.shape[1]:]).replace(END, "")

    def first_losses(self) -> list[float]:
        """The first steps in float32, which another machine can repeat."""
        autocast, self.autocast = self.autocast, None
        losses = self.fitted(SAVED, FIRST)[1]
        self.autocast = autocast
        return [round(each, 5) for each in losses]


class Batches:
    """BATCH new conversations a step, and MIXED windows of other text where there are any."""

    def __init__(self, prompts: list[list[int]], answers: list[list[int]], mixed: Tensor | None):
        self.prompts, self.answers, self.mixed = prompts, answers, mixed

    def __call__(self, step: int) -> tuple[tuple[Tensor, Tensor], Tensor | None]:
        rows = slice(step * BATCH, (step + 1) * BATCH)
        mixed = None if self.mixed is None else self.mixed[step * MIXED:(step + 1) * MIXED]
        return answer_batch(self.prompts[rows], self.answers[rows]), mixed


def loss(model: nn.Module, batch: tuple[tuple[Tensor, Tensor], Tensor | None]) -> Tensor:
    """That of the answers; with other text the mean of both."""
    asked, mixed = batch
    if mixed is None:
        return answer_loss(model, asked)
    return (answer_loss(model, asked) + token_cross_entropy(model(mixed[:, :-1]), mixed[:, 1:])) / 2


def taught(run: Run) -> list[Pair]:
    """The questions and answers of a run's training, in their order."""
    count = BATCH * steps_of(run)
    if run.task == "numbers":
        pairs = [pair for pair in number_pairs(HELD_OUT + 3 * count, HELD_SEED) if pair not in asked("numbers")["held out"]]
        return random.Random(run.seed).sample(pairs, count)
    held_out = {pair.answer for pair in asked("dates")["held out"]}
    pairs = [pair for pair in date_pairs(count + 2 * HELD_OUT, run.seed) if pair.answer not in held_out][:count]
    if run.extra != "shuffled":
        return pairs
    answers = [pair.answer for pair in pairs]
    random.Random(run.seed).shuffle(answers)
    return [Pair(pair.question, answer) for pair, answer in zip(pairs, answers, strict=True)]


def asked(task: str) -> dict[str, list[Pair]]:
    """The questions of the test: of the kinds that are taught, and of others."""
    if task == "numbers":
        return {"held out": number_pairs(HELD_OUT, HELD_SEED, (2, 3, 4)),
                "five digits": number_pairs(ELSE, HELD_SEED, (5,))}
    return {"held out": date_pairs(HELD_OUT, HELD_SEED), "unseen forms": date_pairs(ELSE, HELD_SEED + 1, UNSEEN_FORMS),
            "other years": date_pairs(ELSE, HELD_SEED + 2, years=(1000, 1899))}


def docstrings() -> list[str]:
    """Documentation of functions in Python's library, where it is long."""
    modules = (argparse, inspect, json, random, statistics, textwrap)
    texts = [inspect.getdoc(value) or "" for module in modules for name, value in sorted(vars(module).items())
             if inspect.isroutine(value) or inspect.isclass(value)]
    return [text for text in dict.fromkeys(texts) if len(text) > 500]


def share(bits: str) -> float:
    """Of "1" and "0" the share of "1"."""
    return bits.count("1") / len(bits)


def chosen(record: dict, kind: str = "right", **wanted: object) -> list:
    """What the recorded runs have that are so, an entry a run."""
    return [run[kind] for run in record["runs"] if all(run[name] == value for name, value in wanted.items())]


if __name__ == "__main__":
    main()
