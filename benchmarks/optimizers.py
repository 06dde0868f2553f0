"""One optimizer step against `torch.optim` in its three forms, on the parameters of a small GPT and of ResNet-18."""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from benchmarks.harness import Variant
from tutorlib.models import ResNet
from tutorlib.training.optimizers import SGD, Adam, AdamW

METHODS = {"SGD": (partial(SGD, momentum=0.9), partial(torch.optim.SGD, momentum=0.9)),
           "Adam": (Adam, torch.optim.Adam),
           "AdamW": (AdamW, torch.optim.AdamW)}


def gpt(width: int = 256, layers: int = 6, vocabulary: int = 4096, length: int = 256) -> list[tuple[int, ...]]:
    """The shapes of a decoder-only Transformer's parameters: 5.9 million numbers in 76 tensors."""
    layer = [(width,), (width,), (3 * width, width), (3 * width,), (width, width), (width,),
             (width,), (width,), (4 * width, width), (4 * width,), (width, 4 * width), (width,)]
    return [(vocabulary, width), (length, width), *(layers * layer), (width,), (width,)]


def resnet18() -> list[tuple[int, ...]]:
    """The shapes of ResNet-18's parameters: 11.7 million numbers in 62 tensors."""
    with torch.device("meta"):
        return [tuple(parameter.shape) for parameter in ResNet().parameters()]


def caption(shapes: list[tuple[int, ...]]) -> str:
    """What is stepped, in a sentence."""
    return f"One step on {sum(map(math.prod, shapes)):,} parameters in {len(shapes)} tensors, float32."


def step(method: str, shapes: list[tuple[int, ...]]) -> list[Variant]:
    """One step with gradients that stay: torch's foreach, its fused kernel, its plain loop, and ours."""
    ours, theirs = METHODS[method]
    return [Variant(f"torch.optim.{method}, foreach", _stepper(partial(theirs, foreach=True), shapes)),
            Variant(f"torch.optim.{method}, fused", _stepper(partial(theirs, fused=True), shapes)),
            Variant(f"torch.optim.{method}, plain loop", _stepper(partial(theirs, foreach=False), shapes)),
            Variant(f"tutorlib, {method}", _stepper(ours, shapes))]


def _stepper(make: Callable[..., Optimizer], shapes: list[tuple[int, ...]]) -> Callable[[], Tensor]:
    """A function that takes a step and returns the largest parameter, which starts about as small as a step."""
    generator = torch.Generator().manual_seed(0)
    parameters = [nn.Parameter(1e-3 * torch.randn(shape, generator=generator)) for shape in shapes]
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    optimizer = make(parameters, lr=1e-3)
    largest = max(parameters, key=Tensor.numel)

    def run() -> Tensor:
        optimizer.step()
        return largest

    return run
