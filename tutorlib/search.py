"""Search in passages: by the words that they share with a question (BM25), by the direction of a vector, and by both.

Sources: Robertson and Zaragoza 2009 (BM25); Reimers and Gurevych 2019 (mean-pooled sentence vectors); Cormack, Clarke and
Büttcher 2009 (reciprocal ranks); Jégou, Douze and Schmid 2011 (inverted files of vectors).
"""

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tutorlib.arguments import check_counts, check_whole

CUT = 256  # tokens of a passage that are read
AFTER_A_SENTENCE = re.compile(r"(?<=[.?!:])\s+(?=[A-Z(\"“‘])")


def plain_words(text: str) -> list[str]:
    """Small letters and digits in runs: `Top-p 0.9` is top, p, 0, 9."""
    return re.findall(r"\w+", text.lower())


def sentences_of(text: str) -> list[str]:
    """The text cut after a full stop, a colon, a question or exclamation mark that a capital letter follows."""
    return [part for part in AFTER_A_SENTENCE.split(text.strip()) if part]


class BM25:
    """The score of N texts for a question: over its words w, the sum of

        ln(1 + (N - n + 1/2) / (n + 1/2)) * c / (c + k1 (1 - b + b length / mean length))

    where n texts have w, and this one has it c times. It is `bm25s`'s "lucene" method. Raises ValueError where there is no
    text, `k1` is negative, or `b` does not lie from 0 to 1.
    """

    def __init__(self, texts: Sequence[str], k1: float = 1.5, b: float = 0.75):
        if not texts:
            raise ValueError("texts must hold at least one text, got none")
        if not 0 <= k1 < math.inf:
            raise ValueError(f"k1 must be a number of at least 0, got {k1}")
        if not 0 <= b <= 1:
            raise ValueError(f"b must lie from 0 to 1, got {b}")
        counts = [Counter(plain_words(text)) for text in texts]
        lengths = torch.tensor([count.total() for count in counts], dtype=torch.float64)  # (N,)
        room = k1 * (1 - b + b * lengths / lengths.mean().clamp(min=1))  # (N,)
        self.size, having = len(texts), Counter(word for count in counts for word in count)
        self.weights: dict[str, tuple[list[int], list[float]]] = {word: ([], []) for word in having}
        for text, count in enumerate(counts):
            for word, c in count.items():
                rarity = math.log(1 + (self.size - having[word] + 0.5) / (having[word] + 0.5))
                self.weights[word][0].append(text)
                self.weights[word][1].append(rarity * c / (c + room[text].item()))

    def __call__(self, question: str) -> Tensor:
        """The scores (N,) of all texts, float64; a word that no text has counts nothing."""
        scores = torch.zeros(self.size, dtype=torch.float64)
        for word in plain_words(question):
            if word in self.weights:
                texts, weights = self.weights[word]
                scores[texts] += torch.tensor(weights, dtype=torch.float64)
        return scores


def embed(model: Any, tokenizer: Any, texts: Sequence[str], batch: int = 32) -> Tensor:
    """Texts -> unit vectors (N, D): the mean of a BERT's states, of length 1. What is past CUT tokens is not read.

    Texts of like length are read together. Raises ValueError where there is no text.
    """
    if not texts:
        raise ValueError("texts must hold at least one text, got none")
    check_counts(batch=batch)
    order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
    found: list[Tensor] = [torch.empty(0)] * len(texts)
    for start in range(0, len(order), batch):
        places = order[start:start + batch]
        read = tokenizer([texts[place] for place in places], max_length=CUT)  # tokens, attention_mask: (B, T) each
        mask = read["attention_mask"]
        states = model(read["tokens"], mask)  # (B, T, D)
        for place, vector in zip(places, F.normalize(model.pool(states, mask), dim=-1), strict=True):
            found[place] = vector
    return torch.stack(found)  # (N, D)


def z_scores(scores: Tensor) -> Tensor:
    """Scores (..., N) less their mean, by their standard deviation, so that two searches can be added up; all equal: zeros."""
    spread = scores.std(dim=-1, keepdim=True, correction=0)
    return (scores - scores.mean(dim=-1, keepdim=True)) / spread.clamp(min=1e-12)


def reciprocal_ranks(scores: Tensor, k: int = 60) -> Tensor:
    """1 / (k + rank) of scores (..., N), the best of rank 1: what a search says when only its order is believed."""
    check_whole("k", k, least=0)
    ranks = scores.argsort(dim=-1, descending=True, stable=True).argsort(dim=-1) + 1  # (..., N)
    return 1 / (k + ranks.double())


def k_means(vectors: Tensor, cells: int, generator: torch.Generator, rounds: int = 10) -> Tensor:
    """Centers (cells, D) of unit vectors (N, D): each vector goes to its nearest center, each center to its vectors' mean."""
    check_counts(cells=cells, rounds=rounds)
    if cells > len(vectors):
        raise ValueError(f"cells must be at most the number of vectors, {len(vectors)}, got {cells}")
    centers = vectors[torch.randperm(len(vectors), generator=generator)[:cells]]  # (cells, D)
    for _ in range(rounds):
        nearest = (vectors @ centers.T).argmax(dim=1)  # (N,)
        sums = torch.zeros_like(centers).index_add_(0, nearest, vectors)
        empty = torch.bincount(nearest, minlength=cells) == 0
        centers = torch.where(empty[:, None], centers, F.normalize(sums, dim=1))
    return centers


class InvertedFile:
    """Unit vectors (N, D) sorted into cells by k-means; a search looks into the `probe` cells whose centers are nearest.

    With `probe` = cells it is exact. Raises what `k_means` raises.
    """

    def __init__(self, vectors: Tensor, cells: int, generator: torch.Generator, rounds: int = 10):
        self.vectors, self.centers = vectors, k_means(vectors, cells, generator, rounds)
        nearest = (vectors @ self.centers.T).argmax(dim=1)  # (N,)
        self.lists = [(nearest == cell).nonzero().flatten() for cell in range(cells)]

    def __call__(self, query: Tensor, top: int, probe: int) -> tuple[Tensor, int]:
        """The places of the best `top` vectors for a query (D,), best first, and the number of vectors compared.

        Fewer places come where the cells hold fewer. Centers count as compared. Raises ValueError for a `probe` that is not
        from 1 to the number of cells.
        """
        check_counts(top=top, probe=probe)
        if probe > len(self.lists):
            raise ValueError(f"probe must be at most the number of cells, {len(self.lists)}, got {probe}")
        cells = (self.centers @ query).topk(probe).indices.tolist()
        places = torch.cat([self.lists[cell] for cell in cells])
        best = (self.vectors[places] @ query).topk(min(top, len(places))).indices
        return places[best], len(self.lists) + len(places)
