"""Which letter says which phonemes: an alignment learned from word-pronunciation pairs alone.

Every letter says no phoneme, one or two ('x' is K S). The probability of a pronunciation is the sum over all ways to cut it
into such pieces, and expectation maximization finds P(piece | letter) (Dempster, Laird and Rubin, 1977). Words with n letters
and m phonemes are worked on together, as arrays: N words, n letters, m phonemes.
"""

import re
from collections.abc import Sequence

import numpy as np

from tutorlib.arguments import check_whole
from tutorlib.data.pronunciation import PHONEMES, Entry

Piece = tuple[str, ...]
LONGEST = 2  # phonemes that one letter may say
P = len(PHONEMES)
NUM_PIECES = 1 + P + P * P  # numbers of pieces: 0 is silence, then the single phonemes, then the pairs
_NUMBER = {phoneme: number for number, phoneme in enumerate(PHONEMES)}


def align(entries: Sequence[Entry], rounds: int = 6) -> dict[str, tuple[Piece, ...]]:
    """The most probable piece of pronunciation for each letter of each word, {word: one piece a letter}.

    A word said with more than two phonemes a letter (an abbreviation, as a rule) cannot be aligned and is left out.
    Raises ValueError for a negative number of rounds, and for anything but the letters a to z or a phoneme of `PHONEMES`.
    """
    check_whole("rounds", rounds, least=0)
    for entry in entries:
        check_word(entry.word)
        if unknown := set(entry.phonemes) - _NUMBER.keys():
            raise ValueError(f"entries: {entry.word!r} has the unknown phoneme {min(unknown)!r}; known are {PHONEMES}")
    groups = _group_by_lengths(entries)
    table = np.full((26, NUM_PIECES), 1.0 / NUM_PIECES)  # P(piece | letter), at first without any knowledge
    for _ in range(rounds):
        counts = np.full_like(table, 1e-9)
        for letters, phonemes, _ in groups:
            _add_expected_counts(counts, letters, phonemes, table)
        table = counts / counts.sum(axis=1, keepdims=True)
    return {
        word: pieces for letters, phonemes, words in groups for word, pieces in _best(letters, phonemes, words, table)
    }


def check_word(word: str) -> None:
    """Raise ValueError unless `word` is one to many of the letters a to z: another would be counted as one of them."""
    if not isinstance(word, str) or not re.fullmatch("[a-z]+", word):
        raise ValueError(f"word must be written with the letters a to z, got {word!r}")


def _group_by_lengths(entries: Sequence[Entry]) -> list[tuple[np.ndarray, np.ndarray, list[str]]]:
    """Letters (N, n), phonemes (N, m) and words of each pair of lengths (n, m)."""
    groups: dict[tuple[int, int], list[Entry]] = {}
    for entry in entries:
        if len(entry.phonemes) <= LONGEST * len(entry.word):
            groups.setdefault((len(entry.word), len(entry.phonemes)), []).append(entry)
    return [
        (
            np.array([[ord(letter) - ord("a") for letter in word] for word, _ in group]),
            np.array([[_NUMBER[phoneme] for phoneme in phonemes] for _, phonemes in group]),
            [word for word, _ in group],
        )
        for group in groups.values()
    ]


def _pieces(phonemes: np.ndarray, end: int) -> list[np.ndarray]:
    """Numbers (N,) of the pieces with 0, 1 and 2 phonemes that end before position `end`."""
    pieces = [np.zeros(len(phonemes), dtype=int)]
    if end >= 1:
        pieces.append(1 + phonemes[:, end - 1])
    if end >= 2:
        pieces.append(1 + P + P * phonemes[:, end - 2] + phonemes[:, end - 1])
    return pieces


def _reachable(i: int, n: int, m: int) -> range:
    """Positions at which letter i (from 1) can end, given that every letter says at most two phonemes."""
    return range(max(0, m - LONGEST * (n - i)), min(m, LONGEST * i) + 1)


def _add_expected_counts(counts: np.ndarray, letters: np.ndarray, phonemes: np.ndarray, table: np.ndarray) -> None:
    """Forward-backward over all alignments: how often each letter is expected to say each piece."""
    (N, n), m = letters.shape, phonemes.shape[1]
    forward, backward = np.zeros((n + 1, m + 1, N)), np.zeros((n + 1, m + 1, N))
    forward[0, 0] = backward[n, m] = 1.0
    for i in range(1, n + 1):
        for j in _reachable(i, n, m):
            for said, piece in enumerate(_pieces(phonemes, j)):
                forward[i, j] += forward[i - 1, j - said] * table[letters[:, i - 1], piece]
    for i in range(n, 0, -1):
        for j in _reachable(i, n, m):
            for said, piece in enumerate(_pieces(phonemes, j)):
                ways = table[letters[:, i - 1], piece] * backward[i, j] / forward[n, m]  # (N,)
                np.add.at(counts, (letters[:, i - 1], piece), forward[i - 1, j - said] * ways)
                backward[i - 1, j - said] += table[letters[:, i - 1], piece] * backward[i, j]


def _best(
    letters: np.ndarray, phonemes: np.ndarray, words: list[str], table: np.ndarray
) -> list[tuple[str, tuple[Piece, ...]]]:
    """Viterbi: the most probable alignment of each word; of equals the one with fewest phonemes in the last letter."""
    (N, n), m = letters.shape, phonemes.shape[1]
    score = np.zeros((n + 1, m + 1, N))
    score[0, 0] = 1.0
    choice = np.zeros((n + 1, m + 1, N), dtype=int)  # how many phonemes letter i says when it ends at j
    for i in range(1, n + 1):
        for j in _reachable(i, n, m):
            ways = [score[i - 1, j - said] * table[letters[:, i - 1], piece] for said, piece in enumerate(_pieces(phonemes, j))]
            choice[i, j], score[i, j] = np.argmax(ways, axis=0), np.max(ways, axis=0)  # (N,)
    return [(word, _trace(choice[:, :, row], phonemes[row])) for row, word in enumerate(words)]


def _trace(choice: np.ndarray, phonemes: np.ndarray) -> tuple[Piece, ...]:
    """Walk back from the end of the word: choice (n + 1, m + 1), phonemes (m,)."""
    pieces, j = [], choice.shape[1] - 1
    for i in range(choice.shape[0] - 1, 0, -1):
        start = j - choice[i, j]
        pieces.append(tuple(PHONEMES[number] for number in phonemes[start:j]))
        j = start
    return tuple(reversed(pieces))
