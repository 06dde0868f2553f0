"""Byte-level BPE against the `tokenizers` library on one thread: encoding with GPT-2's merges, learning merges.

The library encodes text by text (`encode`, as a program does that reads one document at a time); it is told to keep to one
thread, since tutorlib has no other.
"""

import os
from zlib import crc32

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor

from benchmarks.harness import Variant
from tutorlib.data.bible import load_bible
from tutorlib.pretrained.gpt2 import gpt2_tokenizer
from tutorlib.text.bpe import BytePairTokenizer, to_visible

CHAPTERS, VOCABULARY = 400, 8192
SIZES = f"{CHAPTERS} chapters of the World English Bible, 1.4 million characters"
CAVEATS = ("Text by text, on one thread. The comparison favors tutorlib: its cache holds every word of the text from earlier "
           "rounds, except in the last row (the library keeps a cache too), and it returns ids alone, where the library's "
           "`encode` also makes offsets, masks and strings. The library's way for many texts, `encode_batch_fast`, which "
           "leaves the offsets out, is not measured.")


def encoding() -> list[Variant]:
    """Chapter after chapter to ids, with GPT-2's merges; the word cache full, as it is in a long run, and empty."""
    texts, ours = load_bible().train[:CHAPTERS], gpt2_tokenizer()
    theirs = _library(models.BPE(vocab={to_visible(token): number for token, number in ours.vocabulary.items()},
                                 merges=[(to_visible(first), to_visible(second)) for first, second in ours.merges]))

    def library() -> Tensor:
        return torch.tensor([number for text in texts for number in theirs.encode(text).ids])

    def cached() -> Tensor:
        return torch.tensor([number for text in texts for number in ours.encode(text)])

    def cold() -> Tensor:
        ours.forget()
        return cached()

    return [Variant("tokenizers", library, 0.0), Variant("tutorlib", cached, 0.0), Variant("tutorlib, empty cache", cold, 0.0)]


def training() -> list[Variant]:
    """Merges from the text, for a vocabulary of 8,192; compared by the tokens in the order of their ids."""
    texts = load_bible().train[:CHAPTERS]

    def library() -> Tensor:
        tokenizer = _library(models.BPE())
        tokenizer.train_from_iterator(texts, trainers.BpeTrainer(
            vocab_size=VOCABULARY, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
        ids = tokenizer.get_vocab()
        return _fingerprint(sorted(ids, key=ids.get))

    def ours() -> Tensor:
        return _fingerprint([to_visible(token) for token in BytePairTokenizer.train(texts, VOCABULARY).vocabulary])

    return [Variant("tokenizers", library, 0.0), Variant("tutorlib", ours, 0.0)]


def _library(model: models.BPE) -> Tokenizer:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return tokenizer


def _fingerprint(tokens: list[str]) -> Tensor:
    return torch.tensor([crc32(token.encode()) % 2**20 for token in tokens])
