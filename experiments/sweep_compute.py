"""What a budget of compute, a text and a set of labels buy: GPTs of equal cost, a text read again, wrong and chosen labels.

    OMP_NUM_THREADS=1 python experiments/sweep_compute.py experiments/records/compute.json

Four parts. The sweep trains GPTs of two layers on characters of a Bible with equal FLOPs, several widths a budget; when the
smaller budgets are done the script writes into the record what it expects of the largest, and only then runs that. The
repeats train one of the widths on ever more text, and on the same amount of reading from ever less text; beside them stands
what counting learns from the text. The last two train a small network on handwritten digits, some of them wrongly labeled,
or chosen by how typical they are. The record is written after every run; a second call goes on where it stopped.
"""

import argparse
import math
import time
from collections import defaultdict
from functools import cache
from pathlib import Path
from statistics import mean
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tutorlib.baselines.ngram import KneserNey
from tutorlib.data.batches import RandomWindows, ShuffledBatches, numbered_generator
from tutorlib.data.bible import load_bible
from tutorlib.data.digits import Images, load_digits
from tutorlib.data.quality import distance_to_mean, keep_lowest, wrong_labels
from tutorlib.evaluation.classification import accuracy
from tutorlib.evaluation.scaling import fit_isoflop, fit_power, fit_scaling_law, training_flops
from tutorlib.models import GPT, MLP, GPTConfig
from tutorlib.records import missing, open_record, rounded, surroundings, write_record
from tutorlib.text.characters import CharacterTokenizer
from tutorlib.training import cross_entropy, token_cross_entropy, train, warmup_cosine

SEEDS = (0, 1, 2)
LENGTH, BATCH, LAYERS = 32, 16, 2
TOKENS = LENGTH * BATCH  # of a step
SWEEP = {2e10: (10, 12, 16, 20, 24, 32), 6e10: (12, 16, 20, 24, 32, 48), 2e11: (20, 24, 32, 40, 48, 64),
         1e12: (40, 48, 64, 80, 96)}
LARGEST = max(SWEEP)
RATE = 0.4  # over the width; explored with one seed, no run of which is kept
WIDTH = 48  # of the repeats
FRESH, MOST = (2**15, 2**16, 2**17, 2**18, 2**19, 2**20), 2**21  # tokens, each read once; MOST is foretold from those
FROM = 2**17  # tokens of the smallest run that the law of the text is fitted to: 256 steps
READ, TIMES = 2**19, (2, 4, 8, 16, 32, 64)  # tokens read, from READ / times different ones
COUNTED = [(tokens, 7) for tokens in (2**13, 2**14, *FRESH, MOST)] + [(2**20, 1)]  # characters, and how many in a row
NOISE = (0.0, 0.2, 0.4, 0.6, 0.8)
LABELS = (50, 100, 200, 400, 800, 1600, 3500)
KEEP, FOLDS = (5, 20, 80, 320), (0, 1, 2, 3, 4)  # of each digit; a fold tests on a fifth of all digits
VALID = 500  # of the 4,000 digits, with labels as bad as the others
NEIGHBORS = (1, 3, 5, 10, 20, 40, 80)
CLOCK, CLOCK_WIDTH = (48, 54, 60, 64, 72), 80  # equal seconds: those that a run of the largest budget took at this width
HEART = 0.4  # of the labels wrong: how many of them does the network repeat?
FIRST = 3  # losses at the start, which another machine can repeat


class Run(NamedTuple):
    """One training of one part: `amount` is a budget, a number of tokens, a share or a number of digits."""

    part: str
    amount: float
    arm: str  # the width of the sweep, the times of the repeats, the rule of a selection
    seed: int


