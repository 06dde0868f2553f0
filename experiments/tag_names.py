"""Find the names in verses of the Bible, for the chapter "Text understanding": MiniLM with a class a word, and the same network
from fresh weights. List lookup is so fast that the chapter does it itself.

    OMP_NUM_THREADS=1 python experiments/tag_names.py experiments/records/tag_names.json

A run keeps the tags that it gave to TESTED verses, one letter a word. No setting was chosen by a score: rates and steps are
those of fine_tune_minilm.py. The record is written after each run, and a run that it holds is not done again.
"""

import argparse
import time
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tutorlib.data.batches import numbered_generator
from tutorlib.data.names import KIND, TaggedVerse, load_names
from tutorlib.evaluation.spans import span_scores
from tutorlib.models.bert import BERTForTokenClassification
from tutorlib.pretrained import load
from tutorlib.records import missing, open_record, surroundings, write_record
from tutorlib.text.vocabulary import pad_right
from tutorlib.training import train, warmup_linear
from tutorlib.training.losses import NO_CLASS, token_cross_entropy

TAGS = "O", f"B-{KIND}", f"I-{KIND}"
TESTED, LONGEST, BATCH, FIRST = 1000, 96, 16, 3
STEPS = {100: 60, 1000: 120}
RATES = {"MiniLM": 2e-4, "fresh weights": 3e-4}  # of the encoder; the map on top learns ten times as fast


class Run(NamedTuple):
    arm: str
    size: int  # verses with tags
    draw: int


RUNS = [Run("MiniLM", 100, 0), Run("fresh weights", 100, 0), Run("MiniLM", 100, 1), Run("MiniLM", 100, 2),
        Run("MiniLM", 1000, 0)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("record", type=Path, help="JSON file to write, or to go on with")
    path = parser.parse_args().record
    tagger = Tagger(torch.bfloat16)
    record = open_record(path, lambda: {**surroundings(), "first_losses": tagger.first_losses(), "runs": []})
    for run in missing(RUNS, record):
        record["runs"].append(run._asdict() | tagger.done(run))
        write_record(path, record)
        print({key: value for key, value in record["runs"][-1].items() if key != "tags"}, flush=True)


class Tagger:
    def __init__(self, autocast: torch.dtype | None):
        self.autocast = autocast
        self.names = load_names()
        self.test = drawn(self.names.test, TESTED, 0)
        self.minilm, self.tokenizer = load("minilm")

    def learned(self, run: Run) -> list[TaggedVerse]:
        return drawn(self.names.train, run.size, run.draw)

    def pieces(self, words: Sequence[str]) -> tuple[list[int], list[int]]:
        """The ids of a verse's pieces, and the place of each word's first one, for the words that fit in."""
        ids, first = [self.tokenizer.cls], []
        for word in words:
            cut = [self.tokenizer.vocabulary[piece] for piece in self.tokenizer.tokenize(word)]
            if len(ids) + len(cut) >= LONGEST:
                break
            first.append(len(ids))
            ids += cut
        return [*ids, self.tokenizer.sep], first

    def batch(self, verses: Sequence[TaggedVerse]) -> tuple[Tensor, Tensor, Tensor]:
        """tokens, mask and targets, (B, T) each: a tag's number at each word's first piece, elsewhere nothing."""
        cut = [self.pieces(verse.words) for verse in verses]
        tokens = pad_right([ids for ids, _ in cut], self.tokenizer.pad)
        targets = torch.full_like(tokens, NO_CLASS)
        for row, ((_, first), verse) in enumerate(zip(cut, verses, strict=True)):
            targets[row, first] = torch.tensor([TAGS.index(tag) for tag in verse.tags[:len(first)]])
        return tokens, pad_right([[1] * len(ids) for ids, _ in cut], 0), targets

    def build(self, arm: str) -> BERTForTokenClassification:
        model = BERTForTokenClassification(self.minilm.config, len(TAGS))
        if arm != "fresh weights":
            model.bert = deepcopy(self.minilm)
        return model

    def fitted(self, run: Run, stop: int | None = None) -> tuple[nn.Module, list[float]]:
        torch.manual_seed(run.draw)
        model, verses = self.build(run.arm), self.learned(run)
        groups = [{"params": model.bert.parameters(), "lr": RATES[run.arm]},
                  {"params": model.output.parameters(), "lr": 10 * RATES[run.arm]}]
        optimizer = torch.optim.AdamW(groups, weight_decay=0.01, fused=True)
        batches = lambda step: self.batch(self.of_similar_length(verses, run.draw, step))  # noqa: E731
        history = train(model, batches, tag_loss, optimizer, steps=stop or STEPS[run.size], progress=False,
                        schedule=warmup_linear(STEPS[run.size] // 10, STEPS[run.size]), autocast=self.autocast)
        return model.eval(), history.losses

    def of_similar_length(self, verses: Sequence[TaggedVerse], seed: int, step: int) -> list[TaggedVerse]:
        """Batch number `step`: of BATCH * 6 verses at a time the ones of similar length together."""
        epoch, place = divmod(step, len(verses) // BATCH)
        generator = numbered_generator(seed, 1 + epoch)
        order = torch.randperm(len(verses), generator=generator).tolist()
        order = [row for start in range(0, len(order), BATCH * 6)
                 for row in sorted(order[start:start + BATCH * 6], key=lambda row: len(verses[row].words))]
        start = BATCH * torch.randperm(len(verses) // BATCH, generator=generator)[place].item()
        return [verses[row] for row in order[start:start + BATCH]]

    @torch.no_grad()
    def tagged(self, model: nn.Module, texts: Sequence[Sequence[str]]) -> list[list[str]]:
        """The most probable tag of each word; O for the words that did not fit."""
        found: list[list[str]] = [[]] * len(texts)
        order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
        for start in range(0, len(order), 32):
            rows = order[start:start + 32]
            tokens, mask, targets = self.batch([TaggedVerse(list(texts[row]), ["O"] * len(texts[row])) for row in rows])
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.autocast is not None):
                best = model(tokens, mask).argmax(-1)  # (B, T)
            for k, row in enumerate(rows):
                tags = [TAGS[tag] for tag in best[k][targets[k] != NO_CLASS].tolist()]
                found[row] = tags + ["O"] * (len(texts[row]) - len(tags))
        return found

    def done(self, run: Run) -> dict:
        start = time.process_time()
        model, losses = self.fitted(run)
        seconds = time.process_time() - start
        tags = self.tagged(model, [verse.words for verse in self.test])
        scores = span_scores(tags, [verse.tags for verse in self.test])
        return {"steps": STEPS[run.size], "rate": RATES[run.arm], "seconds": round(seconds, 1),
                "loss": round(sum(losses[-10:]) / 10, 4), "f1": round(scores.f1, 4),
                "tags": ["".join(tag[0] for tag in row) for row in tags]}

    def first_losses(self) -> list[float]:
        """The first steps in float32, which another machine can repeat."""
        autocast, self.autocast = self.autocast, None
        losses = self.fitted(RUNS[0], FIRST)[1]
        self.autocast = autocast
        return [round(each, 6) for each in losses]


def tag_loss(model: nn.Module, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    tokens, mask, targets = batch
    return token_cross_entropy(model(tokens, mask).float(), targets, ignore=NO_CLASS)


def drawn(verses: Sequence[TaggedVerse], count: int, seed: int) -> list[TaggedVerse]:
    """`count` of the verses; the smaller draw of a seed is a part of the larger."""
    order = torch.randperm(len(verses), generator=numbered_generator(seed, 0)).tolist()
    return [verses[place] for place in order[:count]]


if __name__ == "__main__":
    main()
