"""The book's own text as passages, frozen, with questions that were written before there was a search.

`tools/freeze_passages.py` made the passages from the chapters and the glossary. An edit of a chapter does not change them.
"""

import gzip
import json
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from tutorlib.packages import check_content

FOLDER = Path(__file__).parent
PASSAGES_SHA256 = "7a7ce2f6ac4454fdaff70bc09246903ae259acfd06406a348066429dc5d6fa29"  # of the text, uncompressed
QUESTIONS_SHA256 = "f776a3296c669dae10fb8e98b736a184629cececfcd171ec8149992ccc6a2b9e"
VECTORS_SHA256 = "0a99a1fefd71b3d1d25d4155dca09198c18e46b0c1fcc708077c3de69d25fb4e"


class Passage(NamedTuple):
    """About 75 words of a page under one heading; `page` is its path without the ending, `anchor` the heading's in the book."""

    page: str
    title: str
    heading: str
    anchor: str
    text: str

    @property
    def place(self) -> str:
        """`page#anchor`, by which the questions name the right passages."""
        return f"{self.page}#{self.anchor}"

    @property
    def body(self) -> str:
        """The text as it is read; of a glossary entry without the term in front."""
        return self.text.split(": ", 1)[1] if self.page == "book/glossary" else self.text

    @property
    def searched(self) -> str:
        """The heading, then the text, as a search reads them."""
        return self.text if self.page == "book/glossary" else f"{self.heading}. {self.text}"


class Question(NamedTuple):
    """One question in a stranger's words, the same by the field's names, and the places where it is answered."""

    plain: str
    named: str
    gold: tuple[str, ...]


@cache
def load_passages() -> tuple[Passage, ...]:
    """All passages in the book's order, the glossary last. Raises ValueError where the file is not the expected one."""
    content = gzip.decompress((FOLDER / "passages.jsonl.gz").read_bytes())
    check_content(content, PASSAGES_SHA256, "passages.jsonl.gz", "the one that the chapter was written with")
    return tuple(Passage(**json.loads(line)) for line in content.decode("utf8").splitlines())


@cache
def load_questions() -> tuple[Question, ...]:
    """The 74 questions. Raises ValueError where the file is not the expected one."""
    content = (FOLDER / "questions.json").read_bytes()
    check_content(content, QUESTIONS_SHA256, "questions.json", "the one that was written before the search")
    return tuple(Question(each["plain"], each["named"], tuple(each["gold"])) for each in json.loads(content))


def right_passages() -> Tensor:
    """Which passages stand at a place that answers which question: (questions, passages) of bool."""
    places = [passage.place for passage in load_passages()]
    return torch.tensor([[place in question.gold for place in places] for question in load_questions()])


def load_vectors() -> Tensor:
    """MiniLM's vectors of the passages as unit vectors (N, 384) of float32, kept in one byte a number.

    Raises ValueError where the file is not the expected one.
    """
    content = (FOLDER / "passages.int8").read_bytes()
    check_content(content, VECTORS_SHA256, "passages.int8", "the one that the chapter was written with")
    codes = torch.frombuffer(bytearray(content), dtype=torch.int8).view(len(load_passages()), -1)  # (N, D)
    return torch.nn.functional.normalize(codes.float(), dim=1)