def runs(stage: int) -> list[Run]:
    """Seed by seed. Stage 0 is all but the largest budget, stage 1, and the most text, stage 2, each after its prediction.

    Stage 3 came last: equal seconds, and which wrong labels are learned by heart.
    """
    if stage == 1:
        return [Run("sweep", LARGEST, str(width), seed) for seed in SEEDS for width in SWEEP[LARGEST]]
    if stage == 2:
        return [Run("repeats", MOST, "1", seed) for seed in SEEDS]
    if stage == 3:
        return [run for seed in SEEDS for run in (
            *(Run("clock", CLOCK_WIDTH, str(width), seed) for width in CLOCK), Run("heart", HEART, "network", seed))]
    planned = []
    for seed in SEEDS:
        planned += [Run("sweep", budget, str(width), seed) for budget in SWEEP if budget < LARGEST for width in SWEEP[budget]]
        planned += [Run("repeats", tokens, "1", seed) for tokens in FRESH]
        planned += [Run("repeats", READ, str(times), seed) for times in TIMES]
        planned += [Run("noise", share, "network", seed) for share in NOISE]
        planned += [Run("labels", count, "network", seed) for count in LABELS]
    planned += [Run("counting", tokens, str(order), 0) for tokens, order in COUNTED]
    return planned + [Run("selection", keep, rule, fold) for fold in FOLDS for keep in KEEP for rule in RULES]


# -- the text ----------------------------------------------------------------------------------------------------------


class Corpus(NamedTuple):
    """Characters to train on, windows (W, T + 1) of held-out text, and how many characters there are."""

    train: Tensor
    held_out: Tensor
    vocabulary: int


@cache
def tokenizer() -> CharacterTokenizer:
    return CharacterTokenizer("\n" + "".join("".join(chapters) for chapters in load_bible()))


@cache
def corpus() -> Corpus:
    train_text, unseen = (torch.tensor(tokenizer().encode("\n\n".join(chapters))) for chapters in load_bible())
    return Corpus(train_text, unseen.unfold(0, LENGTH + 1, 189)[:2048], len(tokenizer()))


