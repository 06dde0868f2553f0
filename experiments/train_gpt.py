"""Train the GPT of the chapter "GPT" on tokens of its own tokenizer, and compare it with counting, in bits a character.

    OMP_NUM_THREADS=1 python experiments/train_gpt.py experiments/records/gpt.json --steps 3000

writes the learning curve, samples at four checkpoints, the n-gram models of every order and the mixture of both; beside it
the weights, one byte each (gpt.safetensors). The record is written anew at every checkpoint, so a run that is cut leaves the
part that it reached; `step` says how far it came, `settings` how far it was to go. TUTORLIB_DEVICE=cuda before the command
puts the model and its batches on a GPU.

    python experiments/train_gpt.py experiments/records/gpt.json --second other.json

adds `pairs` to a finished record: what this model, the one of another record (another seed) and counting give to all held-out
tokens, the halves of two and a third of each. The weights are those beside the records.
"""

import argparse
import json
import math
import time
from collections import Counter
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from tutorlib.baselines.ngram import KneserNey, discounts
from tutorlib.compression.int8 import packed, unpacked
from tutorlib.data.batches import RandomWindows
from tutorlib.data.bible import load_bible
from tutorlib.device import default_device, has_fast_bfloat16, seed_everything
from tutorlib.generation import generate
from tutorlib.models import GPT, GPTConfig
from tutorlib.records import surroundings
from tutorlib.text.bpe import BytePairTokenizer
from tutorlib.text.characters import CharacterTokenizer
from tutorlib.training import token_cross_entropy
from tutorlib.training.loop import update

VOCABULARY, LENGTH, BATCH = 2048, 128, 16
LONGER_ORDERS = (6, 7, 8)  # of n-grams of tokens, counted with tuples
FIRST = 4  # losses in float32 at the start, which another machine can repeat
PROMPT = "The king said to "


def main() -> None:
    options = arguments()
    if options.second:
        add_pairs(options.record, options.second)
    else:
        train_anew(options)


def train_anew(options: argparse.Namespace) -> None:
    (train_text, held_out), tokenizer, tokens, unseen = prepared()
    record = {
        "settings": {"steps": options.steps, "vocabulary": VOCABULARY, "length": LENGTH, "batch": BATCH, "width": 192,
                     "layers": 6, "heads": 6, "muon": 0.02, "decay": 0.1, "adamw": 3e-3},
        "seed": options.seed, **surroundings(), "tokens": len(tokens), "characters": len(train_text),
        "first_losses": first_losses(tokens, options.seed), "step": 0, "curve": [], "samples": [],
    }
    model = train_and_record(tokens, unseen, tokenizer, options, record)
    save_weights(model, options.record.with_suffix(".safetensors"))
    record |= compare(model, tokens, unseen, tokenizer, train_text, held_out)
    write(options.record, record)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("record", type=Path, help="JSON file to write; the weights go beside it")
    parser.add_argument("--steps", type=int, default=3000, help="steps of training (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of weights and batches (default: %(default)s)")
    parser.add_argument("--second", type=Path, help="train nothing; add to `record` what the model of this one says beside it")
    return parser.parse_args()


def texts() -> tuple[str, str]:
    bible = load_bible()
    return "\n\n".join(bible.train), "\n\n".join(bible.held_out)


def prepared() -> tuple[tuple[str, str], BytePairTokenizer, Tensor, Tensor]:
    """Both texts, the tokenizer learned from the first, and the tokens of both, (N,) each."""
    both = texts()
    tokenizer = BytePairTokenizer.train(both[0], VOCABULARY)
    tokens, unseen = (torch.tensor(tokenizer.encode(text)) for text in both)
    return both, tokenizer, tokens, unseen


def new_model(seed: int) -> GPT:
    seed_everything(seed)
    return GPT(GPTConfig(VOCABULARY, LENGTH, width=192, num_heads=6, num_layers=6))


