"""Translate the strings of one program from English to Chinese, for the chapter on translation and summarization.

    python experiments/translate_strings.py experiments/records/translate_strings.json

trains a translator on all 2,035 pairs with three seeds, on a half and a quarter of them with one, and on all with three while a
tenth of the words read is hidden; keeps what each writes for the 512 strings of the test, and searches the first 256
of these with 1 to 16 beams, with and without a penalty on length. The weights of the first seed go to where `python -m tutorlib
translate` finds them, or to --weights, two bytes a number, and it is these that are judged. Six minutes on one core; a run that
the record has is not repeated.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from tutorlib.data.interface_strings import Pair, Splits, load_interface_strings, string_words
from tutorlib.device import seed_everything
from tutorlib.evaluation.translation import chrf
from tutorlib.records import complete, load_half, open_record, rounded, save_half, surroundings, write_record
from tutorlib.training import token_cross_entropy, train, warmup_linear
from tutorlib.translating import (
    LONGEST,
    UNKNOWN,
    WEIGHTS,
    PairBatches,
    Translator,
    load_translator,
    new_translator,
    translate,
)

STEPS, BATCH, RATE, SMOOTHING, WARMUP = 1400, 32, 3e-3, 0.1, 100
BEAMS, SEARCHED = (1, 2, 4, 8, 16), 256


class Run(NamedTuple):
    """A training: on so many pairs, drawn by the seed that also draws the weights and the batches."""

    pairs: int
    seed: int
    hidden: float = 0.0  # the share of words that each reading shows as unknown


PLANNED = [Run(2035, 0), Run(2035, 1), Run(2035, 2), Run(1018, 0), Run(509, 0), *(Run(2035, seed, 0.1) for seed in range(3))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("record", type=Path, help="JSON file to write, or to go on with")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="the first seed's weights (default: the package's)")
    options = parser.parse_args()
    path, weights = options.record, options.weights
    record = open_record(path, lambda: {"settings": settings(), "made on": surroundings(), "runs": []})
    complete(path, record, PLANNED[:3], lambda run: perform(run, weights))
    if "beams" not in record:
        record["beams"] = searched(load_translator(weights))
        write_record(path, record)
    complete(path, record, PLANNED, lambda run: perform(run, weights))


def settings() -> dict:
    return {"steps": STEPS, "batch": BATCH, "rate": RATE, "label smoothing": SMOOTHING, "warmup": WARMUP}


def drawn(run: Run, pairs: Sequence[Pair]) -> list[Pair]:
    """The pairs of a run: all, in their order, or so many of them."""
    if run.pairs >= len(pairs):
        return list(pairs)
    order = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(run.seed))
    return [pairs[place] for place in order[:run.pairs].tolist()]


def trained(run: Run, pairs: Sequence[Pair], steps: int = STEPS) -> tuple[Translator, list[float]]:
    """The translator after its last step, and the losses, label smoothing included."""
    seed_everything(run.seed)
    translator = new_translator(pairs)

    def loss(model, batch):
        source, target, labels = batch
        return token_cross_entropy(model(source, target, source != translator.words.pad), labels,
                                   ignore=translator.characters.pad, label_smoothing=SMOOTHING)

    batches, generator = PairBatches(translator, pairs, BATCH, seed=run.seed), torch.Generator().manual_seed(run.seed)

    def some_hidden(step: int) -> tuple[Tensor, Tensor, Tensor]:
        source, target, labels = batches(step)
        words = (source != translator.words.pad) & (source != translator.words.end)
        hide = words & (torch.rand(source.shape, generator=generator) < run.hidden)  # (B, S)
        return source.masked_fill(hide, translator.words.encode([UNKNOWN])[0]), target, labels

    optimizer = torch.optim.AdamW(translator.model.parameters(), lr=RATE, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    history = train(translator.model, some_hidden, loss, optimizer, steps=steps, schedule=warmup_linear(WARMUP, STEPS),
                    clip_norm=1.0, progress=False)
    translator.model.eval()
    return translator, history.losses


def perform(run: Run, weights: Path) -> dict:
    """A run's entry: first losses, the mean of the last hundred, and what it writes for the test."""
    splits, start = load_interface_strings(), time.process_time()
    translator, losses = trained(run, drawn(run, splits.train))
    seconds = time.process_time() - start
    if run == PLANNED[0]:
        save_half(translator.model, weights)
        load_half(translator.model, weights)

    def written(texts: Sequence[str]) -> list[str]:
        return [each.text for each in translate(translator, texts)]

    entry = run._asdict() | {"losses": rounded(losses[:5]), "last": round(sum(losses[-100:]) / 100, 4),
                             "seconds": round(seconds, 1), "written": written([pair.source for pair in splits.test])}
    if run.hidden:
        whole, without = zip(*one_word_hidden(splits), strict=True)
        entry |= {"words known": written(whole), "one word hidden": written(without)}
    return entry


def one_word_hidden(splits: Splits, count: int = 200) -> list[tuple[str, str]]:
    """The first strings of the test of 2 to 6 words that training has all seen, and each with one of its words made unknown."""
    seen = {word for pair in splits.train for word in string_words(pair.source)}
    known = [words for pair in splits.test if 2 <= len(words := string_words(pair.source)) <= 6 and seen.issuperset(words)]
    draw = torch.Generator().manual_seed(0)

    def hidden(words: list[str]) -> str:
        place = int(torch.randint(len(words), (), generator=draw))
        return " ".join("zzz" if n == place else word for n, word in enumerate(words))

    return [(" ".join(words), hidden(words)) for words in known[:count]]


def searched(translator: Translator, count: int = SEARCHED) -> list[dict]:
    """Each number of beams, with the plain sum and with the mean, on the first strings of the test."""
    test = load_interface_strings().test[:count]
    found = []
    for beams in BEAMS:
        for penalty in (0.0, 1.0):
            written = translate(translator, [pair.source for pair in test], beams=beams, length_penalty=penalty)
            sums = translate_sums(written, penalty)
            found.append({"beams": beams, "penalty": penalty, "written": [each.text for each in written],
                          "log p": rounded(sums, 3),
                          "chrf": [round(chrf(each.text, pair.target), 2) for each, pair in zip(written, test, strict=True)]})
            print(beams, penalty, flush=True)
    return found


def translate_sums(written: Sequence, penalty: float) -> list[float]:
    """ln p of each whole text: the score times the length, the end included, that it was divided by."""
    return [each.score * min(len(each.text) + 1, LONGEST) ** penalty for each in written]


if __name__ == "__main__":
    main()
