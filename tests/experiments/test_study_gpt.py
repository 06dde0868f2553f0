"""What the study of the GPT measures, on cases that are counted by hand, and that its record is of the recorded model."""

import json
import math
import runpy
from pathlib import Path

import pytest
import torch

from tutorlib.models import GPT, GPTConfig

ROOT = Path(__file__).parents[2] / "experiments"
RECORD = ROOT / "records" / "gpt.json"


@pytest.fixture(scope="module")
def study():
    return runpy.run_path(str(ROOT / "study_gpt.py"))


def test_the_record_answers_every_question():
    study = json.loads(RECORD.read_text())["study"]
    assert set(study) == {"context", "sight", "difficulty", "writing", "heart"}
    assert len(study["writing"]["matched"]) == 3 and set(study["writing"]["matched"]) < set(study["writing"]["rows"])
    assert [row[0] for row in study["context"]] == ["5-gram", "5-gram, cache", *["GPT"] * 6]


def test_the_study_is_of_the_recorded_model():
    record = json.loads(RECORD.read_text())
    bits = record["study"]["context"][-1][2], record["study"]["difficulty"]["held out"]["gpt"][0]  # of the same windows
    assert bits[0] == bits[1] == pytest.approx(record["curve"][-1]["held_out_bits"], abs=0.005)


def test_copied_text_is_found_whole_and_the_passage_is_said_whole():
    heart = json.loads(RECORD.read_text())["study"]["heart"]
    assert heart["rows"]["passage learned"]["follows"][0] > 100
    assert len(heart["refrain"]["text"]) == heart["rows"]["greedy, trained on"]["shared"][2]


def test_each_scored_token_is_judged_by_the_four_before_it(study):
    class Scored:
        def of(self, places):
            return places[4:10].view(2, 3)  # (W, T/2)

    torch.manual_seed(0)
    gpt, text = GPT(GPTConfig(30, 16, width=16, num_heads=2, num_layers=1)).eval(), torch.randint(30, (12,))
    found = study["after_four"](gpt, text, Scored())
    expected = [gpt(text[None, place - 4:place])[0, -1].log_softmax(-1)[text[place]].item() for place in range(4, 10)]
    assert found.flatten().tolist() == pytest.approx(expected, rel=1e-4)


def test_where_two_lines_part(study):
    assert [study["agreeing"](*pair) for pair in (("abc", "abd"), ("abc", "abc"), ("abc", "ab"), ("", "a"))] == [2, 3, 2, 0]


def test_means_and_their_errors_by_hand(study):
    assert study["mean_and_error"](torch.tensor([1.0, 2.0, 3.0])) == pytest.approx([2, 1 / math.sqrt(3)], abs=1e-4)
    assert study["ratio"](torch.tensor([1.0, 3.0]), torch.tensor([2.0, 2.0])) == pytest.approx([1, math.sqrt(2) / 4], abs=1e-4)
    values = torch.tensor([1.0, 2.0, 6.0])
    without = torch.tensor([4.0, 3.5, 1.5])  # the mean without one
    expected = study["mean_and_error"](values)  # the jackknife of a mean is its standard error
    assert study["jackknife"](values.mean(), without) == pytest.approx(expected, abs=1e-3)


def test_known_fives_are_marked_where_they_end(study):
    text = torch.tensor([1, 2, 3, 4, 5, 6])
    assert study["known_fives"](text, torch.tensor([9, 1, 2, 3, 4, 5, 7])).tolist() == [False, True, False]


def test_variety_leaves_one_beginning_out_of_every_draw(study):
    draws = [[["a", "b", "c"], ["a", "b"]], [["a", "a", "a"], ["b", "b"]]]
    assert study["variety"](draws) == pytest.approx((2 / 3 + 2 / 3) / 2)
    assert study["variety"](draws, 1) == pytest.approx((1 + 1 / 2) / 2)
