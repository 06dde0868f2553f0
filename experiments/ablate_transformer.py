"""Train the Transformer of the chapter with one part taken away, and stacks of growing depth with the norm in either place.

    python experiments/ablate_transformer.py experiments/records/ablate_transformer.json --seeds 0 1 2

writes eight lists. `parts`: loss and share of answers with an error, on held-out reversals for each variant of `VARIANTS`, and
on held-out words for those of `ON_WORDS`, for each seed. `depth`: the training loss, first and last, on mirrored labels, for
each depth, norm and warm-up. Nothing else differs between two rows of a list; the rate was chosen for the whole model alone.
`copy`: how much of a gradient is still a copy of what entered, in the untrained stacks.
`apart`: how far the tokens of one sequence still differ on top of twelve layers after twenty steps.
`followed`: the same through 300 steps, beside how far all tokens of a batch differ.
`spoiled`: the losses with the warm-up, after twenty steps at the full rate.
`rates`: what other learning rates change, for some rows of either list. `long`: words and twelve layers of post-norm with five
times the steps.
"""

import argparse
import json
import math
import platform
from collections.abc import Callable
from itertools import product
from pathlib import Path

import torch
from torch import Tensor, nn

from tutorlib.data.pronunciation import LETTERS, SOUNDS, EqualLengthBatches, collate, load_pronunciations
from tutorlib.data.reversal import ReversalBatches
from tutorlib.device import seed_everything
from tutorlib.generation import generate
from tutorlib.layers import Encoder, LayerNorm, SinusoidalPosition, encoder_layer
from tutorlib.models.transformer import Transformer, TransformerConfig
from tutorlib.training import token_cross_entropy, train, warmup_linear

# What each variant does otherwise than the whole model: pre-norm, two encoder and two decoder layers, warm-up over a tenth.
VARIANTS = {
    "whole": {},
    "no position": {"position": "none"},
    "no residual": {"residual": False},
    "no feed-forward": {"feed_forward": False},
    "no feed-forward, 3 + 3 layers": {"feed_forward": False, "layers": 3},  # nearly the parameters of the whole model
    "no residual, no feed-forward": {"residual": False, "feed_forward": False},
    "no norm": {"norm": None, "last": ()},
    "last norms only": {"norm": None},
    "no last norm": {"last": ()},
    "no last norm on the encoder": {"last": ("decoder",)},
    "no last norm on the decoder": {"last": ("encoder",)},
    "post-norm": {"norm": "post"},
    "no warm-up": {"warmup": False},
    "post-norm, no warm-up": {"norm": "post", "warmup": False},
}
NORMS_ON_WORDS = ("whole", "no norm", "last norms only", "no last norm", "no last norm on the encoder",
                  "no last norm on the decoder")
ON_WORDS = (*NORMS_ON_WORDS, "no feed-forward", "no feed-forward, 3 + 3 layers")
DEPTHS = (2, 6, 12)
# What is trained at other learning rates, too: on words around 0.004, on reversals and in twelve layers around 0.003.
AT_RATES = {"words": (ON_WORDS, (2e-3, 8e-3)), "reversal": (("no residual",), (3e-4, 1e-3, 1e-2))}
DEPTH_RATES = (3e-4, 1e-3)
STACKS_AT_RATES = (("post", 1), ("post", 100), ("none", 1), ("pre", 1), ("last", 1), ("scaled", 1), ("restored", 1),
                   ("post, small", 1), ("post, scaled", 1))
LONG = 2000  # steps, of NORMS_ON_WORDS
LONG_STACK, LONG_WARMUPS = 1500, (1, 100, 500)  # twelve layers of post-norm, at the rates of DEPTH_RATES
# The norm of a stack: behind each sum, before each branch, nowhere, on top alone, nowhere but branches that start small, before
# each branch but with derivatives as if it had not divided, behind each sum with PyTorch's smaller weights in the layers,
# behind each sum with branches that start small, and behind each sum but with the branches' derivatives divided as in pre-norm.
NORMS = ("post", "pre", "none", "last", "scaled", "restored", "post, small", "post, scaled", "post, divided")
STACKS = [(norm, warmup) for norm in NORMS for warmup in (1, 100)]  # without or with a warm-up
# Twelve layers of post-norm with the derivatives of the branches divided otherwise: all by one number, by the roots in reverse
# order, or those of branch and straight line alike, which makes what arrives as small and leaves its share.
DIVIDED = ("post, by 1.5", "post, by 2", "post, by 3", "post, by 5", "post, reversed", "post, all by 1.2")
FOLLOWED = (("pre", 1), ("post", 100), ("post, divided", 100))
SPOILED = ("post, divided", "pre")  # what learns with a warm-up, and does it still after twenty steps at the full rate?


