"""A small LSTM reads the World English Bible by characters, in lines of 20: which unit of its memory counts the line?

    OMP_NUM_THREADS=1 python experiments/train_characters.py experiments/records/characters.json

By seeds. The unit is chosen on chapters that the network was trained on, by the area under the curve (AUC) of its memory, and
judged on held-out chapters: beside the same choice among as many random directions of the memory and among the units of an
untrained network, and beside two rivals without a network. Then it is held still while the network reads on.

The record is written after every seed; a second call goes on where it stopped. The weights of the first seed stand beside it
(characters.safetensors), and all is measured with weights rounded to float16.
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tutorlib.data.bible import load_bible
from tutorlib.device import seed_everything
from tutorlib.interpretation import LinearProbe
from tutorlib.layers import LSTM
from tutorlib.records import load_half, open_record, rounded, save_half, surroundings, write_record
from tutorlib.text.characters import CharacterTokenizer
from tutorlib.training import train, warmup_cosine

WIDTH, HIDDEN, FORGET_BIAS = 64, 128, 1.0
SEEDS, STEPS, BATCH, LENGTH, RATE = (0, 1, 2), 1200, 32, 100, 4e-3
LINE = 20  # characters that a line can hold
CHAPTERS, CUT = 40, 2000  # to choose on and to judge on: so many, and the first characters of each
LATE = 10  # characters since the line break, or more
NEAR = (5, 15)  # the harder question: only characters of a line from here to there
CONTEXT = 8  # characters that the counts see
OTHERS = 5  # units that are held still for comparison
FIRST = 3  # losses at the start, which another machine can repeat


class Model(nn.Module):
    """Characters (B, T) -> logits (B, T, V) of the next one, and the state of the LSTM."""

    def __init__(self, characters: int):
        super().__init__()
        self.embedding = nn.Embedding(characters, WIDTH)
        self.lstm = LSTM(WIDTH, HIDDEN, forget_bias=FORGET_BIAS)
        self.output = nn.Linear(HIDDEN, characters)

    def forward(self, characters: Tensor, state: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        states, state = self.lstm(self.embedding(characters), state)
        return self.output(states), state


class Texts(NamedTuple):
    """Chapters to train on, to choose a unit on, and to judge it on; the tokenizer of all."""

    train: list[str]
    choosing: list[str]
    judging: list[str]
    tokenizer: CharacterTokenizer


def counted(text: str, ends: str = "\n") -> Tensor:
    """(T,) after each character: how many were read since the last of `ends`, or since the start."""
    since, now = [], 0
    for character in text:
        now = 0 if character in ends else now + 1
        since.append(now)
    return torch.tensor(since)


def words(text: str) -> Tensor:
    """(T,) after each character: how many blanks were read since the last line break."""
    since, now = [], 0
    for character in text:
        now = 0 if character == "\n" else now + (character == " ")
        since.append(now)
    return torch.tensor(since)


def late(text: str) -> Tensor:
    """(T,) boolean, after each character: whether the line has run for LATE characters."""
    return counted(text) >= LATE


def in_lines(chapter: str) -> str:
    """The chapter's verses one behind the other, broken between words into lines of at most LINE characters.

    A word that is longer has a line to itself.
    """
    first, *words = chapter.split()
    lines = [first]
    for word in words:
        if len(lines[-1]) + 1 + len(word) > LINE:
            lines.append(word)
        else:
            lines[-1] += " " + word
    return "\n".join(lines)


def load_texts() -> Texts:
    """The chapters to train on; and of these, and of the held-out ones, CHAPTERS of at least CUT characters over all books."""
    train, held_out = ([in_lines(chapter) for chapter in part] for part in load_bible())
    choosing, judging = ([chapter for chapter in part if len(chapter) >= CUT] for part in (train, held_out))
    return Texts(train, *([chapter[:CUT] for chapter in part[::len(part) // CHAPTERS][:CHAPTERS]]
                          for part in (choosing, judging)), CharacterTokenizer("\n".join(train + held_out)))


class Reading:
    """batches(step) -> characters (B, T + 1): each row reads on, in its own part of the text, where it stopped before."""

    def __init__(self, texts: Texts):
        tokens = torch.tensor(texts.tokenizer.encode("\n".join(texts.train)))
        self.rows = tokens[:len(tokens) // BATCH * BATCH].view(BATCH, -1)  # (B, N)
        self.pieces = (self.rows.size(1) - 1) // LENGTH

    def __call__(self, step: int) -> Tensor:
        start = step % self.pieces * LENGTH
        return self.rows[:, start:start + LENGTH + 1]


def fit(texts: Texts, seed: int, steps: int = STEPS) -> tuple[Model, list[float]]:
    """A trained model, rounded to what the file holds, and its losses. From step to step the state goes on, no gradient."""
    seed_everything(seed)
    model, state = Model(len(texts.tokenizer)), None

    def loss(model: Model, piece: Tensor) -> Tensor:
        nonlocal state
        logits, new = model(piece[:, :-1], state)
        state = tuple(part.detach() for part in new)
        return F.cross_entropy(logits.mT, piece[:, 1:])

    history = train(model, Reading(texts), loss, torch.optim.Adam(model.parameters(), RATE), steps=steps,
                    schedule=warmup_cosine(50, STEPS), clip_norm=1.0, progress=False)
    return halved(model), history.losses


def halved(model: Model) -> Model:
    for parameter in model.parameters():
        parameter.data = parameter.data.half().float()
    return model.eval()


@torch.no_grad()
def read(model: Model, texts: Sequence[str], tokenizer: CharacterTokenizer, hold: tuple[int, float] | None = None,
         ) -> tuple[Tensor, Tensor]:
    """Memory (N, D) and logits (N, V) of the next character after each character of the texts, one text behind the other.

    Before a text the network reads a line break. `hold` (unit, value) keeps a unit of the memory still.
    """
    longest = max(map(len, texts))
    tokens = torch.tensor([tokenizer.encode(("\n" + text).ljust(longest + 1)) for text in texts])  # (B, 1 + T)
    cell, projected = model.lstm.cells[0], model.lstm.cells[0].from_input(model.embedding(tokens))
    state = tuple(projected.new_zeros(2, len(texts), HIDDEN))
    memories, logits = [], []
    for now in projected.unbind(1):  # (B, 4D)
        if hold is not None:
            state[1][:, hold[0]] = hold[1]
        state = cell.step(now, state)
        memories.append(state[1])
        logits.append(model.output(state[0]))
    real = torch.arange(longest) < torch.tensor([[len(text)] for text in texts])  # (B, T)
    return torch.stack(memories[1:], 1)[real], torch.stack(logits[1:], 1)[real]


def auc(values: Tensor, labels: Tensor) -> Tensor:
    """values (N, D), labels (N,) boolean -> (D,): how often a value at a true place is above one at a false place."""
    ordered = labels[values.T.contiguous().argsort(1)]  # (D, N)
    true, false = int(labels.sum()), int((~labels).sum())
    places = (ordered * torch.arange(len(labels))).sum(1).double()  # (D,)
    return (places - true * (true - 1) / 2) / (true * false)


def choose(values: Tensor, labels: Tensor) -> tuple[int, float]:
    """The column that parts the labels best, up or down, and the sign that makes it high where they are true."""
    areas = auc(values, labels)
    best = int((areas - 0.5).abs().argmax())
    return best, 1.0 if areas[best] > 0.5 else -1.0


def count_contexts(texts: Sequence[str]) -> list[dict[str, list[int]]]:
    """For each length up to CONTEXT: the last characters -> how often early in a line, how often late."""
    counts = [defaultdict(lambda: [0, 0]) for _ in range(CONTEXT + 1)]
    for text in texts:
        for place, is_late in enumerate(late(text).tolist(), start=1):
            for length in range(min(CONTEXT, place) + 1):
                counts[length][text[place - length:place]][is_late] += 1
    return counts


def by_counts(counts: list[dict[str, list[int]]], text: str) -> list[float]:
    """The share late, after each character: of its longest contexts, each one smoothed by the next shorter with weight 2."""
    shares = []
    for place in range(1, len(text) + 1):
        share = 0.5
        for length in range(min(CONTEXT, place) + 1):
            early, is_late = counts[length].get(text[place - length:place], (0, 0))
            share = (is_late + 2 * share) / (early + is_late + 2)
        shares.append(share)
    return shares


class Judge:
    """The labels of some texts, and what a score of each character is worth: AUC everywhere, and near the border.

    `within` gives its AUC where the line has one, two and three blanks, so that only letters tell late from early.
    """

    def __init__(self, texts: Sequence[str]):
        place = torch.cat([counted(text) for text in texts])
        self.labels, self.near = place >= LATE, (place >= NEAR[0]) & (place < NEAR[1])
        self.blanks = torch.cat([words(text) for text in texts])

    def __call__(self, score: Tensor) -> list[float]:
        """score (N,) -> two AUCs."""
        score = score.double()[:, None]
        return [auc(score, self.labels).item(), auc(score[self.near], self.labels[self.near]).item()]

    def within(self, score: Tensor) -> list[float]:
        there = [self.blanks == count for count in (1, 2, 3)]
        return [auc(score.double()[here][:, None], self.labels[here]).item() for here in there]


def study(model: Model, texts: Texts, seed: int) -> dict:
    """What the chosen unit, direction and unit of an untrained network are worth on held-out text, and what holding it does."""
    labels, judge = Judge(texts.choosing).labels, Judge(texts.judging)
    generator = seed_everything(1000 + seed)
    untrained = halved(Model(len(texts.tokenizer)))
    chosen_on, memory = (read(model, part, texts.tokenizer)[0] for part in (texts.choosing, texts.judging))
    new_on, new = (read(untrained, part, texts.tokenizer)[0] for part in (texts.choosing, texts.judging))
    unit, sign = choose(chosen_on, labels)
    directions = torch.randn(HIDDEN, HIDDEN, generator=generator)
    best, up = choose(chosen_on @ directions, labels)
    other, way = choose(new_on, labels)
    areas, second = (auc(chosen_on, labels) - 0.5).abs().topk(2)
    second = second[1].item()
    probe = LinearProbe(chosen_on[::5], labels[::5].long(), 2)(memory)
    return {"chosen": {"unit": unit, "sign": sign, "auc": [round(area + 0.5, 4) for area in areas.tolist()]},
            "auc": {"unit": judge(sign * memory[:, unit]), "direction": judge(up * memory @ directions[:, best]),
                    "untrained unit": judge(way * new[:, other]), "all units": judge(probe[:, 1] - probe[:, 0])},
            "within words": judge.within(sign * memory[:, unit]), "second": hold_one(model, texts, chosen_on, second, labels),
            "held": holding(model, texts, sign * chosen_on, unit, sign, generator), "bits": bits(model, texts)}


def hold_one(model: Model, texts: Texts, memory: Tensor, unit: int, labels: Tensor) -> dict:
    """Chance of a line break behind a word while a unit of the memory (N, D) is held where early and where late letters are."""
    sign = 1.0 if auc(memory[:, [unit]], labels).item() > 0.5 else -1.0
    return holding(model, texts, sign * memory, unit, sign, torch.Generator().manual_seed(0), others=0)[0]


def holding(model: Model, texts: Texts, memory: Tensor, chosen: int, sign: float, generator: torch.Generator,
            others: int = OTHERS) -> list[dict]:
    """Chance of a line break behind a word while a unit is held at the 5th and the 95th percentile of its memory (N, D).

    First the chosen unit, then others, drawn at random. "free" is the chance while none is held.
    """
    read_on = [text[:CUT // 2] for text in texts.judging[:CHAPTERS // 2]]
    word_ends = torch.cat([torch.tensor([after in " \n" for after in text[1:]] + [False]) for text in read_on])  # (N,)
    mark = texts.tokenizer.encode("\n")[0]

    def chance(hold: tuple[int, float] | None) -> float:
        return read(model, read_on, texts.tokenizer, hold)[1].softmax(-1)[word_ends, mark].mean().item()

    drawn = [unit for unit in torch.randperm(HIDDEN, generator=generator).tolist() if unit != chosen][:others]
    found = []
    for unit in (chosen, *drawn):
        low, high = memory[:, unit].quantile(torch.tensor([0.05, 0.95])).tolist()
        found.append({"unit": unit, "low": chance((unit, sign * low)), "high": chance((unit, sign * high))})
    return [found[0] | {"free": chance(None)}, *found[1:]]


@torch.no_grad()
def bits(model: Model, texts: Texts) -> float:
    """Bits a character of the held-out chapters, the first character of each left out."""
    logits, start, total = read(model, texts.judging, texts.tokenizer)[1], 0, 0.0
    for text in texts.judging:
        targets = torch.tensor(texts.tokenizer.encode(text))
        total += F.cross_entropy(logits[start:start + len(text) - 1], targets[1:], reduction="sum").item()
        start += len(text)
    return total / (start - len(texts.judging)) / torch.tensor(2.0).log().item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("record", type=Path, help="JSON file to write; the weights are written beside it")
    path = parser.parse_args().record
    texts = load_texts()
    record = open_record(path, lambda: start_record(texts))
    for seed in SEEDS[len(record["runs"]):]:
        begin = time.process_time()
        model, losses = fit(texts, seed)
        seconds = time.process_time() - begin
        if seed == SEEDS[0]:
            save_half(model, path.with_suffix(".safetensors"))
        run = {"seed": seed, "seconds": seconds, "losses": losses[:FIRST] + losses[99::100], **study(model, texts, seed)}
        record["runs"].append(rounded(run))
        write_record(path, record)
        print(run, flush=True)


def start_record(texts: Texts) -> dict:
    """The settings, and what two simple rivals are worth, which need no network."""
    judge, counts = Judge(texts.judging), count_contexts(texts.train[::10])
    shares = torch.tensor([share for text in texts.judging for share in by_counts(counts, text)])
    sentence = torch.cat([counted(text, ".?!") for text in texts.judging])
    blanks = torch.cat([words(text) for text in texts.judging])
    return {"settings": {"width": WIDTH, "hidden": HIDDEN, "forget_bias": FORGET_BIAS, "steps": STEPS, "batch": BATCH,
                         "length": LENGTH, "rate": RATE, "line": LINE, "late": LATE, "near": NEAR, "context": CONTEXT},
            **surroundings(), "train_characters": sum(map(len, texts.train)),
            "late": rounded(judge.labels.double().mean().item()),
            "rivals": rounded({"counts": judge(shares), "sentence": judge(sentence), "words": judge(blanks)}), "runs": []}


def load_model(path: Path, tokenizer: CharacterTokenizer) -> Model:
    """The network of the first seed."""
    return load_half(Model(len(tokenizer)), path)


if __name__ == "__main__":
    main()
