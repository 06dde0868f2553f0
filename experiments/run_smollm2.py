"""SmolLM2-135M at work: what a token costs in time, what its bytes cost in quality, and what it writes.

    OMP_NUM_THREADS=1 python experiments/run_smollm2.py experiments/records/smollm2.json

Times are process times on one thread, a token for each of B prompts of equal length. Quality is the loss on the beginnings of
chapters of the World English Bible. Nobody here has the model before its file was rounded to 4 bits; so the GPT of
experiments/train_gpt.py, whose record has it, is rounded in the same way, and both are then shaken: uniform noise, half a step
wide to either side, as large as the error of a rounding. The record is written after every part; a second call goes on.
"""

import argparse
import runpy
import time
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tutorlib.baselines.ngram import KneserNey
from tutorlib.compression.int8 import Int8Linear, quantize, weight_bytes
from tutorlib.data.bible import load_bible
from tutorlib.exercises.a_real_language_model import round_rows
from tutorlib.generation import generate
from tutorlib.models import GPT, Llama
from tutorlib.pretrained.smollm2 import chat_prompt, half_split, llama_from_gguf, open_smollm2, tokenizer_from_gguf
from tutorlib.records import open_record, rounded, surroundings, write_record
from tutorlib.roofline import measure_roofline

PASSAGES, LENGTH = 24, 128
BATCHES, NEW, ROUNDS = (1, 2, 4, 8, 16, 32), 6, 5
BLOCK, DRAWS = 32, 3
SUBJECTS = ("sea", "moon", "bread", "rain", "winter", "music", "bees", "gold", "paper", "iron", "salt", "tea", "milk", "sand",
            "wind", "fire")
WRITTEN, END = 120, 2
QUESTIONS = {"How many letters are in the word 'cat'?": " 3", "What is 12 times 12?": "144",
             "What is the capital of Italy?": "Rome", "What is the capital of France?": "Paris"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("record", type=Path, help="JSON file to write, or to go on with")
    path = parser.parse_args().record
    torch.set_grad_enabled(False)
    record = open_record(path, lambda: {"settings": {"passages": PASSAGES, "length": LENGTH, "new": NEW, "rounds": ROUNDS,
                                                     "block": BLOCK, "written": WRITTEN}, **surroundings(), "seconds": {}})
    reader = open_smollm2()
    model, tokenizer = llama_from_gguf(reader), tokenizer_from_gguf(reader)
    parts = {"texts": lambda: texts(model, tokenizer), "losses": lambda: losses_of_all(model, tokenizer, reader),
             "rounded_gpt": rounded_gpt,
             "questions": lambda: questions(model, tokenizer, reader), "times": lambda: times(model, tokenizer)}
    for name, part in parts.items():
        if name not in record:
            start = time.process_time()
            record[name] = part()
            record["seconds"][name] = round(time.process_time() - start, 1)
            write_record(path, record)
            print(name, record["seconds"][name], flush=True)


# what a token costs

def seconds(function: Callable[[], object], rounds: int = ROUNDS) -> list[float]:
    taken = []
    for _ in range(rounds):
        start = time.process_time()
        function()
        taken.append(time.process_time() - start)
    return taken


def times(model: Llama, tokenizer) -> dict:
    """Bandwidth and arithmetic of the machine; then for each format the bytes read, the products alone, and whole steps."""
    formats = {"float32": model, "bfloat16": deepcopy(model).bfloat16(), "int8": quantize(model, fused=True)}
    table = 4 * model.embedding.weight.numel()  # of which int8 looks up one row a token
    read = {name: weight_bytes(other) - (table if name == "int8" else 0) for name, other in formats.items()}
    prompt = torch.tensor([tokenizer.encode("Once upon a time")])  # (1, T)
    limits = {name: measure_roofline(dtype, size=1024, megabytes=400, rounds=10)
              for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16))}
    found = {"bandwidth": round(limits["float32"].bandwidth, -6),
             "flops": {name: round(limit.flops, -6) for name, limit in limits.items()}, "formats": {}}
    for name, other in formats.items():
        steps = {f"step {batch}": [taken / NEW for taken in seconds(lambda b=batch, o=other: step(o, prompt, b))]
                 for batch in BATCHES}
        alone = {f"products {batch}": seconds(products(other, batch)) for batch in (1, 16)}
        found["formats"][name] = {"bytes": read[name]} | rounded(steps | alone, 5)
    return found


def step(model: Llama, prompt: Tensor, batch: int) -> None:
    """NEW steps for a batch of equal prompts (the reading of the prompt is one of them)."""
    generate(model, prompt.expand(batch, -1), NEW, temperature=0)


