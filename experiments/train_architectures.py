"""Attention, linear attention, the delta rule, a state space, hybrids and mixtures of experts on three tasks, by seeds.

    OMP_NUM_THREADS=1 python experiments/train_architectures.py experiments/records/architectures.json

Every model is the course's GPT with two layers of width 64, in which one part is exchanged; each has a short convolution
before its mixing, attention too. Tasks: recall of one of many pairs, parity of bits, and characters of a Bible. The record is
written after every run, seed by seed, so a run that is cut leaves whole comparisons; a second call goes on where it stopped.
"""

import argparse
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tutorlib.data.batches import RandomWindows, numbered_generator
from tutorlib.data.bible import load_bible
from tutorlib.device import seed_everything
from tutorlib.layers import (
    CausalConvolution,
    DeltaAttention,
    Experts,
    FeedForward,
    LinearAttention,
    MultiHeadAttention,
    Routing,
    StateSpace,
    balance_loss,
    linear_attention,
)
from tutorlib.models import GPT, GPTConfig
from tutorlib.records import missing, open_record, surroundings, write_record
from tutorlib.text.characters import CharacterTokenizer
from tutorlib.training import token_cross_entropy, train, warmup_cosine

WIDTH, LAYERS, HEADS, HIDDEN = 64, 2, 2, 128
SEEDS = (0, 1, 2)
KEYS, VALUES = 64, 32  # different symbols of recall
PAIRS = (4, 8, 16, 32, 64)  # of a prompt
RATE = 3e-3
BALANCE = 0.01  # the weight of `balance_loss`, as in Switch
FIRST = 3  # losses at the start, which another machine can repeat


# -- the parts ---------------------------------------------------------------------------------------------------------


class ConvolvedAttention(nn.Module):
    """Softmax attention behind the short convolution that all the others have."""

    def __init__(self, width: int, num_heads: int):
        super().__init__()
        self.convolution, self.attention = CausalConvolution(width), MultiHeadAttention(width, num_heads, bias=False)

    def forward(self, states: Tensor, **options) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        return self.attention(F.silu(self.convolution(states)[0]), **options)


