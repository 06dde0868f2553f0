"""How many tokens a second: batches of prompts, guess and check, fewer bytes, and a training step one change at a time.

    OMP_NUM_THREADS=1 python experiments/study_speed.py experiments/records/speed.json --most 1

Each part is a comparison of variants that do the same work: they run in turn, a round runs each once, and what counts is the
ratio within a round, since the machine was not idle. Times are processor seconds of one thread. A call adds at most `--most`
parts to the record; `--rounds` says how often each variant runs.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from tutorlib.data.bible import load_bible
from tutorlib.fast import prepare
from tutorlib.generation import generate
from tutorlib.models import GPT, GPTConfig
from tutorlib.pretrained import load
from tutorlib.pretrained.smollm2 import chat_prompt
from tutorlib.records import open_record, rounded, surroundings, write_record
from tutorlib.roofline import measure_roofline
from tutorlib.speculation import DraftModel, Passes, PromptLookup, speculate

NEW = 12  # tokens a prompt in the comparisons of batches and bytes
SIZES = 1, 2, 4, 8, 16, 32
LENGTHS = 6, 11, 17, 24, 9, 30, 14, 20  # of the prompts, again and again
PASSAGE = ("The old clock in the tower of Wells was made in 1390 by a monk. It strikes every quarter of an hour, and then four "
           "knights ride round above it. The same knight has been struck from his horse for more than six hundred years.")
TASKS = {
    "repeat": f"Repeat this text word for word: {PASSAGE}",
    "change a word": f"Write this text again, but change the word Wells to Exeter: {PASSAGE}",
    "free text": "Write a short story about a fisherman who finds an old map.",
}
WRITTEN = 40  # tokens in the comparisons of guessing
COUNTS = 1, 2, 4, 8  # tokens that a draft guesses


def ratios(variants: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each variant, round by round, after one run of each that is not counted."""
    for run in variants.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, run in variants.items():
            start = time.process_time()
            run()
            seconds[name].append(time.process_time() - start)
    return seconds


def limits() -> dict:
    """What the machine reaches, in GFLOP/s and GB/s, measured beside what is to be judged by it."""
    found = {str(dtype).split(".")[1]: measure_roofline(dtype) for dtype in (torch.float32, torch.bfloat16)}
    return {name: {"gflops": round(roof.flops / 1e9, 1), "gbytes": round(roof.bandwidth / 1e9, 1)}
            for name, roof in found.items()}


def prompts(tokenizer, count: int) -> list[Tensor]:
    """The beginnings of chapters, of different lengths."""
    chapters = load_bible().held_out
    return [torch.tensor(tokenizer.encode(chapters[3 * place])[:LENGTHS[place % len(LENGTHS)]]) for place in range(count)]


def per_token(model, some: list[Tensor]) -> Callable[[], object]:
    return lambda: generate(model, some, NEW, temperature=0)


def batches(rounds: int, weights: torch.dtype) -> dict:
    """One to 32 prompts of different lengths in one batch, beside the machine's limits."""
    model, tokenizer = load("smollm2")
    model = model if weights == torch.float32 else prepare(model, weights)
    seconds = ratios({str(size): per_token(model, prompts(tokenizer, size)) for size in SIZES}, rounds)
    return {"seconds": seconds, "tokens": {str(size): size * NEW for size in SIZES}, "limits": limits()}


def bytes_a_weight(rounds: int) -> dict:
    """One prompt, with the same weights in other forms."""
    model, tokenizer = load("smollm2")
    some = prompts(tokenizer, 1)
    forms = {"float32": model, "float32, columns": prepare(model), "bfloat16": prepare(model, torch.bfloat16),
             "int8": prepare(model, torch.int8)}
    return {"seconds": ratios({name: per_token(form, some) for name, form in forms.items()}, rounds), "limits": limits()}


def lookup(rounds: int, task: str) -> dict:
    """Token by token against guesses looked up in the text: the same tokens."""
    model, tokenizer = load("smollm2")
    prompt = torch.tensor([tokenizer.encode(chat_prompt([("user", TASKS[task])]))])
    passes, counts = Passes(), (2, 4, 8, 16)
    expected = generate(model, prompt, WRITTEN, temperature=0)
    kept = {}
    for count in counts:
        passes = Passes()
        found = speculate(model, prompt, WRITTEN, PromptLookup(count), temperature=0, passes=passes)
        if not torch.equal(found, expected):
            raise ValueError(f"{count} guesses give other tokens than none")
        kept[str(count)] = [sum(passes.guessed), sum(passes.kept), len(passes.kept)]
    seconds = ratios({"token by token": lambda: generate(model, prompt, WRITTEN, temperature=0)} | {
        str(count): lambda count=count: speculate(model, prompt, WRITTEN, PromptLookup(count), temperature=0)
        for count in counts}, rounds)
    return {"prompt": prompt.size(1), "written": WRITTEN, "text": tokenizer.decode(expected[0, prompt.size(1):].tolist()),
            "kept": kept, "seconds": seconds}


