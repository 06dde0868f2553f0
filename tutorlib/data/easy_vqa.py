"""easy-VQA: questions about pictures of one colored shape, with answers of one word.

5,000 pictures and 48,248 questions made of 24 templates. They are read by path from the installed package `easy_vqa`, which is
never imported. A false premise is added here: a question about a shape or color that the picture does not show.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tutorlib.packages import check_files_sha256, installed_file
from tutorlib.text.vocabulary import Vocabulary, pad_right

PACKAGE, DISTRIBUTION, WHAT = "easy_vqa", "easy-vqa", "The set of questions about pictures"
PARTS = {"train": 4000, "test": 1000}  # pictures
QUESTIONS_SHA256 = {  # easy-vqa 1.0
    "train": "bb67697636aed0e65631d4266824aebeae5c833b0f37ed781e20752e85617ec5",
    "test": "0d4630a51bafec65343e2f6af9cdd20cf8eae214344ef57636202eec409553f7",
}
PICTURES_SHA256 = {  # of the files, one after the other
    "train": "5ccb1e586318a54fe7322ad8802bc9240366c8d90895a01773f96e61436742a3",
    "test": "90f80d7b9868bfadacfbe1f0873d4ab0b2a71e12f31626bb8e557e28fbb5301c",
}

COLORS = ("black", "blue", "brown", "gray", "green", "red", "teal", "yellow")
SHAPES = ("circle", "rectangle", "triangle")
MEAN, STD = 0.9, 0.2  # of the pixels, which lie from 0 to 1: the grounds are bright
NONE = "none"  # what is to be said to a false premise; no answer of the set
ANSWERS = ("yes", "no", *SHAPES, *COLORS, NONE)
VOCABULARY = Vocabulary((*ANSWERS, *"a color contain does image in is not of present shape the there what".split(), "?"))


class Questions(NamedTuple):
    """pictures (N, 3, 64, 64) of uint8; of Q questions the words, the answer, and the number of the picture, (Q,)."""

    pictures: Tensor
    questions: list[str]
    answers: list[str]
    picture: Tensor


def load_questions(part: str) -> Questions:
    """The pictures and questions of "train" or "test", in the order of the files.

    Raises ModuleNotFoundError where the package is missing, ValueError for another part or for files that are not the
    expected ones.
    """
    if part not in PARTS:
        raise ValueError(f"part must be one of {list(PARTS)}, got {part!r}")
    path = installed_file(PACKAGE, f"data/{part}/questions.json", QUESTIONS_SHA256[part], distribution=DISTRIBUTION, what=WHAT)
    questions, answers, numbers = zip(*json.loads(path.read_text("utf8")), strict=True)
    return Questions(_pictures(path.parent / "images", part), list(questions), list(answers), torch.tensor(numbers))


def _pictures(folder: Path, part: str) -> Tensor:
    """All of a part, (N, 3, 64, 64)."""
    from PIL import Image  # an extra, as plots are: the package itself does not need it

    paths = [folder / f"{number}.png" for number in range(PARTS[part])]
    check_files_sha256(paths, PICTURES_SHA256[part], f"the pictures of {DISTRIBUTION}, {part},", "easy-vqa 1.0")
    pixels = np.stack([np.array(Image.open(path)) for path in paths])  # (N, 64, 64, 3)
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()  # (N, 3, 64, 64)


def to_input(pictures: Tensor) -> Tensor:
    """(N, 3, 64, 64) of uint8 -> (N, 3, 32, 32) of float32: each pixel the mean of four, less MEAN and divided by STD.

    Raises ValueError for pictures of another shape or type, whose values would be of another size.
    """
    if pictures.dim() != 4 or pictures.shape[1:] != (3, 64, 64) or pictures.dtype != torch.uint8:
        raise ValueError(f"pictures must be (N, 3, 64, 64) of torch.uint8, got {tuple(pictures.shape)} of {pictures.dtype}")
    small = pictures.unflatten(-2, (32, 2)).unflatten(-1, (32, 2)).float().mean((-3, -1)) / 255  # (N, 3, 32, 32)
    return (small - MEAN) / STD


def words(question: str) -> list[str]:
    """Lower case; the question mark is a word, and is put where it is missing."""
    return [*re.findall("[a-z]+", question.lower()), "?"]


def question_tokens(questions: Sequence[str]) -> Tensor:
    """(Q, T), padded at the right; the last word of each is the question mark.

    Raises ValueError for a word that the set does not have, and where there is no question.
    """
    return pad_right([VOCABULARY.encode(words(question)) for question in questions])


def kind(question: str) -> str:
    """What is asked: "yes or no", "shape" or "color"."""
    asked = words(question)
    if asked[0] != "what":
        return "yes or no"
    return "color" if "color" in asked else "shape"


def premise(question: str) -> str | None:
    """What the question takes for granted: the shape in "what color is the circle?", the color in "what is the red shape?".

    None where it takes nothing for granted but that there is a shape.
    """
    named = [word for word in words(question) if word in (*SHAPES, *COLORS)]
    return named[0] if named and kind(question) != "yes or no" else None


def false_premise(question: str, number: int) -> str:
    """The question about another shape or color, the `number`-th of the others; it wants the answer `NONE`.

    Raises ValueError for a question that takes nothing for granted.
    """
    named = premise(question)
    if named is None:
        raise ValueError(f"question must take a shape or a color for granted, got {question!r}")
    family = SHAPES if named in SHAPES else COLORS
    others = [word for word in family if word != named]
    return question.replace(named, others[number % len(others)])