class TurningStateSpace(StateSpace):
    """The control of parity: the same layer, whose state is multiplied by a number from -1 to 1 instead of 0 to 1."""

    def mix(self, query: Tensor, key: Tensor, x: Tensor, step: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        decay = 2 * (-step * self.log_rate.exp()[:, None]).exp() - 1  # (B, H, T) in (-1, 1)
        sign = decay.sign().cumprod(-1)[..., None]  # (B, H, T, 1): of a_1 ... a_t; between s and t it is the product of two
        return linear_attention(sign * query, sign * key, step[..., None] * x, decay.abs().clamp_min(1e-4).log(), state)


class KeepingStateSpace(StateSpace):
    """The control of the decay: the same layer, whose state never shrinks."""

    def mix(self, query: Tensor, key: Tensor, x: Tensor, step: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        return linear_attention(query, key, step[..., None] * x, state=state)


class SignedStateSpace(StateSpace):
    """The control of the keys: the same layer, whose B and C pass no SiLU, which leaves little below zero."""

    def forward(self, states: Tensor, **options) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        x, signed = self.convolution(self.inputs(states))[0].split([self.inner, 2 * self.state], dim=-1)
        key, query = signed.split(self.state, dim=-1)  # (B, T, K) each
        x = F.silu(x).unflatten(-1, (-1, self.head_width)).transpose(1, 2)  # (B, H, T, V)
        heads, _ = self.mix(query[:, None], key[:, None], x, F.softplus(self.step(states)).transpose(1, 2), None)
        heads = (heads + self.skip[:, None, None] * x).transpose(1, 2).flatten(2)  # (B, T, I)
        return self.output(self.norm(heads * F.silu(self.gate(states))))


class StatelessSpace(StateSpace):
    """The control of the state: the same layer, from whose state nothing is read; convolution, skip and gate are left."""

    def mix(self, query: Tensor, key: Tensor, x: Tensor, step: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        return torch.zeros_like(x), x.new_zeros(*x.shape[:2], key.size(-1), x.size(-1))


class SkiplessSpace(StateSpace):
    """The control of the skip: the same layer, whose convolved input reaches the output through the state alone."""

    def __init__(self, width: int, **options):
        super().__init__(width, **options)
        nn.init.zeros_(self.skip)
        self.skip.requires_grad_(False)


class UngatedSpace(StateSpace):
    """The control of the gate: neither the state nor the gate is read; convolution and skip are left."""

    def forward(self, states: Tensor, **options) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        x = F.silu(self.convolution(self.inputs(states))[0][..., :self.inner]).unflatten(-1, (-1, self.head_width))
        return self.output(self.norm((self.skip[:, None] * x).flatten(2)))  # (B, T, H, V) before they are joined


class FurnishedAttention(nn.Module):
    """The other side: attention behind its convolution, with the state space's gate, its skip past the mixing, or both."""

    def __init__(self, width: int, num_heads: int, *, gate: bool = False, skip: bool = False):
        super().__init__()
        self.convolution, self.attention = CausalConvolution(width), MultiHeadAttention(width, num_heads, bias=False)
        self.attention.output, self.output = nn.Identity(), nn.Linear(width, width, bias=False)
        self.gate = nn.Linear(width, width, bias=False) if gate else None
        self.skip = nn.Parameter(torch.ones(num_heads)) if skip else None

    def forward(self, states: Tensor, **options) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        x = F.silu(self.convolution(states)[0])
        mixed = self.attention(x, **options)
        if self.skip is not None:
            mixed = mixed + (self.skip[:, None] * x.unflatten(-1, (len(self.skip), -1))).flatten(2)
        return self.output(mixed if self.gate is None else mixed * F.silu(self.gate(states)))


class NoPosition(nn.Module):
    """In the place of learned positions, where a model is read at lengths that it was not trained on."""

    def forward(self, states: Tensor, offset: int = 0, places: Tensor | None = None) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        return states


MIXERS = {
    "attention": ConvolvedAttention,
    "linear": LinearAttention,
    "delta": lambda width, heads: DeltaAttention(width, heads, largest=2.0),
    "state space": lambda width, heads: StateSpace(width, head_width=width // heads, state=width // heads, expand=1),
}
OTHERS = {
    "delta to 1": lambda width, heads: DeltaAttention(width, heads, largest=1.0),
    "state space, no decay": lambda width, heads: KeepingStateSpace(width, head_width=width // heads, state=width // heads,
                                                                    expand=1),
    "state space, signed keys": lambda width, heads: SignedStateSpace(width, head_width=width // heads, state=width // heads,
                                                                     expand=1),
    "state space, no state": lambda width, heads: StatelessSpace(width, head_width=width // heads, state=width // heads,
                                                                 expand=1),
    "state space, no state, no gate": lambda width, heads: UngatedSpace(width, head_width=width // heads, state=width // heads,
                                                                       expand=1),
    "attention, gate": lambda width, heads: FurnishedAttention(width, heads, gate=True),
    "attention, skip": lambda width, heads: FurnishedAttention(width, heads, skip=True),
    "attention, gate and skip": lambda width, heads: FurnishedAttention(width, heads, gate=True, skip=True),
    "state space, no skip": lambda width, heads: SkiplessSpace(width, head_width=width // heads, state=width // heads,
                                                                expand=1),
    "turning state space": lambda width, heads: TurningStateSpace(width, head_width=width // heads, state=width // heads,
                                                                  expand=1),
}
NETWORKS = {
    "dense": lambda: FeedForward(WIDTH, HIDDEN, activation="gelu"),
    "dense x 4": lambda: FeedForward(WIDTH, 4 * HIDDEN, activation="gelu"),
    "1 of 4 experts": lambda: four_experts(),
    "1 of 4, router fixed": lambda: four_experts(learn=False),
    "1 of 4, by lot": lambda: four_experts(learn=False, kind=LotExperts),
}


class LotExperts(Experts):
    """The control of the routing: the expert is drawn anew for each token and step; its weight stays what the router says."""

    def route(self, tokens: Tensor) -> Routing:
        """tokens (N, D) -> their routing."""
        routing = super().route(tokens)
        return routing._replace(chosen=torch.randint_like(routing.chosen, len(self.experts)))


def four_experts(learn: bool = True, kind: type[Experts] = Experts) -> Experts:
    """Each as wide as the dense network; with learn=False the router stays as it is drawn."""
    made = kind(WIDTH, (FeedForward(WIDTH, HIDDEN, activation="gelu") for _ in range(4)))
    made.router.requires_grad_(learn)
    return made


def new_model(mixers: list[str], vocabulary: int, length: int, *, heads: int = HEADS, network: str = "dense",
              positions: bool = True) -> GPT:
    """GPT, a layer for each name in `mixers`."""
    model = GPT(GPTConfig(vocabulary, length, width=WIDTH, num_heads=heads, num_layers=len(mixers), hidden=HIDDEN))
    for layer, mixer in zip(model.layers, mixers, strict=True):
        layer.attention = (MIXERS | OTHERS)[mixer](WIDTH, heads)
        layer.feed_forward = NETWORKS[network]()
        for name, part in layer.named_modules():
            if isinstance(part, nn.Linear):  # what is added to the residual stream begins small beside the embedding
                nn.init.normal_(part.weight, std=0.02 if name.endswith(("output", "contract")) else WIDTH**-0.5)
    nn.init.normal_(model.embedding.weight, std=WIDTH**-0.5)
    if not positions:
        model.position = NoPosition()
    return model


HYBRIDS = {"hybrid": ["attention", "delta"], "hybrid, delta first": ["delta", "attention"]}


def in_layers(arm: str) -> list[str]:
    """The mixer of each layer."""
    return HYBRIDS.get(arm, [arm] * LAYERS)


# -- the tasks: batches(step) -> (inputs, targets), targets -100 where nothing is asked -----------------------------------


class Recall:
    """k v k v ... and then all keys again, shuffled: at each, its value is asked. Keys 0 to 63, values behind them.

    A step draws one of the numbers of pairs in `sizes`, and as many rows as `tokens` allow. With many pairs alone none of the
    arms leaves the plateau of guessing in a few hundred steps.
    """

    def __init__(self, sizes: tuple[int, ...], tokens: int, seed: int):
        self.sizes, self.tokens, self.seed = sizes, tokens, seed

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        generator = numbered_generator(self.seed, step)
        pairs = self.sizes[torch.randint(len(self.sizes), (), generator=generator)]  # P
        rows = self.tokens // (3 * pairs)  # B
        keys = torch.rand(rows, KEYS, generator=generator).argsort(-1)[:, :pairs]  # (B, P), all different
        values = KEYS + torch.randint(VALUES, (rows, pairs), generator=generator)  # (B, P)
        order = torch.rand(rows, pairs, generator=generator).argsort(-1)  # (B, P)
        shown = torch.stack([keys, values], dim=2).flatten(1)  # (B, 2 P)
        inputs = torch.cat([shown, keys.gather(1, order)], dim=1)  # (B, 3 P)
        return inputs, torch.cat([torch.full_like(shown, -100), values.gather(1, order)], dim=1)


class Parity:
    """Bits, and at each whether the number of ones so far is odd."""

    def __init__(self, length: int, batch: int, seed: int):
        self.length, self.batch, self.seed = length, batch, seed

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        bits = torch.randint(2, (self.batch, self.length), generator=numbered_generator(self.seed, step))  # (B, T)
        return bits, bits.cumsum(1) % 2


def loss(model: GPT, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Cross-entropy where a target stands; with experts, the balance beside it."""
    wrong = token_cross_entropy(model(batch[0]), batch[1], ignore=-100)
    return wrong + BALANCE * sum(balance_loss(part.last) for part in experts(model))


def experts(model: GPT) -> list[Experts]:
    return [part for part in model.modules() if isinstance(part, Experts)]


# -- a run -------------------------------------------------------------------------------------------------------------


class Run(NamedTuple):
    """One training: the task and its size (most pairs of recall; bits or characters of a row), the arm, heads, network."""

    task: str
    size: int
    arm: str
    seed: int
    heads: int = HEADS
    network: str = "dense"


STEPS = {"recall": 400, "parity": 400, "corpus": 400}
TOKENS = {"recall": 3072, "parity": 2048, "corpus": 2048}  # a step
ARMS = (*MIXERS, *HYBRIDS)


def runs() -> list[Run]:
    """Seed by seed, so that what is there at any time is whole comparisons."""
    planned = []
    for seed in SEEDS:
        planned += [Run("parity", 16, arm, seed) for arm in (*ARMS, "delta to 1", "turning state space")]
        planned += [Run("recall", PAIRS[-1], arm, seed) for arm in (*ARMS, "state space, signed keys")]
        planned += [Run("recall", PAIRS[-1], "linear", seed, heads) for heads in (4, 1)]
        planned += [Run("corpus", 128, arm, seed) for arm in (*ARMS, "state space, no decay", "state space, no state")]
        planned += [Run("corpus", 128, arm, seed)
                    for arm in ("state space, no skip", "state space, no state, no gate", "attention, gate", "attention, skip",
                                "attention, gate and skip")]
        planned += [Run("corpus", 128, "attention", seed, network=network) for network in list(NETWORKS)[1:]]
    return planned


class Corpus(NamedTuple):
    """Characters of the Bible, to train on and held out."""

    train: Tensor
    held_out: Tensor
    vocabulary: int


def corpus() -> Corpus:
    texts = ["\n\n".join(chapters) for chapters in load_bible()]
    tokenizer = CharacterTokenizer("".join(texts))
    return Corpus(*(torch.tensor(tokenizer.encode(text)) for text in texts), len(tokenizer))


def prepare(run: Run, text: Corpus | None) -> tuple[GPT, Callable[[int], tuple[Tensor, Tensor]]]:
    """The model of a run, from its seed, and its batches."""
    seed_everything(run.seed)
    tokens = {"recall": 3 * run.size, "parity": run.size, "corpus": run.size}[run.task]  # a row
    vocabulary = {"recall": KEYS + VALUES, "parity": 2, "corpus": text.vocabulary if text else 0}[run.task]
    model = new_model(in_layers(run.arm), vocabulary, tokens, heads=run.heads, network=run.network,
                      positions=run.task == "corpus")
    batch = TOKENS[run.task] // tokens
    if run.task == "corpus":
        return model, RandomWindows(text.train, tokens, batch_size=batch, seed=run.seed)
    if run.task == "recall":
        return model, Recall(tuple(pairs for pairs in PAIRS if pairs <= run.size), TOKENS["recall"], run.seed)
    return model, Parity(run.size, batch, run.seed)


def fit(run: Run, text: Corpus | None, steps: int) -> tuple[GPT, list[float]]:
    model, batches = prepare(run, text)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.95), weight_decay=0.0, fused=True)
    schedule = warmup_cosine(STEPS[run.task] // 20, STEPS[run.task])
    history = train(model, batches, loss, optimizer, steps=steps, schedule=schedule, progress=False)
    return model.eval(), history.losses


def first_losses(run: Run, text: Corpus | None = None) -> list[float]:
    return fit(run, text, FIRST)[1]


@torch.no_grad()
def scores(model: GPT, run: Run, text: Corpus | None) -> dict[str, float]:
    """Recall: the share right, by pairs. Parity: right in the last quarter of rows of 16 and 64. Corpus: bits a character."""
    if run.task == "corpus":
        return {"bits": bits_a_character(model, text.held_out, run.size)}
    if run.task == "recall":
        return {f"right of {pairs}": right(model, Recall((pairs,), TOKENS["recall"], 10_000 + run.seed), slice(None))
                for pairs in PAIRS if pairs <= run.size}
    return {f"right at {length}": right(model, Parity(length, 64, 10_000 + run.seed), slice(-length // 4, None))
            for length in (run.size, 4 * run.size)}


def right(model: GPT, batches: Callable[[int], tuple[Tensor, Tensor]], places: slice, count: int = 8) -> float:
    """The share of targets that are the model's first guess, over `count` batches that it was not trained on."""
    total = asked = 0
    for step in range(count):
        inputs, targets = batches(step)
        total += (model(inputs).argmax(-1) == targets)[:, places].sum().item()
        asked += (targets >= 0)[:, places].sum().item()
    return total / asked


def bits_a_character(model: GPT, unseen: Tensor, length: int, every: int = 8) -> float:
    """Of the second half of every eighth window of held-out text."""
    windows = unseen.unfold(0, length + 1, length // 2)[::every]  # (W, T + 1)
    half = length // 2
    nats = [F.cross_entropy(model(w[:, :-1])[:, -half:].mT, w[:, -half:], reduction="none") for w in windows.split(64)]
    return torch.cat(nats).mean().item() / math.log(2)


def multiply_adds(model: GPT, length: int) -> int:
    """Of one token in a row of `length`, by definition: each matrix once, of the experts those taken, and the mixing's core."""
    total = 0
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and ".experts." not in name:
            total += module.weight.numel()
        if isinstance(module, Experts):
            total += module.top_k * sum(p.numel() for p in module.experts[0].parameters() if p.dim() == 2)
        if isinstance(module, CausalConvolution):
            total += module.weight.numel()
        total += core(module, length)
    return total


def core(module: nn.Module, length: int) -> int:
    """Scores and averages over half of all keys; or writing and reading a state, and for the delta rule a look before."""
    if isinstance(module, MultiHeadAttention):
        return length * module.width
    if isinstance(module, LinearAttention):
        return (3 if isinstance(module, DeltaAttention) else 2) * module.head_width * module.width
    return 2 * module.state * module.inner if isinstance(module, StateSpace) else 0


def perform(run: Run, text: Corpus | None) -> dict:
    start = time.process_time()
    model, losses = fit(run, text, STEPS[run.task])
    seconds = time.process_time() - start
    found = {"steps": STEPS[run.task], "seconds": round(seconds, 1), "parameters": sum(p.numel() for p in model.parameters()),
             "multiply_adds": multiply_adds(model, model.max_length),
             "losses": [round(value, 4) for value in losses[:FIRST] + losses[FIRST + 46::50]],
             "scores": {name: round(score, 4) for name, score in scores(model, run, text).items()}}
    shares = [part.last.chosen.flatten().bincount(minlength=len(part.experts)) / part.last.chosen.numel()
              for part in experts(model)]
    return run._asdict() | found | ({"shares": [[round(s, 3) for s in each.tolist()] for each in shares]} if shares else {})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("record", type=Path, help="JSON file to write, or to go on with")
    path = parser.parse_args().record
    record = open_record(path, lambda: {
        "settings": {"width": WIDTH, "layers": LAYERS, "heads": HEADS, "hidden": HIDDEN, "rate": RATE, "balance": BALANCE,
                     "steps": STEPS, "tokens": TOKENS},
        **surroundings(), "runs": []})
    text = corpus()
    for run in missing(runs(), record):
        record["runs"].append(perform(run, text))
        write_record(path, record)
        print({k: record["runs"][-1][k] for k in ("task", "size", "arm", "seed", "heads", "network", "seconds", "scores")},
              flush=True)


if __name__ == "__main__":
    main()