class Ablated(Transformer):
    """A Transformer whose sublayers are combined by a rule that may lack the sum, the norm or the feed-forward network."""

    def __init__(self, config: TransformerConfig, residual: bool = True, norm: str | None = "pre", feed_forward: bool = True,
                 last: tuple[str, ...] = ("encoder", "decoder")):
        super().__init__(config)
        self.residual, self.norm, self.keeps_feed_forward = residual, norm, feed_forward
        for stack in {"encoder", "decoder"} - set(last):
            getattr(self.layers, stack).final_norm = None
        for layer in (*self.layers.encoder.layers, *self.layers.decoder.layers):
            layer.forward = self._decoder_layer(layer) if hasattr(layer, "cross_attention") else self._encoder_layer(layer)
            if not feed_forward:
                layer.feed_forward = layer.feed_forward_norm = nn.Identity()  # so that no weights are counted
            if norm is None:
                for name in [name for name, _ in layer.named_children() if name.endswith("norm")]:
                    setattr(layer, name, nn.Identity())

    def rule(self, x: Tensor, sublayer: Callable[[Tensor], Tensor], norm: nn.Module) -> Tensor:
        """One sublayer on (B, T, D), as the variant combines it."""
        y = sublayer(x if self.norm == "post" else norm(x))  # (B, T, D)
        y = x + y if self.residual else y
        return norm(y) if self.norm == "post" else y

    def _encoder_layer(self, layer: nn.Module) -> Callable[..., Tensor]:
        def forward(x: Tensor, mask=None, **masks) -> Tensor:
            return self._work(layer, self.rule(x, layer.attention, layer.attention_norm))
        return forward

    def _decoder_layer(self, layer: nn.Module) -> Callable[..., Tensor]:
        def forward(y: Tensor, memory: Tensor, mask=None, **masks) -> Tensor:
            y = self.rule(y, lambda q: layer.attention(q, causal=True), layer.attention_norm)
            y = self.rule(y, lambda q: layer.cross_attention(q, memory), layer.cross_attention_norm)
            return self._work(layer, y)
        return forward

    def _work(self, layer: nn.Module, x: Tensor) -> Tensor:
        return self.rule(x, layer.feed_forward, layer.feed_forward_norm) if self.keeps_feed_forward else x


def main() -> None:
    options = arguments()
    torch.set_num_threads(1)
    settings = {"seeds": options.seeds, "tasks": options.tasks, "steps on words": options.steps}
    settings |= {"torch": torch.__version__, "machine": platform.machine(), "device": "cpu, one thread"}
    parts = ("parts", "copy", "apart", "followed", "spoiled", "depth", "rates", "long")
    record = {"settings": settings, **{part: [] for part in parts}}

    def add(part: str, **run) -> None:
        record[part].append(run)
        print(run, flush=True)

    tasks = {name: Reversal() if name == "reversal" else Words(options.steps) for name in options.tasks}
    longer = Words(LONG) if "words" in tasks else None
    for seed in options.seeds:
        for depth, norm in product(options.depths, NORMS):
            add("copy", depth=depth, norm=norm, seed=seed, cosine=copy_kept(depth, norm, seed))
        for depth, (norm, warmup) in product(options.depths, STACKS):
            add("depth", depth=depth, norm=norm, warmup=warmup, seed=seed, **mirror_losses(depth, norm, warmup, seed))
        for norm, warmup in STACKS if 12 in options.depths else ():
            add("apart", norm=norm, warmup=warmup, seed=seed, **kept_apart(norm, warmup, seed))
        for norm, warmup in FOLLOWED if 12 in options.depths else ():
            add("followed", norm=norm, warmup=warmup, seed=seed, **followed(norm, warmup, seed))
        for norm in SPOILED if 12 in options.depths else ():
            add("spoiled", norm=norm, seed=seed, **mirror_losses(12, norm, 100, seed, before=20))
        for norm in DIVIDED if 12 in options.depths else ():
            add("copy", depth=12, norm=norm, seed=seed, cosine=copy_kept(12, norm, seed))
            add("depth", depth=12, norm=norm, warmup=100, seed=seed, **mirror_losses(12, norm, 100, seed))
        for task, run in tasks.items():
            for name in VARIANTS if task == "reversal" else ON_WORDS:
                add("parts", task=task, variant=name, seed=seed, **run(seed, **VARIANTS[name]))
            for name, rate in product(*AT_RATES[task]):
                add("rates", task=task, variant=name, rate=rate, seed=seed, **run(seed, rate=rate, **VARIANTS[name]))
        for name in NORMS_ON_WORDS if longer else ():
            add("long", task="words", variant=name, steps=LONG, seed=seed, **longer(seed, **VARIANTS[name]))
        for (norm, warmup), rate in product(STACKS_AT_RATES, DEPTH_RATES) if 12 in options.depths else ():
            add("rates", task="depth", depth=12, norm=norm, warmup=warmup, rate=rate, seed=seed,
                **mirror_losses(12, norm, warmup, seed, rate))
        for warmup, rate in product(LONG_WARMUPS, DEPTH_RATES) if 12 in options.depths else ():
            add("long", task="depth", depth=12, norm="post", warmup=warmup, rate=rate, steps=LONG_STACK, seed=seed,
                **mirror_losses(12, "post", warmup, seed, rate, LONG_STACK))
        options.results.write_text(json.dumps(record, indent=1) + "\n")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="JSON file to write")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="one run a seed (default: 0 1 2)")
    tasks = ["reversal", "words"]
    parser.add_argument("--tasks", nargs="*", default=tasks, choices=tasks, help="default: both")
    parser.add_argument("--depths", type=int, nargs="*", default=DEPTHS, help="depths of the stacks (default: 2 6 12)")
    parser.add_argument("--steps", type=int, default=400, help="steps of training on words (default: %(default)s)")
    return parser.parse_args()


