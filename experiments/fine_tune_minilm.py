"""Fine-tune the real MiniLM on rated sentences about movies, for the chapter "BERT": with few labels and with many, beside
counting words, a linear map on frozen states, and the same network from fresh weights.

    OMP_NUM_THREADS=1 python experiments/fine_tune_minilm.py experiments/records/fine_tune_minilm.json --draws 0 1 2

Whatever has to be chosen (penalties, learning rates) is chosen on the development set; the draw TRIAL of labels, on which the
rates are tried, is in no other result. A run is tested on movies and on Amazon's products,
and keeps which sentences it got right: "right" is a hexadecimal number, its highest bit the first sentence. The record is
written anew after every run, and a run that it holds is not done again. Training and test run in bfloat16 where `--float32`
does not forbid it.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tutorlib.baselines.bag_of_words import BagOfWords, logistic_regression
from tutorlib.data.batches import numbered_generator
from tutorlib.data.sentiment import Sentence, Sentiment, load_sentiment
from tutorlib.models import BERT
from tutorlib.pretrained import load
from tutorlib.records import missing, open_record, surroundings, write_record
from tutorlib.text.vocabulary import pad_right
from tutorlib.training import train, warmup_linear

LONGEST, BATCH, FIRST, TRIAL = 64, 16, 3, 99
SIZES = 16, 50, 200, 1000, 0  # sentences with a label; 0: all of them
STEPS = {16: 40, 50: 40, 200: 60, 1000: 160, 0: 500}
RATES = {"all layers": (1e-4, 2e-4, 4e-4), "fresh weights": (3e-4,)}  # of the second none was tried but this one
TRIED_ON = 200  # sentences with a label
DIRECTIONS = 200
PENALTIES = 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0
LINEAR = "counting", "word vectors", "frozen"  # a linear map on something that no training moves
HEAD = 10  # times as fast as the encoder


class Run(NamedTuple):
    arm: str
    size: int  # sentences with a label; 0: all
    draw: int  # of these sentences, and of all that is random
    steps: int  # 0: a linear map, fitted to the end


class Texts(NamedTuple):
    """Sentences as lists of tokens, and their labels."""

    tokens: list[list[int]]
    labels: Tensor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("record", type=Path, help="JSON file to write")
    parser.add_argument("--draws", type=int, nargs="+", default=[0, 1, 2], help="of the labels (default: 0 to 2)")
    parser.add_argument("--float32", action="store_true", help="no bfloat16")
    options = parser.parse_args()
    bench = Bench(load_sentiment(), None if options.float32 else torch.bfloat16)
    record = open_record(options.record, lambda: opened(bench))
    if not record["embedding_seconds"]:
        record["embedding_seconds"] = bench.embedding_seconds()
    write_record(options.record, record)
    for run in missing(planned(options.draws), record):
        rates = RATES.get(run.arm, ())
        for rate in rates if len(rates) > 1 else ():
            if not any(tried["arm"] == run.arm and tried["rate"] == rate for tried in record["tuning"]):
                record["tuning"].append(bench.tried(run.arm, rate))
                write_record(options.record, record)
        record["runs"].append(run._asdict() | bench.done(run, chosen(record, run.arm)))
        write_record(options.record, record)
        print({key: value for key, value in record["runs"][-1].items() if key != "right"}, flush=True)


def planned(draws: Sequence[int]) -> list[Run]:
    """The cheap ones first; with all labels there is one set to draw, and one run has to do."""
    linear = [Run(arm, size, draw, 0) for arm in LINEAR for size in SIZES for draw in draws[:1 if size == 0 else None]]
    tuned = {(draw, size): Run("all layers", size, draw, STEPS[size]) for draw in draws for size in SIZES}
    fresh = {(draw, size): Run("fresh weights", size, draw, STEPS[size]) for draw in draws for size in SIZES}
    order = [*linear, *(tuned[draws[0], size] for size in (50, 200, 1000)), fresh[draws[0], 50],
             *(tuned[draw, size] for draw in draws[1:] for size in (50, 200)), tuned[draws[0], 0],
             *(tuned[draw, size] for size in (16, 1000) for draw in draws), fresh[draws[0], 1000],
             *(fresh[draw, 50] for draw in draws), fresh[draws[0], 0]]
    return list(dict.fromkeys(order))


def opened(bench: "Bench") -> dict:
    sizes = {part: len(sentences) for part, sentences in bench.parts.items()}
    return {**surroundings(), "autocast": str(bench.autocast), "sentences": sizes, "praise": bench.praise(),
            "first_losses": bench.first_losses(), "first_draw": bench.drawn(Run("all layers", 16, 0, 0)),
            "embedding_seconds": bench.embedding_seconds(), "tuning": [], "runs": []}


def chosen(record: dict, arm: str) -> float:
    """The rate that did best on the development set, or the only one; 0 for an arm without any."""
    tried = [each for each in record["tuning"] if each["arm"] == arm]
    return max(tried, key=lambda each: each["development"])["rate"] if tried else RATES.get(arm, (0.0,))[0]


class Classifier(nn.Module):
    """One number a sentence, above zero for praise: a linear map of the mean of its states."""

    def __init__(self, bert: BERT):
        super().__init__()
        self.bert, self.output = bert, nn.Linear(bert.config.width, 1)
        nn.init.zeros_(self.output.weight)

    def forward(self, tokens: Tensor, attention_mask: Tensor) -> Tensor:
        """(B, T), (B, T) -> (B,)."""
        states = self.bert(tokens, attention_mask)  # (B, T, D)
        return self.output(BERT.pool(states, attention_mask)).squeeze(-1)


class Cut(dict):
    """What `make` makes of a name when it is first asked for."""

    def __init__(self, make: Callable[[str], Texts]):
        super().__init__()
        self.make = make

    def __missing__(self, name: str) -> Texts:
        self[name] = self.make(name)
        return self[name]


class Bench:
    """The data, cut into tokens when they are wanted, the real weights, and what each arm does with them."""

    def __init__(self, data: Sentiment, autocast: torch.dtype | None):
        self.autocast = autocast
        amazon = [sentence for sentence in data.amazon if int(sentence.review) % 6 == 0]  # whole reviews, of all products
        self.parts: dict[str, list[Sentence]] = data._asdict() | {"amazon": amazon}
        self.minilm, self.tokenizer = load("minilm")
        self.labels = {part: torch.tensor([sentence.label for sentence in some]) for part, some in self.parts.items()}
        self.texts = Cut(lambda part: self.cut(self.parts[part]))
        self.features: dict[str, dict[str, Tensor]] = {}

    def cut(self, sentences: Sequence[Sentence]) -> Texts:
        tokens = self.tokenizer([sentence.text for sentence in sentences], max_length=LONGEST)
        lengths = tokens["attention_mask"].sum(1).tolist()
        rows = [row[:length] for row, length in zip(tokens["tokens"].tolist(), lengths, strict=True)]
        return Texts(rows, torch.tensor([sentence.label for sentence in sentences]))

    def praise(self) -> dict[str, float]:
        return {part: round(labels.float().mean().item(), 4) for part, labels in self.labels.items()}

    def drawn(self, run: Run) -> list[int]:
        """Places of the sentences with a label: as many of praise as of blame, or all."""
        labels = self.labels["train"]
        order = torch.randperm(len(labels), generator=numbered_generator(run.draw, 0))
        if run.size == 0:
            return order.tolist()
        return torch.cat([order[labels[order] == label][:run.size // 2] for label in (0, 1)]).tolist()

    def done(self, run: Run, rate: float) -> dict:
        """What a run chose, took and got."""
        return self.linear(run) if run.arm in LINEAR else self.trained(run, rate)

    def linear(self, run: Run) -> dict:
        rows, labels = self.drawn(run), self.labels
        start = time.process_time()
        candidates = self.bags(rows) if run.arm == "counting" else {run.arm: self.states(run.arm)}
        best = (-1.0,)
        for name, features in candidates.items():
            known = features["train"] if run.arm == "counting" else features["train"][rows]
            for penalty in reversed(PENALTIES):
                weights, bias = logistic_regression(known, labels["train"][rows], penalty)
                praised = {part: features[part] @ weights + bias > 0 for part in ("development", "test", "amazon")}
                share = (praised["development"] == labels["development"]).double().mean().item()
                if share > best[0]:
                    best = share, name, penalty, praised
        share, name, penalty, praised = best
        seconds = time.process_time() - start
        return {"chosen": name, "penalty": penalty, "seconds": round(seconds, 2), "development": round(share, 4),
                **self.scores(praised)}

    def bags(self, rows: Sequence[int]) -> dict[str, dict[str, Tensor]]:
        """What counting may know: the words of the sentences with a label; theirs and their pairs; or, from all sentences,
        which words keep company, as the DIRECTIONS along which their weights differ most (latent semantic analysis)."""
        texts = {part: [sentence.text for sentence in sentences] for part, sentences in self.parts.items()}
        learned = {part: [some[row] for row in rows] if part == "train" else some for part, some in texts.items()}
        bags = {"words": BagOfWords(learned["train"], 1), "words and pairs": BagOfWords(learned["train"], 2)}
        found = {name: {part: bag(some) for part, some in learned.items()} for name, bag in bags.items()}
        if "directions" not in self.features:
            bag = BagOfWords(texts["train"], 1)
            weights = {part: bag(some) for part, some in texts.items()}
            torch.manual_seed(0)
            directions = torch.svd_lowrank(weights["train"], DIRECTIONS, niter=4)[2]  # (columns, DIRECTIONS)
            self.features["directions"] = {part: F.normalize(each @ directions, dim=1) for part, each in weights.items()}
        all_texts = self.features["directions"]
        return found | {"directions": all_texts | {"train": all_texts["train"][rows]}}

    @torch.no_grad()
    def states(self, arm: str) -> dict[str, Tensor]:
        """The mean state of each sentence, of length 1, after all layers ("frozen") or before the first ("word vectors")."""
        if arm not in self.features:
            read: Callable[..., Tensor] = self.minilm if arm == "frozen" else lambda tokens, mask: self.minilm.embedding(tokens)
            pooled = lambda tokens, mask: F.normalize(BERT.pool(read(tokens, mask), mask), dim=1).double()  # noqa: E731
            self.features[arm] = {part: self.all_of(self.texts[part], pooled) for part in self.parts}
        return self.features[arm]

    @torch.no_grad()
    def embedding_seconds(self) -> float:
        """For the mean state of one sentence, taken over those of the test."""
        start = time.process_time()
        self.all_of(self.texts["test"], lambda tokens, mask: BERT.pool(self.minilm(tokens, mask), mask))
        return round((time.process_time() - start) / len(self.texts["test"].tokens), 5)

    def all_of(self, texts: Texts, read: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """`read` of every sentence, in batches of similar lengths."""
        order = sorted(range(len(texts.tokens)), key=lambda row: len(texts.tokens[row]))
        found = [read(*padded([texts.tokens[row] for row in order[start:start + 64]])) for start in range(0, len(order), 64)]
        return torch.cat(found)[torch.tensor(order).argsort()]

    def build(self, arm: str) -> Classifier:
        bert = BERT(self.minilm.config) if arm == "fresh weights" else deepcopy(self.minilm)
        return Classifier(bert)

    def fitted(self, run: Run, rate: float, stop: int | None = None) -> tuple[Classifier, list[float]]:
        torch.manual_seed(run.draw)
        model = self.build(run.arm)
        texts, rows = self.texts["train"], self.drawn(run)
        batches = SimilarLengths([texts.tokens[row] for row in rows], texts.labels[rows], run.draw)
        moved = [parameter for parameter in model.bert.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW([{"params": moved, "lr": rate}, {"params": model.output.parameters(), "lr": HEAD * rate}],
                                      weight_decay=0.01, fused=True)
        schedule = warmup_linear(run.steps // 10, run.steps)
        history = train(model, batches, loss, optimizer, steps=stop or run.steps, schedule=schedule, autocast=self.autocast,
                        progress=False)
        return model.eval(), history.losses

    @torch.no_grad()
    def praised(self, model: Classifier, part: str) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.autocast is not None):
            return self.all_of(self.texts[part], lambda tokens, mask: model(tokens, mask).float()) > 0

    def trained(self, run: Run, rate: float) -> dict:
        start = time.process_time()
        model, losses = self.fitted(run, rate)
        seconds = time.process_time() - start
        last = losses[-10:]
        return {"rate": rate, "seconds": round(seconds, 1), "loss": round(sum(last) / len(last), 4), **self.scores(
            {part: self.praised(model, part) for part in ("test", "amazon")})}

    def tried(self, arm: str, rate: float) -> dict:
        """A rate on the draw TRIAL, by the share right on the development set."""
        model, _ = self.fitted(Run(arm, TRIED_ON, TRIAL, STEPS[TRIED_ON]), rate)
        right = self.praised(model, "development") == self.labels["development"]
        return {"arm": arm, "rate": rate, "size": TRIED_ON, "development": round(right.double().mean().item(), 4)}

    def scores(self, praised: dict[str, Tensor]) -> dict:
        right = {part: praised[part] == self.labels[part] for part in ("test", "amazon")}
        return {**{part: round(each.double().mean().item(), 4) for part, each in right.items()},
                "right": {part: packed(each) for part, each in right.items()}}

    def first_losses(self) -> list[float]:
        """The first steps in float32, which another machine can repeat."""
        autocast, self.autocast = self.autocast, None
        losses = self.fitted(Run("all layers", 16, 0, STEPS[16]), 2e-4, FIRST)[1]
        self.autocast = autocast
        return [round(each, 6) for each in losses]


class SimilarLengths:
    """Batches of sentences of similar lengths, in another order in every epoch: less padding, and so less to compute."""

    def __init__(self, tokens: list[list[int]], labels: Tensor, seed: int):
        self.tokens, self.labels, self.seed, self.each = tokens, labels, seed, max(1, len(tokens) // BATCH)

    def __call__(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        epoch, place = divmod(step, self.each)
        generator = numbered_generator(self.seed, 1 + epoch)
        order = torch.randperm(len(self.tokens), generator=generator).tolist()
        groups = [sorted(order[start:start + 16 * BATCH], key=lambda row: len(self.tokens[row]))
                  for start in range(0, len(order), 16 * BATCH)]
        order = [row for group in groups for row in group]
        which = torch.randperm(self.each, generator=generator)[place].item()
        rows = order[which * BATCH:(which + 1) * BATCH]
        return *padded([self.tokens[row] for row in rows]), self.labels[rows]


def padded(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """tokens (B, T), padded at the right, and the mask (B, T) of ones and zeros."""
    tokens = pad_right(rows, 0)
    lengths = torch.tensor([len(row) for row in rows])
    return tokens, (torch.arange(tokens.shape[1]) < lengths[:, None]).long()


def loss(model: Classifier, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    tokens, mask, labels = batch
    return F.binary_cross_entropy_with_logits(model(tokens, mask).float(), labels.float())


def packed(right: Tensor) -> str:
    """(N,) of booleans as a hexadecimal number of N bits, the first the highest."""
    return f"{int(''.join(map(str, right.int().tolist())), 2):0{-(-len(right) // 4)}x}"


def rights(record: dict, arm: str, size: int, part: str) -> dict[int, Tensor]:
    """Of each draw of an arm and a size which sentences it got right, (sentences,) of 0 and 1."""
    number = record["sentences"][part]
    return {run["draw"]: torch.tensor([bit == "1" for bit in f"{int(run['right'][part], 16):0{number}b}"]).double()
            for run in record["runs"] if (run["arm"], run["size"]) == (arm, size)}


def interval(record: dict, arm: str, size: int, part: str, groups: Tensor | None = None, less: str | None = None,
             times: int = 2000) -> tuple[float, float, float]:
    """The mean share right over the draws, or its difference to that of the arm `less` on the same draws and sentences, and its
    95 % interval, by a bootstrap over the sentences and the draws at once.

    `groups` (sentences,) numbers what is drawn together, the sentences of one review say.
    """
    found = rights(record, arm, size, part)
    if less is not None:
        others = rights(record, less, size, part)
        found = {draw: found[draw] - others[draw] for draw in found if draw in others}
    each = torch.stack(list(found.values()))  # (draws, sentences)
    groups = torch.arange(each.shape[1]) if groups is None else groups
    many, generator = int(groups.max()) + 1, torch.Generator().manual_seed(0)
    sums = torch.zeros(len(each), many, dtype=torch.float64).index_add_(1, groups, each)  # (draws, groups)
    sizes = groups.bincount(minlength=many).double()  # (groups,)
    drawn = torch.randint(many, (times, many), generator=generator)  # (times, groups)
    means = sums[:, drawn].sum(-1) / sizes[drawn].sum(-1)  # (draws, times)
    mixed = torch.randint(len(each), (times, len(each)), generator=generator)  # (times, draws)
    low, high = means.T.gather(1, mixed).mean(1).quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return each.mean().item(), low, high


if __name__ == "__main__":
    main()
