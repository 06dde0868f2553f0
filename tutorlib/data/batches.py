"""Batches as a function of the step, which is what `training.train` asks for: shuffled examples, windows of a text."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from numbers import Integral

import torch
from torch import Tensor

from tutorlib.arguments import check_counts

Augment = Callable[..., Sequence[Tensor]]


def numbered_generator(seed: int, number: int) -> torch.Generator:
    """Random numbers that belong to one step or epoch of one run, whatever was drawn before.

    `number` counts from 0; `seed` is any integer, of which the lower 32 bits count, since torch keeps no more.
    Raises ValueError for anything else.
    """
    if not (isinstance(seed, Integral) and isinstance(number, Integral) and number >= 0):
        raise ValueError(f"seed must be an integer and steps or epochs count from 0, got seed {seed} and number {number}")
    return torch.Generator().manual_seed((int(seed) * 1_000_003 + int(number)) % 2**32)


class ShuffledBatches:
    """Batches of tensors that share their first dimension, shuffled anew in every epoch.

    `batches(step)` is always the same batch, so a resumed run needs no iterator's state. An epoch is cut into `len(batches)`
    batches of `batch_size`; examples left over wait for the next epoch's shuffle. `augment(*batch, generator)`, if given,
    makes a new batch, a tuple or list, of the old one with random numbers that depend on `seed` and step alone.
    Raises ValueError where the tensors disagree, or are fewer than a batch, or a step is negative.
    """

    def __init__(self, *tensors: Tensor, batch_size: int = 64, seed: int = 0, device: torch.device | str = "cpu",
                 augment: Augment | None = None):
        sizes = [len(tensor) if tensor.dim() else None for tensor in tensors]
        if len(set(sizes)) != 1 or None in sizes:
            raise ValueError(f"tensors must share the size of their first dimension, got {sizes}")
        if not (isinstance(batch_size, Integral) and 1 <= batch_size <= sizes[0]):
            raise ValueError(f"batch_size must be from 1 to the {sizes[0]} examples, got {batch_size}")
        numbered_generator(seed, 0)  # refuses what is no seed
        self.tensors, self.batch_size, self.seed, self.device, self.augment = tensors, batch_size, seed, device, augment
        self._epoch, self._order = -1, torch.empty(0)

    def __len__(self) -> int:
        """Batches in an epoch."""
        return len(self.tensors[0]) // self.batch_size

    def __call__(self, step: int) -> tuple[Tensor, ...]:
        """The batch of a step, counted from 0: tensors (batch_size, ...)."""
        if not (isinstance(step, Integral) and step >= 0):
            raise ValueError(f"step must be a whole number, counted from 0, got {step}")
        epoch, place = divmod(step, len(self))
        if epoch != self._epoch:
            generator = numbered_generator(2 * self.seed, 2 * epoch)  # even numbers shuffle, odd ones augment
            self._epoch, self._order = epoch, torch.randperm(len(self.tensors[0]), generator=generator)
        rows = self._order[place * self.batch_size : (place + 1) * self.batch_size]  # (batch_size,)
        batch = [tensor[rows.to(tensor.device)] for tensor in self.tensors]
        if self.augment is not None:
            batch = self.augment(*batch, numbered_generator(2 * self.seed, 2 * step + 1))
        if isinstance(batch, Tensor):
            raise ValueError(f"augment must return a tuple of tensors, got a tensor of shape {tuple(batch.shape)}")
        return tuple(tensor.to(self.device) for tensor in batch)


class RandomWindows:
    """What a language model trains on: rows of a text that begin anywhere in it, and the same rows one token further.

    `batches(step)` is (inputs, targets), (batch_size, length) each, of tokens (N,). It depends on `seed` and the step alone.
    Raises ValueError where the text has not more than `length` tokens, or they are no integers.
    """

    def __init__(self, tokens: Tensor, length: int, *, batch_size: int = 64, seed: int = 0,
                 device: torch.device | str = "cpu"):
        if tokens.dim() != 1 or not 1 <= length < len(tokens):
            raise ValueError(f"tokens must have the shape (N,), N more than length={length}, got {tuple(tokens.shape)}")
        if tokens.is_floating_point() or tokens.dtype == torch.bool:
            raise ValueError(f"tokens must be integers, got {tokens.dtype}")
        check_counts(length=length, batch_size=batch_size)
        numbered_generator(seed, 0)  # refuses what is no seed
        self.tokens, self.length, self.batch_size, self.seed, self.device = tokens, length, batch_size, seed, device

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        """The batch of a step, counted from 0."""
        generator = numbered_generator(self.seed, step)
        starts = torch.randint(len(self.tokens) - self.length, (self.batch_size, 1), generator=generator)  # (B, 1)
        places = starts + torch.arange(self.length + 1)  # (B, T + 1)
        rows = self.tokens[places.to(self.tokens.device)].to(self.device)  # (B, T + 1)
        return rows[:, :-1], rows[:, 1:]  # (B, T) each


class LengthBuckets:
    """Batches of examples of similar length, as a `batch_sampler` of `torch.utils.data.DataLoader`: lists of places.

    Each epoch shuffles all examples, takes them `pool` batches at a time, sorts each pool by length, cuts it into batches, and
    shuffles the batches of all pools. `pool=1` is a plain shuffle; a large pool saves the most padding and mixes the least.
    Every example comes once an epoch; the last batch may be smaller. The order depends on `seed` and the epoch, which each
    iteration begins anew: set `epoch` to repeat or resume one.
    Raises ValueError where there are no lengths, or one is no whole number, or batch_size or pool is below 1.
    """

    def __init__(self, lengths: Sequence[int] | Tensor, batch_size: int = 64, *, pool: int = 100, seed: int = 0):
        self.lengths = _as_lengths(lengths)  # (N,)
        check_counts(batch_size=batch_size, pool=pool)
        numbered_generator(seed, 0)  # refuses what is no seed
        self.batch_size, self.pool, self.seed, self.epoch = batch_size, pool, seed, 0

    def __len__(self) -> int:
        """Batches in an epoch."""
        return -(-len(self.lengths) // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        """The batches of the next epoch."""
        generator = numbered_generator(self.seed, self.epoch)
        self.epoch += 1
        batches = []
        for places in torch.randperm(len(self.lengths), generator=generator).split(self.pool * self.batch_size):
            order = places[self.lengths[places].argsort(stable=True)]  # (pool * batch_size,), the last pool less
            batches += order.split(self.batch_size)
        for place in torch.randperm(len(batches), generator=generator).tolist():
            yield batches[place].tolist()


def padding_share(lengths: Sequence[int] | Tensor, batches: Iterable[Sequence[int]]) -> float:
    """The share of places that hold padding when each batch, a list of examples, is padded to its longest. No unit, 0 to 1.

    Raises ValueError where the batches hold no place at all, or an example that is not there.
    """
    lengths = _as_lengths(lengths)  # (N,)
    real = padded = 0
    for batch in map(list, batches):
        if not batch or not 0 <= min(batch) <= max(batch) < len(lengths):
            raise ValueError(f"batches must be lists of examples from 0 to {len(lengths) - 1}, got {batch}")
        real += lengths[batch].sum().item()
        padded += len(batch) * lengths[batch].max().item()
    if not padded:
        raise ValueError("batches must hold at least one place, got none")
    return 1 - real / padded


def _as_lengths(lengths: Sequence[int] | Tensor) -> Tensor:
    lengths = torch.as_tensor(lengths)  # (N,)
    if lengths.dim() != 1 or len(lengths) == 0:
        raise ValueError(f"lengths must have the shape (N,), N at least 1, got {tuple(lengths.shape)}")
    if lengths.is_floating_point() or lengths.min() < 0:
        raise ValueError(f"lengths must be whole numbers of at least 0, got {lengths.dtype} from {lengths.min()}")
    return lengths
