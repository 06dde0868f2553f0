"""A task to warm up on: say a random sequence backwards."""

import torch

from tutorlib.arguments import check_whole
from tutorlib.data.batches import numbered_generator
from tutorlib.data.pronunciation import Batch
from tutorlib.text.vocabulary import Vocabulary


class ReversalBatches:
    """Batches of random sequences and their reversal, as a function of the step.

    Sources (B, S) hold `length` symbols, targets (B, S + 1) begin with `begin`, labels (B, S + 1) end with `end`. All rows are
    equally long, so nothing is padded. Tokens: 0 to 2 are the marks of `Vocabulary`, symbols run from 3 to num_symbols + 2.
    Raises ValueError for less than 1 of anything.
    """

    def __init__(
        self,
        num_symbols: int = 10,
        length: int = 8,
        batch_size: int = 32,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ):
        for name, value in (("num_symbols", num_symbols), ("length", length), ("batch_size", batch_size)):
            check_whole(name, value)
        self.num_symbols, self.length, self.batch_size, self.seed, self.device = num_symbols, length, batch_size, seed, device
        self.vocabulary_size = num_symbols + 3

    def __call__(self, step: int) -> Batch:
        generator = numbered_generator(self.seed, step)
        source = torch.randint(3, self.vocabulary_size, (self.batch_size, self.length), generator=generator)  # (B, S)
        mark = source.new_ones(self.batch_size, 1)  # (B, 1)
        backwards = source.flip(1)
        target = torch.cat([Vocabulary.begin * mark, backwards], dim=1)  # (B, S + 1)
        labels = torch.cat([backwards, Vocabulary.end * mark], dim=1)  # (B, S + 1)
        return Batch(source, target, labels).to(self.device)
