"""Symbols to numbers and back, with the three marks that every sequence model needs."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from tutorlib.arguments import whole_numbers


class Vocabulary:
    """A fixed list of symbols, numbered from 3; 0 is padding, 1 begins and 2 ends a sequence.

    Raises ValueError for a symbol that occurs twice or is unknown, and for an id that is no whole number or out of range.
    """

    pad, begin, end = 0, 1, 2

    def __init__(self, symbols: Iterable[str]):
        self.symbols = ("<pad>", "<begin>", "<end>", *symbols)
        self._ids = {symbol: number for number, symbol in enumerate(self.symbols)}
        if len(self._ids) != len(self.symbols):
            raise ValueError(f"symbols: a symbol occurs twice in {self.symbols[3:]}; each must occur once")

    def __len__(self) -> int:
        return len(self.symbols)

    def encode(self, sequence: Iterable[str]) -> list[int]:
        """Ids of the symbols, without any mark."""
        try:
            return [self._ids[symbol] for symbol in sequence]
        except KeyError as error:
            raise ValueError(f"sequence: unknown symbol {error.args[0]!r}; known are {self.symbols[3:]}") from None

    def decode(self, ids: Iterable[int] | Tensor) -> tuple[str, ...]:
        """Symbols up to the first end mark; begin and padding marks are left out."""
        symbols = []
        for number in whole_numbers("ids", ids):
            if not 0 <= number < len(self):
                raise ValueError(f"ids: {number} is out of range; expected 0 to {len(self) - 1}")
            if number == self.end:
                break
            if number not in (self.pad, self.begin):
                symbols.append(self.symbols[number])
        return tuple(symbols)


def pad_right(rows: Sequence[Sequence[int]], pad: int = Vocabulary.pad) -> Tensor:
    """Rows of ids as one tensor (B, longest) of int64, short rows filled with `pad` at the right.

    Raises ValueError where there are no rows, and for an id that is no whole number.
    """
    if not len(rows):
        raise ValueError("rows must be at least one, got none")
    rows = [whole_numbers("rows", row) for row in rows]
    longest = max(map(len, rows))
    return torch.tensor([row + [pad] * (longest - len(row)) for row in rows], dtype=torch.int64)  # (B, longest)
