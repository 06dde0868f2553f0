"""Train the small GPT that runs in the page (`tutorlib.explorer`): 1,024 tokens, 4 layers of 4 heads, about a million weights.

    OMP_NUM_THREADS=1 python experiments/train_page_gpt.py experiments/records/page_gpt.json --steps 4000

writes the learning curve and a sample; beside it the weights, one byte each (page_gpt.safetensors), and the merges of its
tokenizer in the record, so that neither the book nor its first page has to learn them again. Data, optimizers and schedule are
those of `train_gpt.py`.
"""

import argparse
import json
import math
import runpy
import time
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import Tensor

from tutorlib.compression.int8 import unpacked
from tutorlib.data.batches import RandomWindows
from tutorlib.device import default_device, has_fast_bfloat16, seed_everything
from tutorlib.generation import generate
from tutorlib.models import GPT, GPTConfig
from tutorlib.records import surroundings
from tutorlib.text.bpe import BytePairTokenizer, from_visible, to_visible
from tutorlib.training.loop import update

LARGE = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("train_gpt.py"))))
LENGTH, CHECKPOINTS = LARGE.LENGTH, 8
SIZES = {"vocabulary": 1024, "max_length": LENGTH, "width": 128, "num_heads": 4, "num_layers": 4}
PROMPT = "The king said to"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("record", type=Path, help="JSON file to write; the weights go beside it")
    parser.add_argument("--steps", type=int, default=4000, help="steps of training (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of weights and batches (default: %(default)s)")
    options = parser.parse_args()
    tokenizer, tokens, unseen = prepared()
    record = {"settings": SIZES | {"steps": options.steps, "batch": LARGE.BATCH, "muon": 0.02, "decay": 0.1, "adamw": 3e-3},
              "seed": options.seed, **surroundings(), "tokens": len(tokens), "first_losses": first_losses(tokens, options.seed),
              "step": 0, "curve": [], "merges": [" ".join(map(to_visible, pair)) for pair in tokenizer.merges]}
    model = new_model(options.seed).to(default_device())
    record["parameters"] = sum(p.numel() for p in model.parameters())
    every = max(1, options.steps // CHECKPOINTS)
    for step, loss, seconds in steps_of(model, tokens, options):
        if step % every == 0 or step == options.steps:
            bits = bits_a_character(model, unseen, tokenizer)
            record["step"], record["seconds"] = step, round(seconds, 1)
            record["curve"].append({"step": step, "loss": round(loss, 4), "held_out_bits": round(bits, 4)})
            LARGE.write(options.record, record)
            print(record["curve"][-1], flush=True)
    record["sample"] = sample(model.cpu().eval(), tokenizer)
    LARGE.save_weights(model, options.record.with_suffix(".safetensors"))
    LARGE.write(options.record, record)


def prepared() -> tuple[BytePairTokenizer, Tensor, Tensor]:
    """The tokenizer learned from the training text, and the tokens of both texts, (N,) each."""
    both = LARGE.texts()
    tokenizer = BytePairTokenizer.train(both[0], SIZES["vocabulary"])
    return tokenizer, *(torch.tensor(tokenizer.encode(text)) for text in both)


def new_model(seed: int) -> GPT:
    seed_everything(seed)
    return GPT(GPTConfig(**SIZES))


def first_losses(tokens: Tensor, seed: int) -> list[float]:
    """The losses of the first steps in float32, which another machine can repeat."""
    model = new_model(seed)
    optimizer = LARGE.Together(*LARGE.optimizers(model))
    batches = RandomWindows(tokens, LENGTH, batch_size=LARGE.BATCH, seed=seed)
    return [float(update(model, batches, LARGE.next_token_loss, optimizer, step)[0]) for step in range(LARGE.FIRST)]


def steps_of(model: GPT, tokens: Tensor, options: argparse.Namespace):
    """Train, and after each step say (step, loss, seconds of training)."""
    device, spent = next(model.parameters()).device, 0.0
    optimizer = LARGE.Together(*LARGE.optimizers(model))
    batches = RandomWindows(tokens, LENGTH, batch_size=LARGE.BATCH, seed=options.seed, device=device)
    rates = [group["lr"] for group in optimizer.param_groups]
    fast = torch.bfloat16 if has_fast_bfloat16(device) else None
    for step in range(options.steps):
        start = time.perf_counter()
        LARGE.set_rates(optimizer, rates, LARGE.factor(step, options.steps))
        loss = float(update(model, batches, LARGE.next_token_loss, optimizer, step, autocast=fast)[0])
        spent += time.perf_counter() - start
        yield step + 1, loss, spent


def bits_a_character(model: GPT, unseen: Tensor, tokenizer: BytePairTokenizer) -> float:
    """On every eighth window of the held-out text, of tokens that have half a window or more before them."""
    windows = unseen.unfold(0, LENGTH + 1, LENGTH // 2)[::8]  # (W, T + 1)
    model.eval()
    total = LARGE.nats(model, windows).double().sum().item()
    model.train()
    return total / math.log(2) / LARGE.characters(windows[:, -LENGTH // 2:], tokenizer)


def sample(model: GPT, tokenizer: BytePairTokenizer) -> str:
    prompt = torch.tensor([tokenizer.encode(PROMPT)])
    generator = torch.Generator().manual_seed(0)
    return tokenizer.decode(generate(model, prompt, 100, top_p=0.9, generator=generator)[0])


def load(record: Path) -> tuple[GPT, BytePairTokenizer]:
    """The model and the tokenizer of a finished record."""
    from safetensors.torch import load_file

    pairs = [tuple(map(from_visible, merge.split())) for merge in json.loads(record.read_text())["merges"]]
    model = new_model(0)
    model.load_state_dict(unpacked(load_file(record.with_suffix(".safetensors"))))
    return model.eval(), BytePairTokenizer(pairs)


if __name__ == "__main__":
    main()
