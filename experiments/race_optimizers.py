"""Optimizers on two tasks, each with the same seven tries at its learning rate: digits, and the next word of a text.

    OMP_NUM_THREADS=1 python experiments/race_optimizers.py experiments/records/optimizers.json --task digits
    OMP_NUM_THREADS=1 python experiments/race_optimizers.py experiments/records/optimizers.json --task words

Two seeds choose the rate of each optimizer, from seven a factor of two apart, on examples that neither training nor test has.
The best then trains five networks with other seeds, judged on the test; so do a quarter of it and four times it. Two of the
seven are Adam with fewer running sizes: one a tensor, or one for all. The record is written after every optimizer; a second
call goes on where it stopped.
"""

import argparse
import re
import time
from collections import Counter
from functools import cache, partial
from pathlib import Path
from statistics import mean
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tutorlib.baselines.ngram import KneserNey
from tutorlib.data.batches import ShuffledBatches
from tutorlib.data.bible import load_bible
from tutorlib.data.digits import load_digits, pooled
from tutorlib.evaluation.classification import accuracy
from tutorlib.models import MLP
from tutorlib.records import missing, open_record, rounded, surroundings, write_record
from tutorlib.training import SGD, Adam, AdamW, cross_entropy, train, warmup_cosine

TUNING, FINAL = (0, 1), (10, 11, 12, 13, 14)  # seeds
STEPS, DECAY = 100, 0.1
BATCH = {"digits": 64, "words": 128}
VOCABULARY, CONTEXT = 500, 3  # words; the last of them stands for all others
KEPT = 4  # decimals
FASTEST = {"digits": {"SGD": 8.0, "momentum": 3.2, "Adam": 0.64, "AdamW": 0.64, "Muon": 0.32, "one size": 0.32,
                      "a size per tensor": 0.48},
           "words": {"SGD": 16.0, "momentum": 3.2, "Adam": 0.16, "Muon": 0.16, "one size": 0.08, "a size per tensor": 0.16,
                     "embedding shares": 0.16, "output shares": 0.16, "both share": 0.16}}
FACTORS = (0.25, 1.0, 4.0)  # of the best rate, in the final
MISSED = ("SGD", "momentum", "Adam", "AdamW", "Muon")  # on digits; the others have the best rate only


class Run(NamedTuple):
    """One training; `share` is the rate over the fastest of the grid."""

    task: str
    optimizer: str
    share: float
    seed: int


class Examples(NamedTuple):
    """Inputs and targets, to train on, to choose the rate by, and for the end."""

    training: tuple[Tensor, Tensor]
    tuning: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]


class NextWord(nn.Module):
    """Three words -> logits of the fourth: an embedding, a hidden layer, an output (Bengio et al. 2003)."""

    def __init__(self, width: int = 24, hidden: int = 48):
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, width)
        self.hidden = nn.Linear(CONTEXT * width, hidden)
        self.output = nn.Linear(hidden, VOCABULARY)

    def forward(self, words: Tensor) -> Tensor:
        states = self.embedding(words).flatten(1)  # (B, C*D)
        return self.output(self.hidden(states).tanh())  # (B, V)


class FewerSizes(torch.optim.Optimizer):
    """Adam whose running square is a mean: over each tensor, or over all parameters. Nothing else is changed."""

    def __init__(self, params, lr: float, *, per_tensor: bool, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8):
        super().__init__(params, {"lr": lr})
        self.per_tensor, self.betas, self.eps, self.steps = per_tensor, betas, eps, 0

    @torch.no_grad()
    def step(self) -> None:
        self.steps += 1
        (beta1, beta2), group = self.betas, self.param_groups[0]
        for p in group["params"]:
            state = self.state[p]
            state["m"] = beta1 * state.get("m", 0) + (1 - beta1) * p.grad
            state["v"] = beta2 * state.get("v", 0) + (1 - beta2) * p.grad.square().mean()
        sizes = [p.numel() for p in group["params"]]
        shared = sum(n * self.state[p]["v"] for n, p in zip(sizes, group["params"], strict=True)) / sum(sizes)
        for p in group["params"]:
            size = (self.state[p]["v"] if self.per_tensor else shared) / (1 - beta2**self.steps)
            p -= group["lr"] * self.state[p]["m"] / (1 - beta1**self.steps) / (size.sqrt() + self.eps)


