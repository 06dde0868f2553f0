"""`python -m tutorlib translate`: an encoder-decoder Transformer from an English string to a Chinese one.

It reads words (`data.interface_strings.string_words`) and writes characters, since Chinese has no blanks between words. A word
that training has not shown is read as UNKNOWN. The weights are those of the chapter on translation, which learned the strings
of one program's menus and messages.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from tutorlib.arguments import check_whole
from tutorlib.baselines.translation import TranslationMemory
from tutorlib.data.batches import LengthBuckets
from tutorlib.data.interface_strings import load_interface_strings, string_words
from tutorlib.generation import beam_search
from tutorlib.models.transformer import Transformer, TransformerConfig
from tutorlib.options import TranslateOptions
from tutorlib.records import load_half
from tutorlib.text.vocabulary import Vocabulary, pad_right

UNKNOWN = "<unknown>"
LONGEST = 60  # characters that it writes at most
WEIGHTS = Path(__file__).with_name("data") / "translator.safetensors"  # written by experiments/translate_strings.py


class Translator(NamedTuple):
    """The model, the words that it reads and the characters that it writes."""

    model: Transformer
    words: Vocabulary
    characters: Vocabulary


class Translation(NamedTuple):
    """A text, and the score of the search: the sum of ln p of its characters and the end, over length^penalty."""

    text: str
    score: float


def new_translator(pairs: Sequence[tuple[str, str]], *, width: int = 112, layers: int = 1, hidden: int = 224, heads: int = 4,
                   dropout: float = 0.1) -> Translator:
    """Untrained, with the words and characters of these pairs. Raises ValueError where there are none."""
    if not len(pairs):
        raise ValueError("pairs must be at least one, got none")
    words = Vocabulary([UNKNOWN, *sorted({word for source, _ in pairs for word in string_words(source)})])
    characters = Vocabulary(sorted({character for _, target in pairs for character in target}))
    model = Transformer(TransformerConfig(
        len(words), len(characters), width=width, num_heads=heads, num_encoder_layers=layers, num_decoder_layers=layers,
        hidden=hidden, max_length=128, dropout=dropout, norm_first=True))
    return Translator(model, words, characters)


def load_translator(weights: Path = WEIGHTS) -> Translator:
    """The translator of the chapter, 471,520 parameters, trained on the strings of `load_interface_strings().train`.

    Raises what `load_interface_strings` raises, and ModuleNotFoundError where safetensors is missing.
    """
    return _trained(load_interface_strings().train, weights)


def _trained(pairs: Sequence[tuple[str, str]], weights: Path) -> Translator:
    translator = new_translator(pairs)
    load_half(translator.model, weights)
    return translator


def read_words(words: Vocabulary, texts: Sequence[str]) -> list[list[int]]:
    """The ids of each text's words and the end mark."""
    known = set(words.symbols)
    return [[*words.encode([word if word in known else UNKNOWN for word in string_words(text)]), words.end] for text in texts]


def translate(translator: Translator, texts: Sequence[str], *, beams: int = 1, length_penalty: float = 1.0,
              batch_size: int = 64) -> list[Translation]:
    """The translations of texts, by beam search; one beam is greedy decoding.

    Raises ValueError for a text without a word, for counts below 1, and for what `beam_search` refuses.
    """
    check_whole("batch_size", batch_size)
    _check(texts)
    model, words, characters = translator
    device = next(model.parameters()).device
    found: list[Translation] = []
    for start in range(0, len(texts), batch_size):
        source = pad_right(read_words(words, texts[start:start + batch_size])).to(device)  # (B, S)
        begin = source.new_full((len(source), 1), characters.begin)  # (B, 1)
        with torch.no_grad():
            reader = model.condition(source, source != words.pad)
        tokens, scores = beam_search(reader, begin, LONGEST, num_beams=beams, eos=characters.end,
                                     length_penalty=length_penalty)  # (B, 1 + T), (B,)
        found += [Translation("".join(characters.decode(row)), score)
                  for row, score in zip(tokens, scores.tolist(), strict=True)]
    return found


class PairBatches:
    """Batches to train on, as a function of the step: source (B, S), target (B, T) from `begin` on, and labels (B, T), one step
    later, to the end. Targets of a batch have similar lengths, which saves padding.

    Raises ValueError where there are no pairs, for a `batch_size` below 1, and for a character that the translator lacks.
    """

    def __init__(self, translator: Translator, pairs: Sequence[tuple[str, str]], batch_size: int = 64, *, seed: int = 0,
                 device: torch.device | str = "cpu"):
        self.sources = read_words(translator.words, [source for source, _ in pairs])
        self.targets = [translator.characters.encode(target) for _, target in pairs]
        self.begin, self.end, self.device = translator.characters.begin, translator.characters.end, device
        self._buckets = LengthBuckets([len(ids) for ids in self.targets], batch_size, pool=8, seed=seed)
        self._epoch, self._plan = -1, []

    def __call__(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        epoch, place = divmod(step, len(self._buckets))
        if epoch != self._epoch:
            self._buckets.epoch = self._epoch = epoch
            self._plan = list(self._buckets)
        written = [self.targets[row] for row in self._plan[place]]
        source = pad_right([self.sources[row] for row in self._plan[place]])  # (B, S)
        target = pad_right([[self.begin, *ids] for ids in written])  # (B, T)
        labels = pad_right([[*ids, self.end] for ids in written])  # (B, T)
        return source.to(self.device), target.to(self.device), labels.to(self.device)


def translate_text(options: TranslateOptions) -> None:
    """Print the translation of a string, the words that the translator does not know, and the nearest string it has seen."""
    _check([options.text])  # before anything is read
    pairs = load_interface_strings().train
    translator = _trained(pairs, WEIGHTS)
    print(translate(translator, [options.text], beams=options.beams)[0].text)
    if unknown := [word for word in string_words(options.text) if word not in translator.words.symbols]:
        print(f"(not seen in training, so guessed: {', '.join(unknown)})")
    near = TranslationMemory(pairs)(options.text)
    print(f"nearest in training, similarity {near.similarity:.2f}: {near.source} -> {near.target}")


def _check(texts: Sequence[str]) -> None:
    if empty := [text for text in texts if not string_words(text)]:
        raise ValueError(f"texts must have a word each, got {empty[0]!r}")
