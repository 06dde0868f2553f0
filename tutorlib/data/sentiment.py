"""Sentences of reviews and how kind they are, rated by at least twenty readers each (Hutto and Gilbert 2014).

10,605 sentences about movies and 3,708 about products that Amazon sells, with the mean of ratings from -4 to 4. They lie in the
source archive of the package vaderSentiment 0.5 and in none of its wheels. `make environment` fetches the archive; here it is
opened and checked, and nothing in it is run.
"""

import html
import io
import re
import tarfile
import zipfile
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import torch

from tutorlib.packages import check_content, fetched_archive

ARCHIVE = "vaderSentiment-0.5.zip"
SHA256 = "5d97c37f3ef6e24eef331122e055dbedafeb6a56abfce0608b326701116ea49a"  # as requirements-archives.txt has it
INSIDE = "vaderSentiment-0.5/additional_resources/hutto_ICWSM_2014.tar.gz"
FILES_SHA256 = {
    "movie": "c8293b0d942e90e223ea2c0955d969040d1a1be514a978b9af0698940bd13350",
    "amazon": "11a9807a0974a2506a2d3b4851eaf69b3d6d20688ce4923adda2312a4f6dd6c2",
}
CLEAR = 0.5  # a sentence whose mean rating lies nearer to zero is neither kind nor unkind, and left out
DEVELOPMENT, TEST = 500, 1000
SHARED = 0.5  # of the runs of three words of a sentence: more makes it a copy of another


class Sentence(NamedTuple):
    """A sentence, the mean of its ratings from -4 to 4, and the review that it is from."""

    text: str
    rating: float
    review: str

    @property
    def label(self) -> int:
        """1 for praise, 0 for blame."""
        return int(self.rating > 0)


class Sentiment(NamedTuple):
    """Sentences about movies to learn from, to choose settings by and to be tested on; and others, for a test alone."""

    train: list[Sentence]
    development: list[Sentence]
    test: list[Sentence]
    amazon: list[Sentence]


def load_sentences(name: str) -> list[Sentence]:
    """All sentences of "movie" or "amazon", in the order of the file.

    Raises ValueError for another name or for files that are not the expected ones, FileNotFoundError where the archive is
    missing.
    """
    if name not in FILES_SHA256:
        raise ValueError(f"name must be one of {list(FILES_SHA256)}, got {name!r}")
    path = fetched_archive(ARCHIVE, SHA256, what="The set of rated sentences")
    with zipfile.ZipFile(path) as outer, tarfile.open(fileobj=io.BytesIO(outer.read(INSIDE))) as inner:
        content = inner.extractfile(f"hutto_ICWSM_2014/{name}ReviewSnippets_GroundTruth.txt").read()
    check_content(content, FILES_SHA256[name], f"{name}ReviewSnippets_GroundTruth.txt", "vaderSentiment 0.5")
    rows = (line.split("\t") for line in content.decode("utf8").splitlines())
    return [Sentence(html.unescape(text), float(rating), number.split("_")[0]) for number, rating, text in rows]


def load_sentiment() -> Sentiment:
    """The clear sentences, shuffled once and split, so that no part holds a copy of a sentence of another.

    A copy shares half of its runs of three words, or all of its words. Copies of test sentences are taken out of the others,
    then copies of development sentences out of training. Raises what `load_sentences` raises.
    """
    movie = _different(_clear(load_sentences("movie")))
    order = torch.randperm(len(movie), generator=torch.Generator().manual_seed(0)).tolist()
    test, development, train = (
        [movie[place] for place in part]
        for part in (order[:TEST], order[TEST:TEST + DEVELOPMENT], order[TEST + DEVELOPMENT:]))
    development = without_copies(development, test)
    train = without_copies(train, test + development)
    amazon = _different(_clear(load_sentences("amazon")))
    return Sentiment(train, development, test, without_copies(amazon, train + development))


def without_copies(sentences: Sequence[Sentence], others: Sequence[Sentence]) -> list[Sentence]:
    """The sentences that share less than half of their runs of three words, counted in the shorter, with each of the others."""
    holders, sizes = defaultdict(list), []
    for place, other in enumerate(others):
        runs = _runs(other.text)
        sizes.append(len(runs))
        for run in runs:
            holders[run].append(place)
    return [sentence for sentence in sentences if not _is_copy(_runs(sentence.text), holders, sizes)]


def _is_copy(runs: set[tuple[str, ...]], holders: dict, sizes: list[int]) -> bool:
    shared = Counter(place for run in runs for place in holders.get(run, ()))
    return any(count >= SHARED * min(len(runs), sizes[place]) for place, count in shared.items())


def _runs(text: str) -> set[tuple[str, ...]]:
    """Of fewer than three words: all of them, as one run."""
    words = _words(text)
    return {tuple(words[start:start + 3]) for start in range(max(1, len(words) - 2))}


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _clear(sentences: Sequence[Sentence]) -> list[Sentence]:
    return [sentence for sentence in sentences if abs(sentence.rating) >= CLEAR]


def _different(sentences: Sequence[Sentence]) -> list[Sentence]:
    """The first of each that have the same words."""
    first: dict[tuple[str, ...], Sentence] = {}
    for sentence in sentences:
        first.setdefault(tuple(_words(sentence.text)), sentence)
    return list(first.values())