class Task:
    """Trains a variant on batches and judges it on held-out ones; `padding` is the label that the loss ignores."""

    padding: int | None = None

    def __call__(self, seed: int, warmup: bool = True, layers: int = 2, position: str = "sinusoidal",
                 rate: float | None = None, **choices) -> dict:
        seed_everything(seed)
        config = TransformerConfig(*self.sizes, num_encoder_layers=layers, num_decoder_layers=layers, hidden=2 * self.sizes[2],
                                   max_length=64, dropout=0.0, norm_first=choices.get("norm") != "post",
                                   position=position)
        model = Ablated(config, **choices)
        adam = torch.optim.AdamW(model.parameters(), lr=rate or self.rate, betas=(0.9, 0.98))
        train(model, self.batches(seed), self.loss, adam, steps=self.steps,
              schedule=warmup_linear(self.steps // 10 if warmup else 0, self.steps), progress=False)
        count = sum(weights.numel() for weights in model.parameters())
        return {"parameters": count, **self.judge(model.eval())}

    def loss(self, model: nn.Module, batch) -> Tensor:
        ignore = {} if self.padding is None else {"ignore": self.padding}
        return token_cross_entropy(model(batch.source, batch.target), batch.labels, **ignore)

    @torch.no_grad()
    def judge(self, model: Transformer) -> dict:
        """Mean loss a token, in nats, and share of greedy answers with any error, over the held-out batches."""
        total = tokens = wrong = answers = 0
        for batch in self.held_out:
            count = (batch.labels != SOUNDS.pad).sum().item() if self.padding is not None else batch.labels.numel()
            total, tokens = total + count * self.loss(model, batch).item(), tokens + count
            begin = batch.target[:, :1]  # (B, 1)
            said = generate(model.condition(batch.source), begin, batch.labels.size(1), temperature=0, eos=SOUNDS.end,
                            use_cache=False)[:, 1:]  # (B, T) or shorter
            for row, label in zip(said.tolist(), batch.labels.tolist(), strict=True):
                wrong += until_end(row) != until_end(label)
            answers += len(batch.labels)
        return {"loss": round(total / tokens, 4), "wrong": round(wrong / answers, 4), "answers": answers}


def until_end(tokens: list[int]) -> list[int]:
    return tokens[:tokens.index(SOUNDS.end) + 1] if SOUNDS.end in tokens else [*tokens, -1]  # never ended


class Reversal(Task):
    """Six random symbols, to be written backwards."""

    sizes, rate, steps = (13, 13, 48, 4), 3e-3, 280

    def __init__(self):
        self.held_out = [ReversalBatches(length=6, batch_size=500, seed=99)(0)]

    def batches(self, seed: int) -> ReversalBatches:
        return ReversalBatches(length=6, seed=seed)


class Words(Task):
    """English words, to be pronounced. Judged on one validation word in four."""

    sizes, rate, padding = (len(LETTERS), len(SOUNDS), 96, 4), 4e-3, SOUNDS.pad

    def __init__(self, steps: int):
        self.steps, splits = steps, load_pronunciations()
        self.train, held_out = splits.train, splits.valid[::4]
        by_length: dict[int, list] = {}
        for entry in held_out:
            by_length.setdefault(len(entry.word), []).append(entry)
        self.held_out = [collate(entries) for _, entries in sorted(by_length.items())]

    def batches(self, seed: int) -> EqualLengthBatches:
        return EqualLengthBatches(self.train, batch_size=64, seed=seed)


def size_restored(layer: nn.Module) -> Callable[..., Tensor]:
    """Pre-norm, with the derivative of each branch multiplied by the size that its norm has divided by."""
    def add(x: Tensor, branch: nn.Module, norm: nn.Module) -> Tensor:
        y, size = branch(norm(x)), x.detach().square().mean(-1, keepdim=True).sqrt()  # (B, T, D), (B, T, 1)
        return x + y.detach() + size * (y - y.detach())

    def forward(x: Tensor, mask=None, **masks) -> Tensor:
        return add(add(x, layer.attention, layer.attention_norm), layer.feed_forward, layer.feed_forward_norm)
    return forward


def size_divided(layer: nn.Module, divisors: tuple[float, float], line: float = 1.0) -> Callable[..., Tensor]:
    """Post-norm, with the derivatives of the layer's two branches divided by a number each, and those of the sums by `line`."""
    def scaled(x: Tensor, factor: float) -> Tensor:
        return x.detach() + (x - x.detach()) * factor  # x, with that many times its derivative

    def forward(x: Tensor, mask=None, **masks) -> Tensor:
        for branch, norm, divisor in zip((layer.attention, layer.feed_forward), (layer.attention_norm, layer.feed_forward_norm),
                                         divisors, strict=True):
            x = norm(scaled(x + scaled(branch(x), 1 / divisor), 1 / line))  # (B, T, D)
        return x
    return forward


def divisors(norm: str, branches: int) -> list[float]:
    """By what the derivative of each branch is divided: the root of its number, in either order, or one number."""
    roots = [math.sqrt(number) for number in range(1, branches + 1)]  # the sizes of pre-norm, if every branch adds its input's
    if norm == "post, divided":
        return roots
    return roots[::-1] if norm == "post, reversed" else [float(norm.removeprefix("post, by "))] * branches


def mirror_losses(depth: int, norm: str, warmup: int, seed: int, rate: float = 3e-3, steps: int = 300, before: int = 0,
                  ) -> dict[str, float]:
    """Loss of the first batch, and mean of the last thirty, of a stack that labels eight places with the mirrored symbol.

    It has taken so many steps `before`, at the full rate, with another Adam.
    """
    model = mirror_model(depth, norm, seed)
    batches = ReversalBatches(length=8, batch_size=16, seed=seed)

    first = round(mirror_loss(model, batches(0)).item(), 4)
    if before:
        train(model, batches, mirror_loss, torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.98)), steps=before,
              progress=False)
    adam = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.98))
    try:
        losses = train(model, batches, mirror_loss, adam, steps=steps, progress=False,
                       schedule=lambda step: min(1.0, (step + 1) / warmup)).losses
    except FloatingPointError:  # the gradient overflows
        return {"first": first, "loss": math.inf}
    return {"first": first, "loss": round(sum(losses[-30:]) / 30, 4)}


