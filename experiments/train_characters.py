"""A small LSTM reads the World English Bible by characters: which unit of its memory knows that it stands in a quotation?

    OMP_NUM_THREADS=1 python experiments/train_characters.py experiments/records/characters.json

By seeds. The unit is chosen on chapters that the network was trained on, by the area under the curve (AUC) of its memory, and
judged on held-out chapters: beside the same choice among as many random directions of the memory and among the units of an
untrained network, and beside counts of what the last characters tell. Then it is held still while the network reads on.

The record is written after every seed; a second call goes on where it stopped. The weights of the first seed stand beside it
(characters.safetensors), and all is measured with weights rounded to float16.
"""

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tutorlib.data.bible import load_bible
from tutorlib.device import seed_everything
from tutorlib.interpretation import LinearProbe
from tutorlib.layers import LSTM
from tutorlib.records import load_half, rounded, save_half, surroundings
from tutorlib.text.characters import CharacterTokenizer
from tutorlib.training import train, warmup_cosine

WIDTH, HIDDEN, FORGET_BIAS = 64, 128, 1.0
SEEDS, STEPS, BATCH, LENGTH, RATE = (0, 1, 2), 1500, 32, 100, 6e-3
MARKS = 4  # quotation marks that a chapter of the training text must have
CHAPTERS, CUT = 40, 3000  # to choose on and to judge on: so many at most, and so many characters of each
FAR = 50  # characters since the last mark
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


def marks(text: str) -> Iterator[tuple[int, bool]]:
    """Place of each quotation mark, and whether it opens: at the start of a line, behind a blank, a bracket, a single mark."""
    for place, character in enumerate(text):
        if character == '"':
            yield place, place == 0 or text[place - 1] in " \n[('"


def in_quotation(text: str) -> Tensor:
    """(T,) boolean, after each character: True from a mark that opens up to the character before one that closes."""
    inside = torch.zeros(len(text), dtype=torch.bool)
    for place, opens in marks(text):
        inside[place:] = opens
    return inside


def since_mark(text: str) -> Tensor:
    """(T,) after each character: how many were read since the last quotation mark, or since the start."""
    since = torch.arange(1, len(text) + 1)
    for place, _ in marks(text):
        since[place:] = torch.arange(len(text) - place)
    return since


def consistent(text: str) -> bool:
    """Whether each mark closes what is open, or opens what is closed or goes on at the start of a line; the end is outside."""
    now = False
    for place, opens in marks(text):
        if opens == now and not (opens and (place == 0 or text[place - 1] == "\n")):
            return False
        now = opens
    return not now