def drafts(rounds: int) -> dict:
    """The same model in int8 guesses, float32 checks; beside it a model that knows nothing, as the control."""
    model, tokenizer = load("smollm2")
    prompt = torch.tensor([tokenizer.encode(chat_prompt([("user", TASKS["free text"])]))])
    small = prepare(model, torch.int8)
    expected, kept, room = generate(model, prompt, WRITTEN, temperature=0), {}, prompt.size(1) + WRITTEN

    def write(draft, count: int, passes: Passes | None = None) -> Tensor:
        return speculate(model, prompt, WRITTEN, DraftModel(draft, room, count), temperature=0, passes=passes)

    for count in COUNTS:
        passes = Passes()
        if not torch.equal(write(small, count, passes), expected):
            raise ValueError(f"{count} guesses give other tokens than none")
        kept[str(count)] = [sum(passes.guessed), sum(passes.kept), len(passes.kept)]
    seconds = ratios({"token by token": lambda: generate(model, prompt, WRITTEN, temperature=0),
                      "int8 alone": lambda: generate(small, prompt, WRITTEN, temperature=0)} | {
        str(count): lambda count=count: write(small, count) for count in COUNTS}, rounds)
    return {"written": WRITTEN, "kept": kept, "seconds": seconds}


def training(rounds: int) -> dict:
    """A step of a GPT, from plain to fast, one change at a time; losses of the first step are compared."""
    torch.manual_seed(0)
    config = GPTConfig(256, 256, 384, 6, 6, activation="gelu_tanh")
    start = GPT(config)
    tokens = torch.randint(256, (8, 257))

    def step(explicit: bool, fused: bool, bfloat16: bool, activation: str = "gelu_tanh") -> Callable[[], object]:
        model = GPT(replace(config, activation=activation))
        model.load_state_dict(start.state_dict())
        if explicit:
            for layer in model.layers:
                layer.attention.attend = explicit_attend(layer.attention)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.0, fused=fused, foreach=False)

        def run() -> float:
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                logits = model(tokens[:, :-1])
            loss = F.cross_entropy(logits.float().flatten(0, 1), tokens[:, 1:].flatten())
            loss.backward()
            optimizer.step()
            return loss.item()
        return run

    variants = {"plain": step(True, False, False), "fused attention": step(False, False, False),
                "fused AdamW": step(False, True, False), "erf GELU": step(False, True, False, "gelu"),
                "bfloat16": step(False, True, True, "gelu")}
    losses = {name: run() for name, run in variants.items()}
    matrices = sum(weight.numel() for weight in start.layers.parameters() if weight.dim() == 2) + start.output.weight.numel()
    work = 8 * 256 * (6 * matrices + 6 * config.num_layers * 256 * config.width)  # forward 2, backward 4; causal: half of T
    return {"losses": losses, "operations": work, "seconds": ratios(variants, rounds), "limits": limits()}


def explicit_attend(attention) -> Callable:
    """`MultiHeadAttention.attend` with the matrix of weights written out."""
    def attend(query, keys, values, mask=None, **options):
        return type(attention).attend(attention, query, keys, values, mask, **options | {"return_weights": True})[0]
    return attend


PARTS: dict[str, Callable[[int], dict]] = {
    "batches, float32": lambda rounds: batches(rounds, torch.float32),
    "weights": bytes_a_weight,
    "lookup, repeat": lambda rounds: lookup(rounds, "repeat"),
    "batches, bfloat16": lambda rounds: batches(rounds, torch.bfloat16),
    "lookup, free text": lambda rounds: lookup(rounds, "free text"),
    "training": training,
    "lookup, change a word": lambda rounds: lookup(rounds, "change a word"),
    "drafts": drafts,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("record", type=Path, help="JSON file to write, or to go on with")
    parser.add_argument("--most", type=int, default=len(PARTS), help="parts to add, at most")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each variant")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    record = open_record(arguments.record, lambda: {
        "settings": {"new": NEW, "sizes": list(SIZES), "lengths": list(LENGTHS)}, **surroundings(),
        "idle": False, "parts": {}})
    for name in [name for name in PARTS if name not in record["parts"]][:arguments.most]:
        start = time.process_time()
        found = PARTS[name](arguments.rounds)
        record["parts"][name] = rounded({key: value for key, value in found.items() if key != "text"}) | {
            "text": found.get("text", ""), "cpu_seconds": round(time.process_time() - start, 1)}
        write_record(arguments.record, record)
        print(name, record["parts"][name]["cpu_seconds"], flush=True)


if __name__ == "__main__":
    main()