def mirror_loss(model: nn.Module, batch) -> Tensor:
    return token_cross_entropy(model(batch.source), batch.source.flip(1))


def mirror_model(depth: int, norm: str, seed: int) -> nn.Sequential:
    """Embedding, position code, a stack of layers of width 32, and a linear map to the tokens; all matrices after Glorot."""
    seed_everything(seed)
    layers = [encoder_layer(32, 2, 64, norm_first=not norm.startswith("post")) for _ in range(depth)]
    for layer in layers if norm in ("none", "last", "scaled") else ():
        layer.attention_norm = layer.feed_forward_norm = nn.Identity()
    for layer in layers if norm == "restored" else ():
        layer.forward = size_restored(layer)
    if norm.startswith("post, all by "):
        for layer in layers:
            layer.forward = size_divided(layer, (1.0, 1.0), float(norm.removeprefix("post, all by ")))
    elif norm in ("post, divided", *DIVIDED):
        by = divisors(norm, 2 * depth)
        for layer, pair in zip(layers, zip(by[::2], by[1::2], strict=True), strict=True):
            layer.forward = size_divided(layer, pair)
    stack = Encoder(layers, LayerNorm(32) if norm in ("pre", "last", "restored") else None)
    model = nn.Sequential(nn.Embedding(13, 32), SinusoidalPosition(32), stack, nn.Linear(32, 13))
    kept = set(stack.parameters()) if norm == "post, small" else set()
    for weight in filter(lambda weight: weight.dim() > 1 and weight not in kept, model.parameters()):
        nn.init.xavier_uniform_(weight)
    for layer in layers if norm.endswith("scaled") else ():
        for last in (layer.attention.output, layer.feed_forward.contract):
            last.weight.data /= math.sqrt(2 * depth)  # the sum of all branches is then of the size of one
    return model