class Both(torch.optim.Optimizer):
    """Two optimizers that are driven as one."""

    def __init__(self, *parts: torch.optim.Optimizer):
        super().__init__([p for part in parts for group in part.param_groups for p in group["params"]], {})
        self.parts, self.param_groups = parts, [group for part in parts for group in part.param_groups]

    def step(self) -> None:
        for part in self.parts:
            part.step()


def optimizer_of(name: str, model: nn.Module, rate: float) -> torch.optim.Optimizer:
    makers = {"SGD": SGD, "momentum": partial(SGD, momentum=0.9), "Adam": Adam, "AdamW": partial(AdamW, weight_decay=DECAY),
              "one size": partial(FewerSizes, per_tensor=False), "a size per tensor": partial(FewerSizes, per_tensor=True)}
    sharing = {"embedding shares": ["embedding"], "output shares": ["output"], "both share": ["embedding", "output"]}
    if name in sharing:
        return partly_shared(model, [getattr(model, part).weight for part in sharing[name]], rate)
    return muon(model, rate) if name == "Muon" else makers[name](model.parameters(), lr=rate)


def muon(model: nn.Module, rate: float) -> Both:
    """Muon for hidden matrices, with steps of Adam's length; Adam at the same rate for all else."""
    matrices = [model.hidden.weight] if isinstance(model, NextWord) else [layer.weight for layer in model.layers[:-1]]
    return Both(torch.optim.Muon(matrices, lr=rate, momentum=0.95, weight_decay=0.0, adjust_lr_fn="match_rms_adamw"),
                Adam(all_but(model, matrices), lr=rate))


def partly_shared(model: nn.Module, tensors: list[Tensor], rate: float) -> Both:
    """Adam with one size for each of these tensors, and one a parameter for all others."""
    return Both(FewerSizes(tensors, lr=rate, per_tensor=True), Adam(all_but(model, tensors), lr=rate))


def all_but(model: nn.Module, tensors: list[Tensor]) -> list[Tensor]:
    return [p for p in model.parameters() if all(p is not tensor for tensor in tensors)]


@cache
def word_numbers() -> tuple[Tensor, Tensor]:
    """The text to train on and the held-out one, (N,) each: the 499 commonest words and marks, 499 for the rest."""
    texts = [re.findall(r"\w+|[^\w\s]", "\n\n".join(part).lower()) for part in load_bible()]
    place = {word: n for n, (word, _) in enumerate(Counter(texts[0]).most_common(VOCABULARY - 1))}
    return tuple(torch.tensor([place.get(word, VOCABULARY - 1) for word in text]) for text in texts)


