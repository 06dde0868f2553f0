"""Train the speller of the chapter "The Transformer" for longer, with several seeds, and compare it with the baselines.

    python experiments/train_pronunciation.py results.json --seeds 0 1 2 --steps 10000 --beams 3

writes phoneme and word error on the test words, and CPU seconds, for every seed and for both baselines. With --weights FILE
the weights of the first seed's model are saved, in half precision, and it is these that are judged. With
--checkpoint-folder an interrupted run goes on where it stopped; give the same arguments again.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from tutorlib.baselines.alignment import align
from tutorlib.baselines.letters import LetterBaseline, WindowBaseline
from tutorlib.data.pronunciation import (
    LETTERS,
    SOUNDS,
    Entry,
    EqualLengthBatches,
    encode_word,
    equal_length,
    load_pronunciations,
)
from tutorlib.device import default_device, seed_everything
from tutorlib.evaluation.sequences import phoneme_error_rate, wrong_word_rate
from tutorlib.generation import beam_search, generate
from tutorlib.models.transformer import Transformer, TransformerConfig
from tutorlib.training import token_cross_entropy, train, warmup_linear

LONGEST = 30  # phonemes that a decoder may say; the dictionary's longest word has 28


def main() -> None:
    options = arguments()
    splits = load_pronunciations()
    learned, test = mixed(splits.train, splits.test, 0) if options.random_split else (splits.train, splits.test)
    results = [] if options.no_baselines else baselines(splits.train, splits.test)
    for seed in options.seeds:
        start = time.process_time()
        model, loss = trained(learned, seed, options)
        seconds = time.process_time() - start
        if options.weights and seed == options.seeds[0]:
            weights = {name: weight.detach().cpu().half().contiguous() for name, weight in model.named_parameters()}
            save_file(weights, options.weights)
            model.load_state_dict(load_file(options.weights), strict=False)  # the tied head follows its embedding
        predicted = pronounce(model, [entry.word for entry in test], options.beams)
        split = {"split": "random"} if options.random_split else {}
        result = {"model": "transformer", **split, "steps": options.steps, "seed": seed, **errors(predicted, test)}
        results.append(result | {"cpu_seconds": round(seconds, 1), "loss": round(loss, 4)})
        print(results[-1], flush=True)
    settings = {name: value for name, value in vars(options).items() if name not in ("results", "checkpoint_folder", "weights")}
    options.results.write_text(json.dumps({"settings": settings, "results": results}, indent=1) + "\n")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="JSON file to write")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="one run a seed (default: 0)")
    parser.add_argument("--steps", type=int, default=2800, help="steps of training (default: %(default)s)")
    parser.add_argument("--warmup", type=int, default=200, help="steps of warm-up (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=64, help="words in a batch (default: %(default)s)")
    parser.add_argument("--rate", type=float, default=4e-3, help="highest learning rate (default: %(default)s)")
    parser.add_argument("--smoothing", type=float, default=0.0, help="label smoothing (default: %(default)s)")
    parser.add_argument("--width", type=int, default=96, help="model width (default: %(default)s)")
    parser.add_argument("--hidden", type=int, default=192, help="feed-forward width (default: %(default)s)")
    parser.add_argument("--layers", type=int, default=2, help="layers of encoder and of decoder (default: %(default)s)")
    parser.add_argument("--heads", type=int, default=4, help="attention heads (default: %(default)s)")
    parser.add_argument("--dropout", type=float, default=0.0, help="useful only in long runs (default: %(default)s)")
    parser.add_argument("--beams", type=int, default=1, help="beams of the search; 1 is greedy (default: %(default)s)")
    parser.add_argument("--no-baselines", action="store_true", help="leave the two baselines out")
    parser.add_argument("--random-split", action="store_true", help="do not keep families of words apart, as is usual")
    parser.add_argument("--weights", type=Path, default=None, help="save the first seed's weights here, as float16")
    parser.add_argument("--checkpoint-folder", type=Path, default=None, help="save here every 500 steps, and resume from here")
    return parser.parse_args()


def trained(entries: Sequence[Entry], seed: int, options: argparse.Namespace) -> tuple[Transformer, float]:
    """The model after its last step, and the mean loss of the last hundred."""
    device = default_device()
    seed_everything(seed)
    model = Transformer(
        TransformerConfig(
            source_vocabulary=len(LETTERS),
            target_vocabulary=len(SOUNDS),
            width=options.width,
            num_heads=options.heads,
            num_encoder_layers=options.layers,
            num_decoder_layers=options.layers,
            hidden=options.hidden,
            max_length=64,
            dropout=options.dropout,
            norm_first=True,
        )
    ).to(device)
    history = train(
        model,
        EqualLengthBatches(entries, options.batch, seed, device),
        lambda model, batch: token_cross_entropy(
            model(batch.source, batch.target), batch.labels, ignore=SOUNDS.pad, label_smoothing=options.smoothing
        ),
        torch.optim.AdamW(model.parameters(), lr=options.rate, betas=(0.9, 0.98), fused=True),
        steps=options.steps,
        schedule=warmup_linear(options.warmup, options.steps),
        checkpoint=options.checkpoint_folder and options.checkpoint_folder / f"pronunciation-{seed}.pt",
        checkpoint_every=500,
    )
    return model.eval(), sum(history.losses[-100:]) / len(history.losses[-100:])


@torch.no_grad()
def pronounce(model: Transformer, words: Sequence[str], num_beams: int = 1) -> list[tuple[str, ...]]:
    """Phonemes of each word, decoded in batches of equal length."""
    device = next(model.parameters()).device
    said = {}
    for group in equal_length(words):
        source = torch.cat([encode_word(word) for word in group]).to(device)  # (B, S)
        begin = source.new_full((len(group), 1), SOUNDS.begin)  # (B, 1)
        if num_beams == 1:
            tokens = generate(model.condition(source), begin, LONGEST, temperature=0, eos=SOUNDS.end)  # (B, 1 + T)
        else:
            tokens, _ = beam_search(model.condition(source), begin, LONGEST, num_beams=num_beams, eos=SOUNDS.end)
        said.update(zip(group, map(SOUNDS.decode, tokens), strict=True))
    return [said[word] for word in words]


def baselines(train_entries: Sequence[Entry], test: Sequence[Entry]) -> list[dict]:
    """One result each for the letter and the window baseline, and three for the latter where families are not kept apart."""
    aligned = align(train_entries)
    asked = [(LetterBaseline(aligned), test, {}), (WindowBaseline(aligned), test, {})]
    for seed in range(3):
        learned, others = mixed(train_entries, test, seed)
        asked.append((WindowBaseline(align(learned)), others, {"split": "random", "seed": seed}))
    results = []
    for baseline, entries, split in asked:
        predicted = [baseline(entry.word) for entry in entries]
        results.append({"model": type(baseline).__name__, **split, **errors(predicted, entries)})
        print(results[-1], flush=True)
    return results


def mixed(train_entries: Sequence[Entry], test: Sequence[Entry], seed: int) -> tuple[list[Entry], list[Entry]]:
    """The same entries split at random, as is usual: such a split may train on *nation* and ask for *nations*."""
    entries = [*train_entries, *test]
    order = torch.randperm(len(entries), generator=torch.Generator().manual_seed(seed)).tolist()
    return [entries[n] for n in order[len(test):]], [entries[n] for n in order[:len(test)]]


def errors(predicted: Sequence[tuple[str, ...]], test: Sequence[Entry]) -> dict[str, float]:
    expected = [entry.phonemes for entry in test]
    return {
        "phoneme_error": round(phoneme_error_rate(predicted, expected), 5),
        "word_error": round(wrong_word_rate(predicted, expected), 5),
    }


if __name__ == "__main__":
    main()
