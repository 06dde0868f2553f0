"""The corpus of the chapter `speech`: words of the Bible in synthesized voices, parted by voice and by word.

Words are the 2,000 most frequent of two to eight letters in the training chapters of the World English Bible that the CMU
dictionary has; about an eighth are held out, by the groups of `pronunciation.split`, so that no form of a held-out word is
learned. An utterance is one to three of them in random order: there is no sentence that a model could guess.
"""

import random
import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from tutorlib.arguments import check_whole
from tutorlib.data.batches import numbered_generator
from tutorlib.data.bible import load_bible
from tutorlib.data.pronunciation import Entry, dictionary_path, read_dictionary, split
from tutorlib.data.synthesis import Request, synthesize

KNOWN_VOICES = tuple("m1 m2 m3 m4 m6 m7 f1 f2 f4 Annie Andy Alex Denis Gene Jacky Lee Mike Storm linda ed".split())
NEW_VOICES = tuple("m5 m8 f3 f5 Michael steph paul Alicia".split())
WORDS, HELD_OUT = 2000, 0.12
SILENCE = -11.5  # log mel energy where there is no sound


class Utterance(NamedTuple):
    """What was said, in lower case, by whom, and its sound (N,)."""

    text: str
    voice: str
    samples: Tensor


class Words(NamedTuple):
    """Two disjoint lists of entries (spelling and phonemes), in the order of the alphabet."""

    known: list[Entry]
    unseen: list[Entry]


def load_words() -> Words:
    """Raises what `load_bible` and `load_pronunciations` raise."""
    counts = Counter(re.findall(r"\b[a-z]{2,8}\b", "\n".join(load_bible().train)))
    said = {entry.word: entry for entry in read_dictionary(dictionary_path())}
    ranked = sorted((word for word in counts if word in said), key=lambda word: (-counts[word], word))
    known, _, unseen = split([said[word] for word in sorted(ranked[:WORDS])], valid=0.0, test=HELD_OUT)
    return Words(known, unseen)


def draw_requests(words: Sequence[str], voices: Sequence[str], count: int, seed: int, longest: int = 3) -> list[Request]:
    """So many texts of one to `longest` words, each with a voice, a speed (130 to 190 words a minute) and a pitch (30 to 70).

    Raises ValueError where there are no words or voices, or a count below 1.
    """
    check_whole("count", count)
    if not (words and voices):
        raise ValueError(f"words and voices must be at least one each, got {len(words)} and {len(voices)}")
    dice = random.Random(seed)
    return [Request(" ".join(dice.choices(words, k=dice.randint(1, longest))), dice.choice(voices), dice.randint(130, 190),
                    dice.randint(30, 70)) for _ in range(count)]


def say(requests: Sequence[Request]) -> list[Utterance]:
    """The requests with their sounds. Raises what `synthesize` raises."""
    sounds = synthesize(requests)
    return [Utterance(each.text, each.voice, sound) for each, sound in zip(requests, sounds, strict=True)]


def leveled(samples: Tensor, loudness: float = 0.1) -> Tensor:
    """The sound made so loud that the root of its mean square is `loudness`; silence stays as it is."""
    return samples * (loudness / samples.square().mean().sqrt().clamp(min=1e-6))


def with_noise(samples: Tensor, decibels: float, generator: torch.Generator, noise: Tensor | None = None) -> Tensor:
    """Sound (N,) with white noise, or with `noise` (at least N,), of which 10 log10(sound's power / noise's) is `decibels`.

    Raises ValueError for a sound that is silent, or a noise that is shorter.
    """
    power = samples.square().mean()
    if not power > 0:
        raise ValueError("samples must not be silent, got only zeros")
    if noise is None:
        noise = torch.randn(samples.shape, generator=generator)
    elif len(noise) < len(samples):
        raise ValueError(f"noise must be as long as the samples, {len(samples)}, got {len(noise)}")
    noise = noise[:len(samples)]
    return samples + noise * (power / noise.square().mean() / 10 ** (decibels / 10)).sqrt()


# -- batches ------------------------------------------------------------------------------------------------------------------


class Batch(NamedTuple):
    """mel (B, T, 64) and targets (B, L), both filled up at the right, and how much of each counts, (B,) and (B,)."""

    mel: Tensor
    lengths: Tensor
    targets: Tensor
    target_lengths: Tensor


def collate(mels: Sequence[Tensor], targets: Sequence[Sequence[int]]) -> Batch:
    """Log mel spectrograms (T, 64) and the ids that each should give, as a batch; it is filled with silence and zeros."""
    spelled = [torch.tensor(ids, dtype=torch.long) for ids in targets]
    return Batch(
        pad_sequence([mel.float() for mel in mels], batch_first=True, padding_value=SILENCE),
        torch.tensor([*map(len, mels)]),
        pad_sequence(spelled, batch_first=True),
        torch.tensor([*map(len, spelled)]))


class SpokenBatches:
    """Shuffled batches of utterances of about one length, as a function of the step, which `training.train` asks for.

    `versions` are one or more lists of the same utterances' mels, such as clean and noisy; each utterance of a batch is taken
    from one of them by chance, moved by up to `shift` mel bands up or down, as a smaller or larger head would, and made up to
    `louder` louder or weaker. Raises ValueError where the lists differ in number, or are fewer than a batch.
    """

    def __init__(self, versions: Sequence[Sequence[Tensor]], targets: Sequence[Sequence[int]], *, batch_size: int = 32,
                 seed: int = 0, shift: int = 3, louder: float = 0.5):
        sizes = {len(targets), *map(len, versions)}
        if len(sizes) != 1 or batch_size > len(targets) or not versions:
            raise ValueError(f"versions and targets must be equally many, at least {batch_size}, got {sorted(sizes)}")
        self.versions, self.targets, self.seed, self.shift, self.louder = versions, targets, seed, shift, louder
        order = sorted(range(len(targets)), key=lambda place: len(versions[0][place]))
        self.batches = [order[start:start + batch_size] for start in range(0, len(order), batch_size)]

    def __call__(self, step: int) -> Batch:
        epoch, place = divmod(step, len(self.batches))
        order = torch.randperm(len(self.batches), generator=numbered_generator(self.seed, epoch))
        dice = numbered_generator(self.seed + 1, step)
        rows = self.batches[order[place]]
        return collate([self._drawn(row, dice) for row in rows], [self.targets[row] for row in rows])

    def _drawn(self, row: int, dice: torch.Generator) -> Tensor:
        version = int(torch.randint(len(self.versions), (), generator=dice))
        bands = int(torch.randint(-self.shift, self.shift + 1, (), generator=dice))
        louder = self.louder * (2 * torch.rand((), generator=dice) - 1)
        mel = self.versions[version][row].float()
        moved = torch.roll(mel, bands, 1)
        if bands > 0:
            moved[:, :bands] = mel[:, :1]
        elif bands < 0:
            moved[:, bands:] = mel[:, -1:]
        return moved + louder