def products(model: Llama, batch: int) -> Callable[[], None]:
    """The matrix products of one step and nothing else."""
    dtype = model.norm.weight.dtype
    layers = [m for m in model.modules() if isinstance(m, nn.Linear | Int8Linear)]
    inputs = {layer.in_features: torch.randn(batch, 1, layer.in_features).to(dtype) for layer in layers}

    def run() -> None:
        for layer in layers:
            layer(inputs[layer.in_features])
    return run


# what it writes

def texts(model: Llama, tokenizer) -> dict:
    """Sixteen paragraphs written at once, greedily and drawn."""
    prompts = torch.tensor([tokenizer.encode(ask(subject)) for subject in SUBJECTS])  # (B, T)
    found = {}
    for name, how in (("greedy", {"temperature": 0}), ("drawn", {"top_p": 0.9, "generator": torch.Generator().manual_seed(0)})):
        start = time.process_time()
        whole = generate(model, prompts, WRITTEN, eos=END, **how)[:, prompts.size(1):]  # (B, new)
        rows = [row[:(row == END).int().argmax()] if (row == END).any() else row for row in whole]
        found[name] = {"seconds": round(time.process_time() - start, 1), "tokens": [len(row) for row in rows],
                       "repeated": [round(repeated_share(row.tolist()), 4) for row in rows],
                       "text": [tokenizer.decode(row) for row in rows]}
    return found


def ask(subject: str) -> str:
    return chat_prompt([("user", f"Write a short paragraph about {subject}.")])


def repeated_share(tokens: list[int], n: int = 4) -> float:
    """The share of runs of n tokens that have occurred before."""
    runs = list(zip(*(tokens[place:] for place in range(n)), strict=False))
    return 1 - len(set(runs)) / len(runs) if runs else 0.0


# what its bytes cost

def passages(tokenizer) -> Tensor:
    """The beginnings of chapters that are held out: (PASSAGES, LENGTH)."""
    chapters = load_bible().held_out[::4][:PASSAGES]
    return torch.tensor([tokenizer.encode(chapter[:2000])[:LENGTH] for chapter in chapters])


def losses(model: Callable[[Tensor], Tensor], texts: Tensor) -> list[float]:
    """The mean loss of each passage, nats a token."""
    return [F.cross_entropy(model(text[None])[0, :-1].float(), text[1:]).item() for text in texts]


def losses_of_all(model: Llama, tokenizer, reader) -> dict:
    given = passages(tokenizer)
    found = {"float32": losses(model, given), "bfloat16": losses(deepcopy(model).bfloat16().float(), given),
             "int8": losses(quantize(model), given), "int8, fused": losses(in_pieces(quantize(model, fused=True)), given),
             "inputs too": losses(with_inputs(model, round_call), given),
             "inputs too, a step each": losses(with_inputs(model, lambda layer, x: round_rows(x[0])), given)}
    steps = steps_of_file(reader, model)
    for draw in range(DRAWS):
        found[f"shaken {draw}"] = losses(shaken(model, steps, draw), given)
    found |= counting(tokenizer, given)
    count = [len(tokenizer.decode(text[1:])) for text in given]
    return rounded(found, 5) | {"characters": count}


def counting(tokenizer, given: Tensor) -> dict:
    """Kneser-Ney on the model's own tokens of the chapters that are not held out."""
    text = torch.tensor(tokenizer.encode("\n\n".join(load_bible().train)))
    found = {}
    for order in (1, 4):  # 49,152^4 is the largest power in an int64
        ngram = KneserNey(text, len(tokenizer), order)
        found[f"{order}-gram"] = [-ngram.score(passage)[1:].mean().item() for passage in given]
    return found


def in_pieces(model: Llama) -> Callable[[Tensor], Tensor]:
    """The model reading 16 tokens a call, the most that its kernel takes, as it does in generation."""
    def read(tokens: Tensor) -> Tensor:
        cache = model.new_cache(tokens.size(1))
        return torch.cat([model(part, cache=cache) for part in tokens.split(16, 1)], 1)  # (1, T, V)
    return read


def with_inputs(model: Llama, rounding) -> Llama:
    """The model in int8, `rounding` called on what enters each of its matrices."""
    other = quantize(model)
    for layer in other.modules():
        if isinstance(layer, Int8Linear):
            layer.register_forward_pre_hook(rounding)
    return other


def round_call(layer: nn.Module, inputs: tuple[Tensor]) -> Tensor:
    """Inputs in 8 bits with one step for all tokens of a call."""
    width = inputs[0].abs().max() / 127
    return (inputs[0] / width).round() * width


# rounding, and shaking as much again