@cache
def examples(task: str) -> Examples:
    if task == "digits":
        (images, labels), test = load_digits()
        rows = pooled(images)  # (4000, 196)
        return Examples((rows[:3000], labels[:3000]), (rows[3000:], labels[3000:]), (pooled(test.images), test.labels))
    text, held_out = word_numbers()
    halves = held_out.split(-(-len(held_out) // 2))
    return Examples(windows(text), *(tuple(part[::10] for part in windows(half)) for half in halves))


def windows(words: Tensor) -> tuple[Tensor, Tensor]:
    """(N,) -> each three words in a row, (N - 3, 3), and the next one, (N - 3,)."""
    rows = words.unfold(0, CONTEXT + 1, 1)  # (N - 3, 4)
    return rows[:, :-1], rows[:, -1]


def trained(run: Run, steps: int | None = None) -> tuple[nn.Module, list[float]]:
    """The network of a run and its losses. Raises FloatingPointError where they do not stay finite."""
    torch.manual_seed(run.seed)
    model = MLP((196, 32, 10)) if run.task == "digits" else NextWord()
    batches = ShuffledBatches(*examples(run.task).training, batch_size=BATCH[run.task], seed=run.seed)
    optimizer = optimizer_of(run.optimizer, model, run.share * FASTEST[run.task][run.optimizer])
    history = train(model, batches, cross_entropy, optimizer, steps=steps or STEPS,
                    schedule=warmup_cosine(STEPS // 5, STEPS), clip_norm=None, progress=False)
    return model, history.losses


def measured(run: Run) -> dict:
    """What the record keeps of a run; `loss` and `right` are of the tuning examples for a tuning seed, of the test else."""
    inputs, targets = examples(run.task).tuning if run.seed in TUNING else examples(run.task).test
    start = time.process_time()
    try:
        model, losses = trained(run)
    except FloatingPointError:
        return run._asdict() | {"loss": None, "right": None, "first": None, "seconds": rounded(time.process_time() - start, 2)}
    with torch.no_grad():
        loss = cross_entropy(model, (inputs, targets)).item()
    return run._asdict() | rounded({"loss": loss, "right": accuracy(model, inputs, targets), "first": losses[:3]}, KEPT) | {
        "seconds": rounded(time.process_time() - start, 2)}


def grid() -> list[float]:
    """Seven shares, a factor of two apart."""
    return [2.0**-k for k in range(6, -1, -1)]


def tuning_runs(task: str, optimizer: str) -> list[Run]:
    return [Run(task, optimizer, share, seed) for share in grid() for seed in TUNING]


def best_share(record: dict, task: str, optimizer: str) -> float:
    """The share with the lowest mean loss of the tuning seeds; a run that did not stay finite is never best."""
    losses = {}
    for run in record["runs"]:
        if (run["task"], run["optimizer"]) == (task, optimizer) and run["seed"] in TUNING:
            losses.setdefault(run["share"], []).append(float("inf") if run["loss"] is None else run["loss"])
    return min(losses, key=lambda share: mean(losses[share]))


def final_runs(record: dict, task: str, optimizer: str) -> list[Run]:
    best = best_share(record, task, optimizer)
    factors = FACTORS if task == "digits" and optimizer in MISSED else (1.0,)
    return [Run(task, optimizer, best * factor, seed) for factor in factors for seed in FINAL]


def baselines() -> dict:
    """Without descent: the nearest of 3,000 digits; words counted, on as many as a training saw and on all."""
    (rows, labels), _, (asked, answers) = examples("digits")
    right = (labels[torch.cdist(asked, rows).argmin(1)] == answers).float().mean().item()
    text, held_out = word_numbers()
    seen, unseen = STEPS * BATCH["words"], held_out[len(held_out) // 2:]
    counted = {f"{size}": {str(n): -KneserNey(text[:size], VOCABULARY, n).score(unseen).mean().item() for n in (1, 2, 3, 4)}
               for size in (seen, len(text))}
    return rounded({"nearest digit": right, "counted words": counted}, KEPT)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("record", type=Path, help="JSON file to write, or to go on with")
    parser.add_argument("--task", choices=sorted(BATCH), required=True)
    parser.add_argument("--only", nargs="+", help="of the optimizers, by name (default: all)")
    options = parser.parse_args()
    record = open_record(options.record, lambda: surroundings() | {"baselines": baselines(), "runs": []})
    for optimizer in options.only or FASTEST[options.task]:
        for planned in (tuning_runs, partial(final_runs, record)):
            record["runs"] += [measured(run) for run in missing(planned(options.task, optimizer), record)]
        write_record(options.record, record)
        print(options.task, optimizer, best_share(record, options.task, optimizer), flush=True)


if __name__ == "__main__":
    main()
