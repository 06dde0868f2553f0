"""A running average of the weights of a model in training (Polyak & Juditsky 1992): the same model, less shaken."""

import copy

import torch
from torch import nn


class MovingAverage:
    """`average.model` is a copy of a model whose weights follow it: after each step, w ← decay · w + (1 - decay) · model's.

    At the start the decay is (1 + n) / (10 + n) after n steps, where that is less, so that the first weights are soon
    forgotten. Buffers and whole numbers are copied. Raises ValueError for a decay outside [0, 1).
    """

    def __init__(self, model: nn.Module, decay: float = 0.999):
        if not 0 <= decay < 1:
            raise ValueError(f"decay must lie in [0, 1), got {decay}")
        self.model, self.decay, self.steps = copy.deepcopy(model).eval().requires_grad_(False), decay, 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Follow the model by one step."""
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        for kept, new in zip(self.model.parameters(), model.parameters(), strict=True):
            kept.lerp_(new, 1 - decay)
        for kept, new in zip(self.model.buffers(), model.buffers(), strict=True):
            kept.copy_(new)
        self.steps += 1
