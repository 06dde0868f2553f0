"""easy-VQA: all there, checked, never imported; its words, kinds and premises."""

import sys

import pytest
import torch

from tutorlib import packages
from tutorlib.data import easy_vqa
from tutorlib.data.easy_vqa import (
    ANSWERS,
    COLORS,
    NONE,
    SHAPES,
    VOCABULARY,
    false_premise,
    kind,
    load_questions,
    premise,
    question_tokens,
    to_input,
    words,
)


@pytest.fixture(scope="module")
def test_part():
    return load_questions("test")


def test_all_questions_of_the_test_part(test_part):
    assert test_part.pictures.shape == (1000, 3, 64, 64) and test_part.pictures.dtype == torch.uint8
    assert len(test_part.questions) == len(test_part.answers) == len(test_part.picture) == 9673
    assert set(test_part.answers) == set(ANSWERS) - {NONE} and set(test_part.picture.tolist()) == set(range(1000))
    assert [sum(kind(q) == name for q in test_part.questions) for name in ("yes or no", "shape", "color")] == [7136, 1257, 1280]
    assert "easy_vqa" not in sys.modules


def test_pictures_belong_to_their_questions(test_part):
    """A red, green or blue shape: the pixels that are far from the ground have that channel above the two others."""
    for row, (question, answer) in enumerate(zip(test_part.questions, test_part.answers, strict=True)):
        if kind(question) == "color" and answer in ("red", "green", "blue") and row < 2000:
            image = test_part.pictures[test_part.picture[row]].float()  # (3, H, W)
            shape = (image - image[:, :1, :1]).abs().sum(0) > 200  # a corner may be covered, then the shape is the ground
            channel = ("red", "green", "blue").index(answer)
            if 0 < shape.float().mean() < 0.4:
                assert image[:, shape].mean(1).argmax() == channel, question


def test_every_question_is_encoded_and_ends_in_its_mark(test_part):
    tokens = question_tokens(test_part.questions)
    assert tokens.shape == (9673, 10)
    rows = ["".join(f" {word}" for word in VOCABULARY.decode(row))[1:-2] + "?" for row in tokens[:300]]
    assert rows == test_part.questions[:300]


def test_words_of_a_reader():
    assert words("What color is the Circle") == words("what color is the circle?") == "what color is the circle ?".split()
    with pytest.raises(ValueError, match="unknown symbol 'dog'"):
        question_tokens(["is there a dog?"])


def test_kinds_and_premises():
    assert [kind(q) for q in ("is there no red shape?", "what shape is present?", "what is the color of the shape?")] == [
        "yes or no", "shape", "color"]
    assert premise("what color is the circle?") == "circle" and premise("what is the red shape?") == "red"
    assert premise("what color is the shape?") is None and premise("is there a circle?") is None


def test_a_false_premise_names_another_of_its_family():
    shapes = {false_premise("what color is the circle?", number) for number in range(10)}
    assert shapes == {"what color is the rectangle?", "what color is the triangle?"}
    colors = {false_premise("what is the red shape?", number).split()[3] for number in range(20)}
    assert colors == set(COLORS) - {"red"} and "shape" not in SHAPES
    with pytest.raises(ValueError, match="question must take a shape or a color for granted, got 'is there a circle"):
        false_premise("is there a circle?", 0)


def test_input_is_the_mean_of_four_pixels_normalized(device):
    pictures = torch.zeros(1, 3, 64, 64, dtype=torch.uint8, device=device)
    pictures[..., 0, 1] = 204  # a quarter of it is .2
    inputs = to_input(pictures)
    assert inputs.shape == (1, 3, 32, 32) and inputs.device.type == device.type
    assert inputs[0, :, 0, 0].tolist() == pytest.approx([(0.2 - 0.9) / 0.2] * 3)
    assert inputs[0, :, 0, 1].tolist() == pytest.approx([-4.5] * 3)


@pytest.mark.parametrize("pictures", [torch.zeros(1, 3, 64, 64), torch.zeros(3, 64, 64, dtype=torch.uint8)])
def test_pictures_of_another_kind_are_refused(pictures):
    with pytest.raises(ValueError, match=r"pictures must be \(N, 3, 64, 64\) of torch.uint8, got"):
        to_input(pictures)


def test_missing_and_changed_files_and_parts_are_refused(monkeypatch):
    with pytest.raises(ValueError, match="part must be one of"):
        load_questions("valid")
    monkeypatch.setitem(easy_vqa.PICTURES_SHA256, "test", "0" * 64)
    with pytest.raises(ValueError, match="the pictures of easy-vqa, test, have sha256 .*; expected 000"):
        load_questions("test")
    monkeypatch.setitem(easy_vqa.QUESTIONS_SHA256, "test", "0" * 64)
    with pytest.raises(ValueError, match="questions.json has sha256"):
        load_questions("test")
    monkeypatch.setattr(packages, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="The set of questions about pictures comes from the package 'easy-vqa'"):
        load_questions("test")