def optimizers(model: GPT) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the layers, AdamW for embeddings, norms and biases."""
    matrices = [p for p in model.layers.parameters() if p.dim() == 2]
    chosen = set(map(id, matrices))
    others = [p for p in model.parameters() if id(p) not in chosen]
    return [torch.optim.Muon(matrices, lr=0.02, momentum=0.95, weight_decay=0.1),
            torch.optim.AdamW(others, lr=3e-3, betas=(0.9, 0.95), weight_decay=0.0, fused=True)]


class Together:
    """Several optimizers that are driven as one."""

    def __init__(self, *parts: torch.optim.Optimizer):
        self.parts, self.param_groups = parts, [group for part in parts for group in part.param_groups]

    def zero_grad(self) -> None:
        for part in self.parts:
            part.zero_grad()

    def step(self) -> None:
        for part in self.parts:
            part.step()


def next_token_loss(model: GPT, batch: tuple[Tensor, Tensor]) -> Tensor:
    return token_cross_entropy(model(batch[0]), batch[1])


def factor(step: int, steps: int) -> float:
    """Of the learning rate: 1 after a short warm-up, then down a line over the last 70 % of the steps."""
    return min(1.0, (step + 1) / 30, (steps - step) / (0.7 * steps))


def first_losses(tokens: Tensor, seed: int) -> list[float]:
    """The losses of the first steps in float32, without decay of the rate."""
    model = new_model(seed)
    optimizer, batches = Together(*optimizers(model)), RandomWindows(tokens, LENGTH, batch_size=BATCH, seed=seed)
    rates = [group["lr"] for group in optimizer.param_groups]
    losses = []
    for step in range(FIRST):
        set_rates(optimizer, rates, factor(step, 1000))
        losses.append(float(update(model, batches, next_token_loss, optimizer, step)[0]))
    return losses


def set_rates(optimizer: Together, rates: list[float], by: float) -> None:
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate * by


def train_and_record(tokens, unseen, tokenizer, options, record) -> GPT:
    device = default_device()
    model, start, spent = new_model(options.seed).to(device), time.perf_counter(), 0.0
    optimizer = Together(*optimizers(model))
    batches = RandomWindows(tokens, LENGTH, batch_size=BATCH, seed=options.seed, device=device)
    rates = [group["lr"] for group in optimizer.param_groups]
    fast = torch.bfloat16 if has_fast_bfloat16(device) else None
    record["autocast"], record["parameters"] = str(fast), sum(p.numel() for p in model.parameters())
    every, losses = max(1, options.steps // 12), []
    for step in range(options.steps):
        set_rates(optimizer, rates, factor(step, options.steps))
        losses.append(float(update(model, batches, next_token_loss, optimizer, step, autocast=fast)[0]))
        if (step + 1) % every == 0 or step + 1 == options.steps:
            seconds = time.perf_counter() - start - spent
            checkpoint(model, unseen, tokenizer, record, step + 1, losses[-every:], seconds, options)
            spent = time.perf_counter() - start - seconds  # evaluating is not training
    return model.to("cpu").eval()


def checkpoint(model, unseen, tokenizer, record, step, losses, seconds, options) -> None:
    model.eval()
    bits, _ = bits_a_character(model, unseen, tokenizer, every=8)
    record["step"], record["seconds"] = step, round(seconds, 1)
    record["curve"].append({"step": step, "tokens": step * BATCH * LENGTH, "seconds": round(seconds, 1),
                            "loss": round(sum(losses) / len(losses), 4), "held_out_bits": round(bits, 4)})
    if len(record["curve"]) in (1, 3, 6) or step == options.steps:
        record["samples"].append({"step": step, "text": sample(model, tokenizer)})
    model.train()
    write(options.record, record)
    print(record["curve"][-1], flush=True)


def sample(model: GPT, tokenizer: BytePairTokenizer, new: int = 100) -> str:
    device = model.embedding.weight.device
    prompt = torch.tensor([tokenizer.encode(PROMPT.rstrip())], device=device)
    generator = torch.Generator(device).manual_seed(0)
    return tokenizer.decode(generate(model, prompt, new, top_p=0.9, generator=generator)[0])


@torch.no_grad()
def nats(model: GPT, windows: Tensor) -> Tensor:
    """Of the second half of each window: (W, T + 1) -> (W, T/2)."""
    half, device = windows.size(1) // 2, model.embedding.weight.device
    parts = [F.cross_entropy(model(w[:, :-1])[:, -half:].mT, w[:, -half:], reduction="none").cpu()
             for w in windows.to(device).split(16)]
    return torch.cat(parts)


def bits_a_character(model, unseen, tokenizer, every: int = 1) -> tuple[float, Tensor]:
    """Of held-out tokens that have half a window or more before them; and the nats (W, T/2)."""
    windows = unseen.unfold(0, LENGTH + 1, LENGTH // 2)[::every]  # (W, T + 1)
    losses = nats(model, windows)
    return losses.double().sum().item() / math.log(2) / characters(windows[:, -LENGTH // 2:], tokenizer), losses


def characters(tokens: Tensor, tokenizer: BytePairTokenizer) -> int:
    return len(b"".join(map(tokenizer.token, tokens.flatten().tolist())).decode(errors="replace"))


def compare(model, tokens, unseen, tokenizer, train_text, held_out) -> dict:
    """The final scores: GPT, every n-gram model, and half of each."""
    bits, losses = bits_a_character(model, unseen, tokenizer)
    scored = unseen.unfold(0, LENGTH + 1, LENGTH // 2)[:, -LENGTH // 2:]  # (W, T/2), each token once
    count = characters(scored, tokenizer)
    begin = characters(unseen[:LENGTH // 2 + 1], tokenizer)
    by_token = {}
    span = slice(LENGTH // 2 + 1, LENGTH // 2 + 1 + scored.numel())
    for order in range(1, 6):  # 2,048^5 is the largest power in an int64
        score = -KneserNey(tokens, VOCABULARY, order).score(unseen)[span]  # nats
        by_token[order] = score.sum().item() / math.log(2) / count
    mixed = -mean_of(-losses.double().flatten(), -score).sum().item()  # with the last of these
    for order in LONGER_ORDERS:
        longer = -count_with_tuples(tokens.tolist(), unseen.tolist(), VOCABULARY, order)[span]  # nats
        by_token[order] = longer.sum().item() / math.log(2) / count
    letters = CharacterTokenizer(train_text + held_out)
    ids, unseen_ids = (torch.tensor(letters.encode(text)) for text in (train_text, held_out))
    span = slice(begin, begin + count)
    by_character = {n: -KneserNey(ids, len(letters), n).score(unseen_ids)[span].mean().item() / math.log(2)
                    for n in range(1, 11)}
    rounded = [{n: round(b, 4) for n, b in scores.items()} for scores in (by_character, by_token)]
    return {"scores": {"gpt": round(bits, 4), "mixture": round(mixed / math.log(2) / count, 4),
                       "ngram_characters": rounded[0], "ngram_tokens": rounded[1]}, "held_out_characters": count,
            "ngram_sample": sample_counting(tokens, tokenizer)}


def count_with_tuples(text: list[int], asked: list[int], vocabulary: int, order: int) -> Tensor:
    """`KneserNey(text, vocabulary, order).score(asked)` for orders whose grams no int64 can number: (N,), in half a minute."""
    levels, grams = [], Counter(zip(*(text[place:] for place in range(order)), strict=False))
    for length in range(order, 0, -1):
        taken = [float(d) for d in discounts(torch.tensor(list(grams.values())))]
        contexts = {}  # context: what came after it, and what the discounts leave
        for gram, number in grams.items():
            total, free = contexts.get(gram[:-1], (0, 0.0))
            contexts[gram[:-1]] = total + number, free + taken[min(number, 3)]
        levels.insert(0, (grams, contexts, taken))
        distinct = {*grams, tuple(text[:length])}  # nothing stands before the first, but it is a gram
        grams = Counter(gram[1:] for gram in distinct)
    scores = []
    for place in range(len(asked)):
        p = 1 / vocabulary
        for length, (grams, contexts, taken) in enumerate(levels[:place + 1], start=1):
            gram = tuple(asked[place - length + 1:place + 1])
            if gram[:-1] in contexts:
                total, free = contexts[gram[:-1]]
                number = grams[gram]
                p = (number - taken[min(number, 3)] + free * p) / total
        scores.append(math.log(p))
    return torch.tensor(scores, dtype=torch.float64)


def sample_counting(tokens: Tensor, tokenizer: BytePairTokenizer, new: int = 100) -> str:
    """What the 5-gram model of tokens writes, drawn as GPT's sample is (top-p .9)."""
    from tutorlib.generation import choose

    model, ids = KneserNey(tokens, VOCABULARY, 5), torch.tensor([tokenizer.encode(PROMPT.rstrip())])
    generator = torch.Generator().manual_seed(0)
    for _ in range(new):
        following = choose(model(ids[:, -4:])[:, -1], top_p=0.9, generator=generator)  # (1,) or (1, 1)
        ids = torch.cat([ids, following.reshape(1, 1)], dim=1)
    return tokenizer.decode(ids[0])