def load_texts() -> Texts:
    bible = load_bible()
    learned = [chapter for chapter in bible.train if chapter.count('"') >= MARKS]
    plain = [chapter for chapter in learned if consistent(chapter)]
    judging = [chapter for chapter in bible.held_out if '"' in chapter and consistent(chapter)]
    return Texts(learned, [chapter[:CUT] for chapter in plain[::len(plain) // CHAPTERS][:CHAPTERS]],
                 [chapter[:CUT] for chapter in judging[:CHAPTERS]], CharacterTokenizer("\n".join(bible.train + bible.held_out)))


class Reading:
    """batches(step) -> characters (B, T + 1): each row reads on, in its own part of the text, where it stopped before."""

    def __init__(self, texts: Texts):
        tokens = torch.tensor(texts.tokenizer.encode("\n\n".join(texts.train)))
        self.rows = tokens[:len(tokens) // BATCH * BATCH].view(BATCH, -1)  # (B, N)
        self.pieces = (self.rows.size(1) - 1) // LENGTH

    def __call__(self, step: int) -> Tensor:
        start = step % self.pieces * LENGTH
        return self.rows[:, start:start + LENGTH + 1]


def fit(texts: Texts, seed: int, steps: int = STEPS) -> tuple[Model, list[float]]:
    """A trained model, rounded to what the file holds, and its losses. The state goes on from step to step, the gradient not."""
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

    Before a text the network reads the line break between two chapters. `hold` (unit, value) keeps a unit of the memory still.
    """
    longest = max(map(len, texts))
    tokens = torch.tensor([tokenizer.encode(("\n" + text).ljust(longest + 1)) for text in texts])  # (B, 1 + T)
    cell, projected = model.lstm.cells[0], model.lstm.cells[0].from_input(model.embedding(tokens))
    state = (projected.new_zeros(len(texts), HIDDEN),) * 2
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
    ranks = values.argsort(0).argsort(0).double()
    true, false = int(labels.sum()), int((~labels).sum())
    return (ranks[labels].sum(0) - true * (true - 1) / 2) / (true * false)


def choose(values: Tensor, labels: Tensor) -> tuple[int, float]:
    """The column that parts the labels best, up or down, and the sign that makes it high inside."""
    areas = auc(values, labels)
    best = int((areas - 0.5).abs().argmax())
    return best, 1.0 if areas[best] > 0.5 else -1.0


def count_contexts(texts: Sequence[str]) -> list[dict[str, list[int]]]:
    """For each length up to CONTEXT: the last characters -> how often outside, how often inside."""
    counts = [defaultdict(lambda: [0, 0]) for _ in range(CONTEXT + 1)]
    for text in texts:
        for place, inside in enumerate(in_quotation(text).tolist(), start=1):
            for length in range(min(CONTEXT, place) + 1):
                counts[length][text[place - length:place]][inside] += 1
    return counts


def by_counts(counts: list[dict[str, list[int]]], text: str) -> list[float]:
    """The share inside, after each character: of its longest contexts, each one smoothed by the next shorter with weight 2."""
    shares = []
    for place in range(1, len(text) + 1):
        share = 0.5
        for length in range(min(CONTEXT, place) + 1):
            outside, inside = counts[length].get(text[place - length:place], (0, 0))
            share = (inside + 2 * share) / (outside + inside + 2)
        shares.append(share)
    return shares


def judged(values: Tensor, labels: Tensor, far: Tensor) -> list[float]:
    """AUC of one column (N,): everywhere, and where the last mark is far."""
    return [auc(values[:, None], labels).item(), auc(values[far, None], labels[far]).item()]


def study(model: Model, texts: Texts, seed: int) -> dict:
    """What the chosen unit, direction and unit of an untrained network are worth on held-out text, and what holding it does."""
    inside = {name: torch.cat([in_quotation(text) for text in part]) for name, part in
              (("choosing", texts.choosing), ("judging", texts.judging))}
    far = torch.cat([since_mark(text) for text in texts.judging]) >= FAR
    generator = seed_everything(1000 + seed)
    untrained = halved(Model(len(texts.tokenizer)))
    found = {}
    for name, network in (("unit", model), ("untrained unit", untrained)):
        chosen_on, (memory, logits) = read(network, texts.choosing, texts.tokenizer)[0], read(network, texts.judging, texts.tokenizer)
        unit, sign = choose(chosen_on, inside["choosing"])
        found[name] = {"unit": unit, "sign": sign, "auc": judged(sign * memory[:, unit], inside["judging"], far)}
        if name == "unit":
            second = (auc(chosen_on, inside["choosing"]) - 0.5).abs()
            found[name] |= {"on choosing": 0.5 + second.max().item(), "second": 0.5 + second.topk(2).values[1].item()}
            directions = torch.randn(HIDDEN, HIDDEN, generator=generator)
            best, sign = choose(chosen_on @ directions, inside["choosing"])
            found["direction"] = {"auc": judged(sign * memory @ directions[:, best], inside["judging"], far)}
            probe = LinearProbe(chosen_on[::5], inside["choosing"][::5].long(), 2)(memory)
            found["all units"] = {"auc": judged(probe[:, 1] - probe[:, 0], inside["judging"], far)}
            spread = chosen_on
    found["held"] = holding(model, texts, spread, found["unit"], generator)
    found["bits"] = bits(model, texts)
    return found


def holding(model: Model, texts: Texts, memory: Tensor, chosen: dict, generator: torch.Generator) -> dict:
    """Chance of a mark behind a stop and behind a blank while a unit is held low or high (5th and 95th percent of its values).

    "high" is inside for the chosen unit. Five other units, drawn at random, are held in the same way.
    """
    texts_read = [text[:CUT // 2] for text in texts.judging[:20]]
    last = "".join(texts_read)
    stop, blank = (torch.tensor([character in those for character in last]) for those in (".?!,", " "))
    others = [unit for unit in torch.randperm(HIDDEN, generator=generator).tolist() if unit != chosen["unit"]][:OTHERS]
    mark = texts.tokenizer.encode('"')[0]
    found = []
    for unit, sign in [(chosen["unit"], chosen["sign"]), *((unit, 1.0) for unit in others)]:
        values = (sign * memory[:, unit]).quantile(torch.tensor([0.05, 0.95])) if len(memory) < 10**6 else None
        chances = []
        for value in values.tolist():
            chance = read(model, texts_read, texts.tokenizer, (unit, sign * value))[1].softmax(-1)[:, mark]
            chances.append([chance[stop].mean().item(), chance[blank].mean().item()])
        found.append({"unit": unit, "low": chances[0], "high": chances[1]})
    return {"chosen": found[0], "others": found[1:]}


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
    record = json.loads(path.read_text()) if path.exists() else start_record(texts)
    for seed in SEEDS[len(record["runs"]):]:
        begin = time.process_time()
        model, losses = fit(texts, seed)
        seconds = time.process_time() - begin
        if seed == SEEDS[0]:
            save_half(model, path.with_suffix(".safetensors"))
        run = {"seed": seed, "seconds": round(seconds, 1), "losses": losses[:FIRST] + losses[99::100], **study(model, texts, seed)}
        record["runs"].append(rounded(run))
        path.write_text(json.dumps(record, indent=1) + "\n")
        print(run, flush=True)


def start_record(texts: Texts) -> dict:
    """The settings, and what the counts tell, for which no network is needed."""
    inside = torch.cat([in_quotation(text) for text in texts.judging])
    far = torch.cat([since_mark(text) for text in texts.judging]) >= FAR
    counts = count_contexts([chapter for chapter in texts.train if consistent(chapter)])
    shares = torch.tensor([share for text in texts.judging for share in by_counts(counts, text)])
    return {"settings": {"width": WIDTH, "hidden": HIDDEN, "forget_bias": FORGET_BIAS, "steps": STEPS, "batch": BATCH,
                         "length": LENGTH, "rate": RATE, "marks": MARKS, "far": FAR, "context": CONTEXT},
            **surroundings(), "train_characters": sum(map(len, texts.train)), "judged_characters": len(inside),
            "inside": rounded(inside.double().mean().item()), "far": rounded(far.double().mean().item()),
            "counts": {"auc": rounded(judged(shares, inside, far))}, "runs": []}


def load_model(path: Path, tokenizer: CharacterTokenizer) -> Model:
    """The network of the first seed."""
    return load_half(Model(len(tokenizer)), path)


if __name__ == "__main__":
    main()
