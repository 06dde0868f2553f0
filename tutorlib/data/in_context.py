"""Prompts x1 y1 x2 y2 ... in which the mapping from symbols to labels is drawn anew: only the prompt says what it is."""

from typing import NamedTuple

import torch
from torch import Tensor

from tutorlib.arguments import check_whole
from tutorlib.data.batches import numbered_generator


class Prompts(NamedTuple):
    """tokens (B, 2 * pairs): symbol, label, symbol, label ...; mapping (B, num_symbols): the label token of each symbol."""

    tokens: Tensor
    mapping: Tensor


class MappingPrompts:
    """Batches of prompts as a function of the step: each prompt draws a mapping, and then a symbol for every pair.

    Tokens: symbols are 0 to num_symbols - 1, labels follow, num_symbols to num_symbols + num_labels - 1. A mapping gives each
    symbol a label; two symbols may share one. The mappings fall into two sets: where the labels' numbers, counted from 0, sum
    to a multiple of `num_labels`, the mapping is held out. That is one in `num_labels`, and `held_out` chooses the set.
    Within it all mappings are equally likely. Raises ValueError for fewer than 2 labels, or less than 1 of anything else.
    """

    def __init__(self, num_symbols: int = 4, num_labels: int = 8, pairs: int = 8, batch_size: int = 128, seed: int = 0, *,
                 held_out: bool = False, device: torch.device | str = "cpu"):
        least = {"num_symbols": (num_symbols, 1), "num_labels": (num_labels, 2), "pairs": (pairs, 1),
                 "batch_size": (batch_size, 1)}
        for name, (value, smallest) in least.items():
            check_whole(name, value, smallest)
        self.num_symbols, self.num_labels, self.pairs, self.batch_size = num_symbols, num_labels, pairs, batch_size
        self.seed, self.held_out, self.device = seed, held_out, device
        self.vocabulary_size = num_symbols + num_labels

    def __call__(self, step: int) -> Prompts:
        generator = numbered_generator(self.seed, step)
        labels = self._draw_labels(generator)  # (B, num_symbols)
        symbols = torch.randint(self.num_symbols, (self.batch_size, self.pairs), generator=generator)  # (B, pairs)
        mapping = self.num_symbols + labels
        tokens = torch.stack([symbols, mapping.gather(1, symbols)], dim=2).flatten(1)  # (B, pairs, 2) -> (B, 2 * pairs)
        return Prompts(tokens.to(self.device), mapping.to(self.device))

    def _draw_labels(self, generator: torch.Generator) -> Tensor:
        """All labels but the last are free; the last makes the sum what the set asks for."""
        free = torch.randint(self.num_labels, (self.batch_size, self.num_symbols - 1), generator=generator)
        remainder = torch.zeros(self.batch_size, 1, dtype=torch.long)  # held out: the sum is a multiple
        if not self.held_out:
            remainder = torch.randint(1, self.num_labels, (self.batch_size, 1), generator=generator)
        last = (remainder - free.sum(dim=1, keepdim=True)) % self.num_labels  # (B, 1)
        return torch.cat([free, last], dim=1)  # (B, num_symbols)


def shown_before(tokens: Tensor) -> Tensor:
    """How often each pair's symbol has stood in the prompt before: tokens (B, 2 * pairs) -> (B, pairs) counts."""
    symbols = tokens[:, ::2]  # (B, pairs)
    same = symbols[:, :, None] == symbols[:, None, :]  # (B, pairs, pairs)
    return same.tril(-1).sum(dim=2)