def new_gpt(width: int, seed: int) -> GPT:
    """Two layers; its matrices start at 0.02 (768 / width)^0.5, so that all widths start alike."""
    torch.manual_seed(seed)
    model = GPT(GPTConfig(corpus().vocabulary, LENGTH, width, max(1, width // 16), LAYERS))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_((768 / width) ** 0.5)
    return model


def blocks(width: int) -> int:
    """N: the parameters of the layers' matrices, 12 n w^2."""
    return 12 * LAYERS * width**2


def flops(width: int) -> int:
    """Of training on one token."""
    return training_flops(corpus().vocabulary, LENGTH, width, LAYERS)


def pieces(tokens: int, seed: int) -> tuple[Tensor, Tensor]:
    """So many different tokens: pieces of 32, drawn from the whole text, and the same moved by one; (n, T) each."""
    rows = corpus().train.unfold(0, LENGTH + 1, LENGTH)  # (P, T + 1)
    chosen = torch.randperm(len(rows), generator=numbered_generator(seed, 0))[:tokens // LENGTH]
    return rows[chosen, :-1], rows[chosen, 1:]


def next_loss(model: GPT, batch: tuple[Tensor, Tensor]) -> Tensor:
    return token_cross_entropy(model(batch[0]), batch[1])


def read(model: GPT, batches, width: int, steps: int, upto: int | None = None) -> dict:
    """Train for `steps` steps, or the first `upto` of them: what was lost, on which text, in how many seconds."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE / width, betas=(0.9, 0.95), weight_decay=0.0, fused=True)
    start = time.process_time()
    history = train(model, batches, next_loss, optimizer, steps=upto or steps, progress=False,
                    schedule=warmup_cosine(max(1, steps // 10), steps))
    seconds = time.process_time() - start
    with torch.no_grad():
        loss = next_loss(model.eval(), (corpus().held_out[:, :-1], corpus().held_out[:, 1:])).item()
    return {"loss": round(loss, 4), "train": round(mean(history.losses[-50:]), 4), "steps": steps,
            "seconds": round(seconds, 2), "first": rounded(history.losses[:FIRST])}


def sweep(run: Run, upto: int | None = None) -> dict:
    return in_windows(run, round(run.amount / flops(int(run.arm)) / TOKENS), upto)


def in_windows(run: Run, steps: int, upto: int | None = None) -> dict:
    """A GPT of the run's width that reads windows from anywhere in the text."""
    width = int(run.arm)
    batches = RandomWindows(corpus().train, LENGTH, batch_size=BATCH, seed=run.seed)
    return read(new_gpt(width, run.seed), batches, width, steps, upto) | {"N": blocks(width), "D": steps * TOKENS}


def of_largest(found: list[dict]) -> dict[int, list[dict]]:
    """The runs of the largest budget, by their width."""
    widths = defaultdict(list)
    for run in found:
        if run["part"] == "sweep" and run["amount"] == LARGEST:
            widths[int(run["arm"])].append(run)
    return widths


def seconds_a_step(found: list[dict], width: int) -> float:
    """Of the largest budget's runs; between two widths a straight line in both logarithms."""
    cost = {known: mean(run["seconds"] / run["steps"] for run in its) for known, its in sorted(of_largest(found).items())}
    return math.exp(np.interp(math.log(width), np.log([*cost]), np.log([*cost.values()])))


def steps_in_time(found: list[dict], run: Run) -> int:
    """As many steps as fit into the seconds that a run of width `run.amount` took, by the record's seconds a step."""
    given = of_largest(found)[int(run.amount)][0]["steps"]
    return round(given * seconds_a_step(found, int(run.amount)) / seconds_a_step(found, int(run.arm)))


def repeats(run: Run, upto: int | None = None) -> dict:
    unique = int(run.amount) // int(run.arm)
    batches = ShuffledBatches(*pieces(unique, run.seed), batch_size=BATCH, seed=run.seed)
    return read(new_gpt(WIDTH, run.seed), batches, WIDTH, int(run.amount) // TOKENS, upto) | {"unique": unique}


def counting(run: Run) -> dict:
    """What an n-gram model loses that has counted as many characters: chapters of the Bible, shuffled, cut off there."""
    chapters, _ = load_bible()
    order = torch.randperm(len(chapters), generator=numbered_generator(run.seed, 0)).tolist()
    text = "\n\n".join(chapters[place] for place in order)[:int(run.amount)]
    ids = torch.tensor(tokenizer().encode(text))
    logits = KneserNey(ids, corpus().vocabulary, int(run.arm))(corpus().held_out[:, :-1])  # (W, T, V)
    return {"loss": round(token_cross_entropy(logits.float(), corpus().held_out[:, 1:]).item(), 4)}


# -- what the smaller budgets say of the largest ------------------------------------------------------------------------


def expected(found: list[dict]) -> dict:
    """The best size of the largest budget, its loss and the seconds of its runs, from the runs of the smaller ones."""
    smaller = [run for run in found if run["part"] == "sweep" and run["amount"] < LARGEST]
    budgets = sorted({run["amount"] for run in smaller})
    grown, bests = [], []
    for seed in SEEDS:
        best = [bottom(smaller, budget, (seed,)).size for budget in budgets]
        grown.append(fit_power(torch.tensor(budgets), torch.tensor(best)))
    for budget in budgets:
        best = bottom(smaller, budget, SEEDS)
        bests.append((best.size, best.loss))
    size = fit_power(torch.tensor(budgets), torch.tensor([size for size, _ in bests]))
    law = fit_scaling_law(torch.tensor([[run["N"], run["D"]] for run in smaller]),
                          torch.tensor([run["loss"] for run in smaller]))
    tokens = {width: LARGEST / flops(width) for width in range(16, 161)}
    by_law = law.predict(torch.tensor([[blocks(width), count] for width, count in tokens.items()]))
    rates = {int(run["arm"]): run["D"] * flops(int(run["arm"])) / run["seconds"] for run in smaller
             if run["amount"] == budgets[-1]}
    return {"best": [[float(f"{size:.5g}"), round(loss, 4)] for size, loss in bests],
            "exponent": round(size.exponent, 4), "exponents": [round(each.exponent, 4) for each in grown],
            "size": round(size.predict(LARGEST)), "sizes": [round(each.predict(LARGEST)) for each in grown],
            "law": {"floor": round(law.floor, 4), "scales": rounded(law.scales.tolist()),
                    "exponents": rounded(law.exponents.tolist())},
            "law size": blocks(range(16, 161)[by_law.argmin()]), "law loss": round(by_law.min().item(), 4),
            "seconds": {width: round(LARGEST / rates[min(rates, key=lambda w: abs(w - width))], 1) for width in SWEEP[LARGEST]}}


def expected_text(found: list[dict]) -> dict:
    """The loss on the most text, by a law of the number of tokens: fitted from `FROM` tokens on, and to all."""
    fresh = [run for run in found if run["part"] == "repeats" and run["arm"] == "1" and run["amount"] < MOST]
    return {f"from {least}": _text_law([run for run in fresh if run["amount"] >= least]) for least in (FROM, FRESH[0])}


def _text_law(found: list[dict]) -> dict:
    law = fit_scaling_law(torch.tensor([[run["amount"]] for run in found]), torch.tensor([run["loss"] for run in found]))
    return {"floor": round(law.floor, 4), "scale": round(law.scales.item(), 4), "exponent": round(law.exponents.item(), 4),
            "loss": round(law.predict(torch.tensor([[float(MOST)]])).item(), 4)}


def bottom(found: list[dict], budget: float, seeds: tuple[int, ...]):
    """The parabola through the runs of one budget."""
    chosen = [run for run in found if run["part"] == "sweep" and run["amount"] == budget and run["seed"] in seeds]
    return fit_isoflop(torch.tensor([run["N"] for run in chosen]), torch.tensor([run["loss"] for run in chosen]))


# -- digits ------------------------------------------------------------------------------------------------------------


@cache
def digits() -> tuple[Images, Images, Images]:
    """3,500 to train on, 500 to decide on, 1,000 to test on, as vectors (N, 784)."""
    (images, labels), (test, answers) = load_digits()
    rows = images.flatten(1)
    return Images(rows[:-VALID], labels[:-VALID]), Images(rows[-VALID:], labels[-VALID:]), Images(test.flatten(1), answers)


def network(rows: Tensor, labels: Tensor, seed: int, steps: int = 1500, evaluate=None):
    """784-128-10, Adam at 1e-3, batches of 50, for `steps` steps."""
    torch.manual_seed(seed)
    model = MLP((rows.size(1), 128, 10))
    batches = ShuffledBatches(rows, labels, batch_size=min(50, len(rows)), seed=seed)
    history = train(model, batches, cross_entropy, torch.optim.Adam(model.parameters(), lr=1e-3, fused=True), steps=steps,
                    evaluate=evaluate, evaluate_every=50 if evaluate else None, progress=False)
    return model, history


def nearest(rows: Tensor, labels: Tensor, asked: Tensor, count: int) -> Tensor:
    """(N, P), (N,), asked (M, P) -> (M,): the label that most of the `count` nearest rows bear."""
    near = labels[torch.cdist(asked, rows).topk(count, largest=False).indices]  # (M, count)
    return F.one_hot(near, 10).sum(1).argmax(1)


def noise(run: Run) -> dict:
    """The network to the end; stopped where the spoiled validation labels like it best; neighbors, as many as these like."""
    (rows, labels), (valid, checked), test = digits()
    dice = numbered_generator(run.seed, round(10 * run.amount))
    spoiled, checked = (wrong_labels(each, run.amount, 10, generator=dice) for each in (labels, checked))
    model, history = network(rows, spoiled, run.seed,
                             evaluate=lambda model: (accuracy(model, valid, checked), accuracy(model, *test)))
    scores = [pair for _, pair in history.evaluations]
    count = max(NEIGHBORS, key=lambda k: (nearest(rows, spoiled, valid, k) == checked).float().mean().item())
    clean = spoiled == labels
    return rounded({"end": accuracy(model, *test), "stopped": max(scores)[1],
                    "neighbors": (nearest(rows, spoiled, test.images, count) == test.labels).float().mean().item(),
                    "clean only": accuracy(network(rows[clean], labels[clean], run.seed)[0], *test)}) | {"k": count}


def heart(run: Run) -> dict:
    """Of the wrong labels, the share that the network, trained to the end, repeats."""
    (rows, truth), _, _ = digits()
    spoiled = wrong_labels(truth, run.amount, 10, generator=numbered_generator(run.seed, round(10 * run.amount)))
    model, wrong = network(rows, spoiled, run.seed)[0], spoiled != truth
    return rounded({"by heart": accuracy(model, rows[wrong], spoiled[wrong])})


def labels(run: Run) -> dict:
    """The network to the end, one neighbor, and a vote of as many neighbors as the 500 rightly labeled others like."""
    (rows, truth), (valid, checked), test = digits()
    chosen = torch.randperm(len(rows), generator=numbered_generator(run.seed, 0))[:int(run.amount)]
    count = max((k for k in NEIGHBORS if k <= len(chosen)),
                key=lambda k: (nearest(rows[chosen], truth[chosen], valid, k) == checked).float().mean().item())
    one, vote = ((nearest(rows[chosen], truth[chosen], test.images, k) == test.labels).float().mean().item()
                 for k in (1, count))
    return rounded({"network": accuracy(network(rows[chosen], truth[chosen], run.seed)[0], *test),
                    "neighbors": one, "vote": vote}) | {"k": count}


RULES = {
    "random": lambda rows, truth, dice: torch.rand(len(truth), generator=dice),
    "typical": lambda rows, truth, dice: distance_to_mean(rows, truth),
    "unusual": lambda rows, truth, dice: -distance_to_mean(rows, truth),
}


def selection(run: Run) -> dict:
    """A seed is also a fold: each tests on another fifth of the 5,000 digits, and chooses among the other 4,000."""
    both = load_digits()
    rows, truth = (torch.cat(pair) for pair in zip(*both, strict=True))  # (5000, 1, 28, 28), (5000,)
    rows, asked = rows.flatten(1), torch.arange(len(truth)) // 1000 == run.seed
    pool, known, test = rows[~asked], truth[~asked], Images(rows[asked], truth[asked])
    kept = keep_lowest(RULES[run.arm](pool, known, numbered_generator(run.seed, 1)), known, int(run.amount))
    near = nearest(pool[kept], known[kept], test.images, 1)
    return rounded({"network": accuracy(network(pool[kept], known[kept], run.seed)[0], *test),
                    "neighbors": (near == test.labels).float().mean().item()})


# -- the record --------------------------------------------------------------------------------------------------------

PARTS = {"sweep": sweep, "repeats": repeats, "noise": noise, "labels": labels, "counting": counting,
         "selection": selection, "heart": heart}


def perform(run: Run, found: list[dict]) -> dict:
    if run.part == "clock":
        return run._asdict() | in_windows(run, steps_in_time(found, run))
    return run._asdict() | PARTS[run.part](run)


def product_rate(size: int = 512, repeats: int = 100) -> float:
    """FLOPs a second of a matrix product in float32, the best of five tries."""
    a, b = torch.randn(2, size, size, generator=torch.Generator().manual_seed(0))
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(repeats):
            a @ b
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 * repeats / min(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("record", type=Path, help="JSON file to write, or to go on with")
    path = parser.parse_args().record
    record = open_record(path, lambda: {
        **surroundings(), "product_rate": float(f"{product_rate():.3g}"), "runs": []})
    for stage, foretell in enumerate((None, expected, expected_text, None)):
        if foretell and foretell.__name__ not in record:  # before any run of this stage, and never again
            record[foretell.__name__] = foretell(record["runs"])
            write_record(path, record)
        for run in missing(runs(stage), record):
            record["runs"].append(perform(run, record["runs"]))
            write_record(path, record)
            print(record["runs"][-1], flush=True)


if __name__ == "__main__":
    main()