def round_in_blocks(weight: Tensor, bits: int = 4, size: int = BLOCK) -> tuple[Tensor, Tensor]:
    """A matrix whose every `size` neighbors share a scale and a minimum in float16, and the step of each weight."""
    blocks = weight.reshape(-1, size)  # (blocks, size)
    low, high = blocks.amin(1, keepdim=True), blocks.amax(1, keepdim=True)
    step = (high - low) / (2**bits - 1)
    inverse = torch.where(step > 0, 1 / step, 0.0)
    codes = ((blocks - low) * inverse + 0.5).floor().clamp(0, 2**bits - 1)
    values = codes * step.half().float() + low.half().float()
    return values.view_as(weight), step.expand_as(blocks).reshape(weight.shape)


def steps_of_file(reader, model: Llama) -> dict[str, Tensor]:
    """The step of each weight that the file stores in blocks, by our names."""
    from tutorlib.pretrained.smollm2 import TABLE
    from tutorlib.pretrained.weights import rename
    heads = {"query": model.config.num_heads, "key": model.config.num_key_value_heads}
    found = {}
    for name, tensor in rename({t.name: t for t in reader.tensors}, TABLE, source="file").items():
        bytes_a_block = {"Q4_1": 20, "Q8_0": 34}.get(tensor.tensor_type.name)
        if bytes_a_block:
            scale = tensor.data.reshape(-1, bytes_a_block)[:, :2].copy().view(np.float16).astype(np.float32)  # (blocks, 1)
            step = torch.from_numpy(scale).abs().expand(-1, BLOCK).reshape(tuple(tensor.shape[::-1].tolist()))
            kind = name.split(".")[-2]
            found[name] = half_split(step, heads[kind]) if kind in heads else step
    return found


@torch.no_grad()
def shaken(model: nn.Module, steps: dict[str, Tensor], seed: int) -> nn.Module:
    """The model with each weight moved by up to half its step, as a rounding moves it."""
    generator = torch.Generator().manual_seed(seed)
    other = deepcopy(model)
    weights = dict(other.named_parameters())
    for name, step in steps.items():
        noise = torch.rand(step.shape, generator=generator) - 0.5
        weights[name].copy_(weights[name] + noise * step)
    return other


def rounded_gpt() -> dict:
    """The recorded GPT rounded as the file is, otherwise, and shaken: bits a character of each window of held-out text."""
    folder = Path(__file__).parent
    program = runpy.run_path(str(folder / "train_gpt.py"))
    _, tokenizer, _, unseen = program["prepared"]()
    model = program["load_weights"](folder / "records" / "gpt.safetensors")
    windows = unseen.unfold(0, program["LENGTH"] + 1, program["LENGTH"] // 2)  # (W, T + 1)
    count = program["characters"](windows[:, -program["LENGTH"] // 2:], tokenizer)
    exact = -program["nats"](model, windows)  # (W, T/2)

    def row(other: GPT, rival: Tensor) -> tuple[Tensor, list[float]]:
        logp = -program["nats"](other, windows)
        return logp, program["against"](logp, rival, count)

    as_file, steps = rounded_model(model, 4, BLOCK)
    found, logp = {"as it is": program["against"](exact, exact, count)}, {}
    logp["blocks"], found["4 bits, blocks of 32"] = row(as_file, exact)
    _, found["8 bits, blocks of 32"] = row(rounded_model(model, 8, BLOCK)[0], exact)
    _, found["4 bits, a scale a row"] = row(rounded_model(model, 4, None)[0], exact)
    for draw in range(DRAWS):
        _, found[f"4 bits, shaken {draw}"] = row(shaken(as_file, steps, draw), logp["blocks"])
    return {"characters": count, "windows": len(windows), "bits": found}


@torch.no_grad()
def rounded_model(model: GPT, bits: int, size: int | None) -> tuple[GPT, dict[str, Tensor]]:
    """Matrices of the layers in `bits`, the embedding in 8, as in the file; `size` None is a whole row a block."""
    other, steps = deepcopy(model), {}
    weights = dict(other.named_parameters())
    for name, weight in weights.items():
        if weight.dim() == 2 and not name.startswith("position"):
            here = 8 if name == "embedding.weight" else bits
            values, steps[name] = round_in_blocks(weight, here, size or weight.size(1))
            weight.copy_(values)
    return other, steps


def questions(model: Llama, tokenizer, reader) -> dict:
    """What the model and the shaken ones answer."""
    steps, found = steps_of_file(reader, model), {}
    for name, other in (("as it is", model), *((f"shaken {draw}", shaken(model, steps, draw)) for draw in range(DRAWS))):
        found[name] = {"answers": [answer(other, tokenizer, question) for question in QUESTIONS]}
    return found


def answer(model: Llama, tokenizer, question: str, new: int = 30) -> str:
    prompt = torch.tensor([tokenizer.encode(chat_prompt([("user", question)]))])
    return tokenizer.decode(generate(model, prompt, new, temperature=0, eos=END)[0, prompt.size(1):])


if __name__ == "__main__":
    main()
