"""How costs grow: of a token with what is cached, of a text with its length, of a batch, of a model with its width."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from benchmarks.attention import exponent
from benchmarks.harness import in_turn, inference, training_step
from benchmarks.language_models import LENGTH
from tutorlib.models import GPT, GPTConfig, Llama, LlamaConfig

BEHIND = 64  # tokens in the cache of each row, where the batch grows


@dataclass(frozen=True)
class Curve:
    """One cost over one size: `prepare(size)` gives a piece of work, `per(size)` the number of units in it."""

    name: str
    sizes: tuple[int, ...]
    prepare: Callable[[int], Callable[[], object]]
    per: Callable[[int], int] = lambda size: 1


def curves() -> list[Curve]:
    """Four sizes, each alone; random weights."""
    torch.manual_seed(0)
    model = Llama(LlamaConfig()).eval()
    return [Curve("a token behind n cached ones: ms a token", (64, 256, 1024, 4096), lambda n: _one_more(model, 1, n)),
            Curve("a text of n tokens read at once: ms a token", (64, 256, 1024, 4096),
                  lambda n: inference(partial(model, _tokens(1, n), last_only=True)), lambda n: n),
            Curve(f"n texts go on by a token each, {BEHIND} cached: ms a token", (1, 4, 16, 64),
                  lambda n: _one_more(model, n, BEHIND), lambda n: n),
            Curve(f"training step of width n, 6 layers, {LENGTH} tokens: ms", (96, 192, 384, 768), _step_of_width)]


def _tokens(rows: int, length: int) -> Tensor:
    return torch.randint(256, (rows, length), generator=torch.Generator().manual_seed(0))


def _one_more(model: Llama, rows: int, behind: int) -> Callable[[], object]:
    """A step of `rows` texts (R, 1), each with `behind` tokens in its cache; the cache forgets it again."""
    cache = model.new_cache(behind + 1)
    inference(partial(model, _tokens(rows, behind), cache, last_only=True))()
    token = _tokens(rows, 1)

    def run() -> None:
        for layer in cache:
            layer.shorten(behind)
        model(token, cache)
    return inference(run)


def _step_of_width(width: int) -> Callable[[], object]:
    model = GPT(GPTConfig(vocabulary=256, max_length=LENGTH, width=width, num_heads=width // 32, num_layers=6))
    tokens = _tokens(1, LENGTH)
    return training_step(partial(model, tokens), model)


def measure(rounds: int, clock: Callable[[], float] = time.process_time) -> list[tuple[Curve, list[float]]]:
    """The median seconds a unit at each size of each curve; the sizes of a curve run in turn."""
    found = []
    for curve in curves():
        times = in_turn([curve.prepare(size) for size in curve.sizes], rounds, clock)
        found.append((curve, [statistics.median(own) / curve.per(size) for own, size in zip(times, curve.sizes, strict=True)]))
    return found


def table(found: list[tuple[Curve, list[float]]], setting: str) -> str:
    """The section of the page."""
    lines = ["## Growth: tokens, context, batch, width", "",
             "tutorlib, float32, random weights: Llama in the shape of SmolLM2-135M, and in the last row a GPT, batch 1. The "
             "exponent is fitted over the sizes: 0 is a cost that does not grow, 1 one that grows with the size, 2 with its "
             f"square. {setting}", "",
             "| cost | n | ms | exponent |", "|---|---|---|---|"]
    for curve, seconds in found:
        sizes, values = (f"{size:,}" for size in curve.sizes), (f"{float(f'{1000 * value:.3g}'):,g}" for value in seconds)
        lines.append(f"| {curve.name} | {', '.join(sizes)} | {', '.join(values)} | {exponent(curve.sizes, seconds):.2f} |")
    return "\n".join(lines) + "\n"
