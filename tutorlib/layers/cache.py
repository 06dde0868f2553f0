"""What decoding keeps between tokens: the keys and values of the positions already seen."""

import torch
from torch import Tensor

from tutorlib.arguments import check_counts


class KeyValueCache:
    """Keys and values of the positions already seen, so that a new token costs one row of attention.

    The room for `capacity` positions is taken once, at the first call, and written in place.
    """

    def __init__(self, capacity: int):
        check_counts(capacity=capacity)
        self.capacity, self.length = capacity, 0
        self.keys: Tensor | None = None  # (B, H_kv, capacity, K)
        self.values: Tensor | None = None

    def append(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Store key and value (B, H_kv, T, K) behind the cached ones; return all of them, (B, H_kv, length, K).

        Raises ValueError when they exceed the capacity, or have not the batch, heads, widths and dtype of those before.
        """
        if key.dim() != 4 or key.shape[:3] != value.shape[:3]:
            raise ValueError("key and value must have the shape (B, H_kv, T, K), both of the same batch, heads and length, "
                             f"got {tuple(key.shape)} and {tuple(value.shape)}")
        end = self.length + key.size(2)
        if end > self.capacity:
            raise ValueError(f"the cache holds {self.capacity} positions, got {end}: make it with a larger capacity")
        if self.keys is None:
            self.keys = key.new_empty(*key.shape[:2], self.capacity, key.size(3))
            self.values = value.new_empty(*value.shape[:2], self.capacity, value.size(3))
        _check_alike("key", key, self.keys, key.size(2))
        _check_alike("value", value, self.values, key.size(2))
        self.keys[:, :, self.length:end], self.values[:, :, self.length:end] = key, value
        self.length = end
        return self.keys[:, :, :end], self.values[:, :, :end]

    def shorten(self, length: int) -> None:
        """Forget all positions from number `length` on, which a guess had filled. Raises ValueError if there are fewer."""
        if not 0 <= length <= self.length:
            raise ValueError(f"length must lie in 0 to {self.length}, what the cache holds, got {length}")
        self.length = length

    def align(self, rows: Tensor, length: int, more: "KeyValueCache | None" = None) -> None:
        """Keep `rows` (N,) and of each its last `length` positions; the rows of `more` join below.

        All end at the last position. What a row lacks in front is filled with zeros, to be masked. Raises ValueError for a
        length over the capacity, or below that of `more`, which would lose its first positions.
        """
        joining = 0 if more is None else more.length
        if not joining <= length <= self.capacity:
            raise ValueError(f"length must lie in {joining} to the capacity {self.capacity}, got {length}")
        for name in ("keys", "values"):
            parts = [_last(getattr(self, name)[rows, :, :self.length], length, self.capacity)] if self.length else []
            if more is not None:
                parts.append(_last(getattr(more, name)[:, :, :joining], length, self.capacity))
            setattr(self, name, torch.cat(parts) if parts else None)  # (N + M, H_kv, capacity, K)
        self.length = length

    def reorder(self, rows: Tensor) -> None:
        """Let row i continue from what row rows[i] has seen: rows (B,) of indices. Beam search needs it."""
        if self.keys is not None:
            self.keys, self.values = self.keys[rows], self.values[rows]


class DecoderCache:
    """What one decoder layer keeps between tokens: its own keys and values, and the memory's, projected once."""

    def __init__(self, capacity: int):
        self.own = KeyValueCache(capacity)
        self.memory: tuple[Tensor, Tensor] | None = None  # (B, H, S, K) each

    def reorder(self, rows: Tensor) -> None:
        """Let row i continue from what row rows[i] has seen: rows (B,) of indices."""
        self.own.reorder(rows)
        if self.memory is not None:
            self.memory = (self.memory[0][rows], self.memory[1][rows])


class RecurrentCache:
    """What a recurrent mixing layer keeps between tokens: one state, as large after a million tokens as after one."""

    def __init__(self) -> None:
        self.length = 0
        self.state: Tensor | None = None  # (B, H, K, V)
        self.tail: Tensor | None = None  # (B, R - 1, C): the last inputs of the short convolution

    def keep(self, state: Tensor, tail: Tensor, new: int) -> None:
        """Replace what is kept by what `new` further tokens made of it."""
        self.state, self.tail, self.length = state, tail, self.length + new

    def reorder(self, rows: Tensor) -> None:
        """Let row i continue from what row rows[i] has seen: rows (B,) of indices."""
        if self.state is not None:
            self.state, self.tail = self.state[rows], self.tail[rows]


def _last(kept: Tensor, length: int, capacity: int) -> Tensor:
    """The last `length` positions of (N, H, T, K), zeros before the first, in room for `capacity`: (N, H, capacity, K)."""
    room = kept.new_zeros(*kept.shape[:2], capacity, kept.size(3))
    count = min(kept.size(2), length)
    room[:, :, length - count:length] = kept[:, :, kept.size(2) - count:]
    return room


def _check_alike(name: str, new: Tensor, kept: Tensor, length: int) -> None:
    """A tensor of another shape or dtype would be broadcast or cast on its way into the cache."""
    expected = (*kept.shape[:2], length, kept.size(3))
    if new.shape != expected or new.dtype != kept.dtype:
        raise ValueError(f"{name} must be {kept.dtype} of the shape {tuple(expected)}, as what the cache holds, "
                         f"got {new.dtype} {tuple(new.shape)}")
