"""What counting alone achieves on pronunciation: the two baselines that a model has to beat."""

from collections import Counter, defaultdict
from collections.abc import Mapping

import numpy as np

from tutorlib.arguments import check_whole
from tutorlib.baselines.alignment import Piece, check_word

RADIX = 27  # a to z are 1 to 26; 0 stands for what is before and after the word


class LetterBaseline:
    """Every letter is said always alike, whatever stands beside it: as it is said most often. 'e' comes out silent.

    A letter that no alignment holds is silent too. Raises ValueError where there are no alignments, and for a word that is not
    written with the letters a to z.
    """

    def __init__(self, alignments: Mapping[str, tuple[Piece, ...]]):
        _check_alignments(alignments)
        counts: dict[str, Counter] = defaultdict(Counter)
        for word, pieces in alignments.items():
            for letter, piece in zip(word, pieces, strict=True):
                counts[letter][piece] += 1
        # Of equally common pieces the first by alphabet, so that the order of the words cannot matter.
        self.piece = {letter: min(c, key=lambda piece: (-c[piece], piece)) for letter, c in counts.items()}

    def __call__(self, word: str) -> tuple[str, ...]:
        """The word's phonemes."""
        check_word(word)
        return sum((self.piece.get(letter, ()) for letter in word), ())


class WindowBaseline:
    """A letter is said as it most often was between the same neighbors: up to `reach` to the left, as many to the right.

    Where that window never occurred in training, the next narrower one of `windows` decides (back-off). Raises ValueError as
    `LetterBaseline` does, and for a reach over 6, whose windows no int64 can number.
    """

    def __init__(self, alignments: Mapping[str, tuple[Piece, ...]], reach: int = 3):
        _check_alignments(alignments)
        check_whole("reach", reach, least=0)
        if reach > 6:
            raise ValueError(f"reach must be at most 6, got {reach}")
        self.reach, self.windows = reach, windows(reach)
        self.pieces = sorted({piece for pieces in alignments.values() for piece in pieces})
        number = {piece: index for index, piece in enumerate(self.pieces)}
        said = np.array([number[piece] for pieces in alignments.values() for piece in pieces])  # (N,) over all letters
        around = np.concatenate([_neighbors(word, reach) for word in alignments])  # (N, 2 reach + 1)
        self.tables = [_most_frequent(_codes(around, window), said, len(self.pieces)) for window in self.windows]

    def __call__(self, word: str) -> tuple[str, ...]:
        """The word's phonemes."""
        check_word(word)
        around = _neighbors(word, self.reach)  # (n, 2 reach + 1)
        said = np.full(len(word), -1)
        for window, (codes, pieces) in zip(reversed(self.windows), reversed(self.tables), strict=True):
            wanted = _codes(around, window)  # (n,)
            place = np.minimum(np.searchsorted(codes, wanted), len(codes) - 1)  # (n,)
            said = np.where(codes[place] == wanted, pieces[place], said)  # a wider window overrules a narrower one
        return sum((self.pieces[number] for number in said if number >= 0), ())


def windows(reach: int) -> list[tuple[int, int]]:
    """From wide to narrow, as (letters to the left, letters to the right): both reach as far, or one a letter less."""
    sides = [pair for far in range(reach, 0, -1) for pair in ((far, far), (far - 1, far), (far, far - 1))]
    return [*sides, (0, 0)]


def _check_alignments(alignments: Mapping[str, tuple[Piece, ...]]) -> None:
    if not alignments:
        raise ValueError("alignments must hold at least one word, got none")
    for word, pieces in alignments.items():
        check_word(word)
        if len(pieces) != len(word):
            raise ValueError(f"alignments: {word!r} must have a piece for each of its {len(word)} letters, got {len(pieces)}")


def _neighbors(word: str, reach: int) -> np.ndarray:
    """Each letter with `reach` on either side, as numbers: (n, 2 reach + 1)."""
    letters = np.frombuffer(word.encode("ascii"), dtype=np.uint8).astype(np.int64) - (ord("a") - 1)
    return np.lib.stride_tricks.sliding_window_view(np.pad(letters, reach), 2 * reach + 1)


def _codes(around: np.ndarray, window: tuple[int, int]) -> np.ndarray:
    """The letters of a window as one number each: (N, 2 reach + 1) -> (N,), at most 27^13, which an int64 holds."""
    left, right = window
    reach = around.shape[1] // 2
    inside = around[:, reach - left : reach + right + 1]  # (N, left + 1 + right)
    return inside @ RADIX ** np.arange(left + 1 + right)


def _most_frequent(codes: np.ndarray, said: np.ndarray, num_pieces: int) -> tuple[np.ndarray, np.ndarray]:
    """The distinct codes, ascending, and the piece that each was said with most often (of equals the first by alphabet)."""
    pairs, counts = np.unique(codes * num_pieces + said, return_counts=True)  # every (code, piece) that occurs
    codes, pieces = np.divmod(pairs, num_pieces)
    order = np.lexsort((pieces, -counts, codes))  # by code, then the most frequent first
    codes, first = np.unique(codes[order], return_index=True)
    return codes, pieces[order][first]