def add_pairs(path: Path, second: Path) -> None:
    """Add to a finished record what two seeds, counting and their means give to all held-out tokens."""
    record, other = (json.loads(file.read_text()) for file in (path, second))
    _, tokenizer, tokens, unseen = prepared()
    windows = unseen.unfold(0, LENGTH + 1, LENGTH // 2)  # (W, T + 1)
    gpt, another = (-nats(load_weights(file.with_suffix(".safetensors")), windows).double() for file in (path, second))
    counting = KneserNey(tokens, VOCABULARY, 5).score(unseen).unfold(0, LENGTH + 1, LENGTH // 2)[:, -LENGTH // 2:]  # (W, T/2)
    logp = {"gpt": gpt, "another gpt": another, "counting": counting, "half of both gpts": mean_of(gpt, another),
            "half of gpt and counting": mean_of(gpt, counting), "a third of each": mean_of(gpt, another, counting)}
    count = characters(windows[:, -LENGTH // 2:], tokenizer)
    record["pairs"] = {"seeds": [record["seed"], other["seed"]], "steps": [record["step"], other["step"]],
                       "bits": {name: against(values, gpt, count) for name, values in logp.items()}}
    write(path, record)


def mean_of(*logp: Tensor) -> Tensor:
    """The log of the mean of probabilities, given their logs."""
    return torch.stack(logp).logsumexp(0) - math.log(len(logp))


def bits_of(logp: Tensor, count: int) -> Tensor:
    """Log probabilities (W, T/2) of `count` characters -> bits a character (W,), whose mean is that of all."""
    return -logp.double().sum(1) / math.log(2) * len(logp) / count


def against(logp: Tensor, rival: Tensor, count: int) -> list[float]:
    """Log probabilities (W, T/2) of `count` characters: bits a character; less the rival's; standard error over windows."""
    bits, less = (bits_of(values, count) for values in (logp, logp - rival))  # (W,) each
    return [round(value.item(), 4) for value in (bits.mean(), less.mean(), less.std() / len(less) ** 0.5)]


def save_weights(model: GPT, path: Path) -> None:
    """Each weight as a byte with a scale a row; norms and biases in float16."""
    from safetensors.torch import save_file

    save_file(packed(model, torch.float16), path)


def load_weights(path: Path) -> GPT:
    """The model that `save_weights` kept, its matrices within half a step of their row's scale."""
    from safetensors.torch import load_file

    model = new_model(0)
    model.load_state_dict(unpacked(load_file(path)))
    return model.eval()


def write(path: Path, record: dict) -> None:
    path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