def kept_apart(norm: str, warmup: int, seed: int, depth: int = 12, steps: int = 20, rate: float = 3e-3) -> dict[str, float]:
    """How far the tokens of one sequence differ on top of a stack, before and after some steps of training: the part of their
    mean square that is variance between the tokens of a sequence. `line`: what of it the straight line alone would leave,
    before and after; `sums`: the geometric mean of the mean squares behind the sums, before and after (post-norm)."""
    model = mirror_model(depth, norm, seed)
    batches = ReversalBatches(length=8, batch_size=16, seed=seed)
    adam = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.98))

    @torch.no_grad()
    def climb() -> tuple[float, float, float]:
        model.double()  # what is left may be smaller than the rounding of float32
        x, sizes, post = model[:2](batches(5000).source), [], norm.startswith("post")  # (B, T, D)
        at_bottom = variance(x)
        for layer in model[2].layers:
            for branch, one in ((layer.attention, layer.attention_norm), (layer.feed_forward, layer.feed_forward_norm)):
                x = x + branch(x if post else one(x))
                sizes.append(mean_square(x))
                x = one(x) if post else x
        model.float()
        divided = math.prod(sizes) if post else sizes[-1]
        return variance(x) / mean_square(x), at_bottom / divided, math.prod(sizes) ** (1 / len(sizes)) if post else 0.0

    before, first, small = climb()
    train(model, batches, mirror_loss, adam, steps=steps, clip_norm=None, progress=False,
          schedule=lambda step: min(1.0, (step + 1) / warmup))
    after, line, large = climb()
    return {"before": three_digits(before), "after": three_digits(after), "lines": [three_digits(first), three_digits(line)],
            "sums": [three_digits(small), three_digits(large)]}


def followed(norm: str, warmup: int, seed: int, depth: int = 12, steps: int = 300, every: int = 10) -> dict[str, list[float]]:
    """How far tokens differ on top of a stack through a run of `mirror_losses`: those of one sequence, and all of a batch."""
    model = mirror_model(depth, norm, seed)
    batches = ReversalBatches(length=8, batch_size=16, seed=seed)
    adam = torch.optim.AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.98))
    found = {"every": every, "apart": [], "in the batch": []}

    @torch.no_grad()
    def measure(model: nn.Module) -> None:
        x = model.double()[:3](batches(5000).source)  # (B, T, D)
        model.float()
        found["apart"].append(three_digits(variance(x) / mean_square(x)))
        found["in the batch"].append(three_digits(variance(x.flatten(0, 1)[None]) / mean_square(x)))

    measure(model)
    train(model, batches, mirror_loss, adam, steps=steps, progress=False, evaluate=measure, evaluate_every=every,
          schedule=lambda step: min(1.0, (step + 1) / warmup))
    return found


def mean_square(x: Tensor) -> float:
    return x.double().square().mean().item()


def variance(x: Tensor) -> float:
    """Variance of each feature between the tokens of a sequence of (B, T, D), the mean over features and sequences."""
    return x.double().var(1, correction=0).mean().item()


def three_digits(value: float) -> float:
    return float(f"{value:.2e}")


def copy_kept(depth: int, norm: str, seed: int) -> float:
    """Cosine of a random gradient sent into the top of the untrained layers with what arrives at the bottom."""
    layers = mirror_model(depth, norm, seed)[2].layers
    x = bottom = torch.randn(16, 8, 32).requires_grad_()  # (B, T, D)
    sent = torch.randn_like(bottom)
    for layer in layers:
        x = layer(x)  # (B, T, D)
    (arrived,) = torch.autograd.grad(x, bottom, sent)
    return round(torch.cosine_similarity(sent.flatten(), arrived.flatten(), dim=0).item(), 4)


if __name__ == "__main__":
    main()
