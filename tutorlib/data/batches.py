"""Batches as a function of the step, which is what `training.train` asks for: shuffled examples, windows of a text."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Augment = Callable[..., Sequence[Tensor]]


class ShuffledBatches:
    """Batches of tensors that share their first dimension, shuffled anew in every epoch.

    `batches(step)` is always the same batch, so a resumed run needs no iterator's state. An epoch is cut into `len(batches)`
    batches of `batch_size`; examples left over wait for the next epoch's shuffle. `augment(*batch, generator)`, if given,
    makes a new batch of the old one with random numbers that depend on `seed` and step alone.
    Raises ValueError where the tensors disagree, or are fewer than a batch.
    """

    def __init__(self, *tensors: Tensor, batch_size: int = 64, seed: int = 0, device: torch.device | str = "cpu",
                 augment: Augment | None = None):
        sizes = [len(tensor) for tensor in tensors]
        if not sizes or len(set(sizes)) > 1:
            raise ValueError(f"tensors must share the size of their first dimension, got {sizes}")
        if not 1 <= batch_size <= sizes[0]:
            raise ValueError(f"batch_size must be from 1 to the {sizes[0]} examples, got {batch_size}")
        self.tensors, self.batch_size, self.seed, self.device, self.augment = tensors, batch_size, seed, device, augment
        self._epoch, self._order = -1, torch.empty(0)

    def __len__(self) -> int:
        """Batches in an epoch."""
        return len(self.tensors[0]) // self.batch_size

    def __call__(self, step: int) -> tuple[Tensor, ...]:
        """The batch of a step, counted from 0: tensors (batch_size, ...)."""
        epoch, place = divmod(step, len(self))
        if epoch != self._epoch:
            self._epoch, self._order = epoch, torch.randperm(len(self.tensors[0]), generator=self._generator(0, epoch))
        rows = self._order[place * self.batch_size : (place + 1) * self.batch_size]  # (batch_size,)
        batch = [tensor[rows.to(tensor.device)] for tensor in self.tensors]
        if self.augment is not None:
            batch = self.augment(*batch, self._generator(1, step))
        return tuple(tensor.to(self.device) for tensor in batch)

    def _generator(self, purpose: int, number: int) -> torch.Generator:
        """Random numbers for one epoch's shuffle (purpose 0) or one step's augmentation (1)."""
        return torch.Generator().manual_seed((self.seed * 1_000_003 + number) * 2 + purpose)  # torch keeps the lower 32 bits


class RandomWindows:
    """What a language model trains on: rows of a text that begin anywhere in it, and the same rows one token further.

    `batches(step)` is (inputs, targets), (batch_size, length) each, of tokens (N,). It depends on `seed` and the step alone.
    Raises ValueError where the text has not more than `length` tokens.
    """

    def __init__(self, tokens: Tensor, length: int, *, batch_size: int = 64, seed: int = 0,
                 device: torch.device | str = "cpu"):
        if tokens.dim() != 1 or not 1 <= length < len(tokens):
            raise ValueError(f"tokens must have the shape (N,), N more than length={length}, got {tuple(tokens.shape)}")
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        self.tokens, self.length, self.batch_size, self.seed, self.device = tokens, length, batch_size, seed, device

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        """The batch of a step, counted from 0."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + step)  # torch keeps the lower 32 bits
        starts = torch.randint(len(self.tokens) - self.length, (self.batch_size, 1), generator=generator)  # (B, 1)
        places = starts + torch.arange(self.length + 1)  # (B, T + 1)
        rows = self.tokens[places.to(self.tokens.device)].to(self.device)  # (B, T + 1)
        return rows[:, :-1], rows[:, 1:]  # (B, T) each
