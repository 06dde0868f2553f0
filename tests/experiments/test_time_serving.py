"""The record of serving: as its script writes it; answers and passes, which no processor changes, come out again."""

from pathlib import Path

import pytest
import torch

from tutorlib.pretrained import load
from tutorlib.pretrained.smollm2 import chat_prompt

ROOT = Path(__file__).parents[2] / "experiments"
TOOL = ROOT / "time_serving.py"
RECORD = ROOT / "records" / "serving.json"


@pytest.fixture(scope="module")
def smollm2():
    return load("smollm2")


def encoded(tokenizer, text):
    return torch.tensor(tokenizer.encode(chat_prompt([("user", text)])))


def test_the_record_is_of_these_settings(program, record):
    assert record["settings"] == {"rounds": program["ROUNDS"], "guesses": program["GUESSES"],
                                  "longest_answer": program["LONGEST_ANSWER"], "longest_text": program["LONGEST_TEXT"]}
    assert [found["task"] for found in record["guessing"]] == list(program["TASKS"])
    assert len(record["new_tokens"]) == len(program["QUESTIONS"]) == 8
    assert record["processor"] and record["threads"] == 1


def test_every_time_is_of_as_many_rounds_and_above_zero(program, record):
    for seconds in (record["answers"], *(found["seconds"] for found in record["guessing"])):
        assert len(seconds) == 4
        assert all(len(each) == program["ROUNDS"] and min(each) > 0 for each in seconds.values())


def test_two_answers_are_those_of_the_record(program, record, smollm2):
    model, tokenizer = smollm2
    chosen = (0, 3)  # both end after eight tokens
    prompts = [encoded(tokenizer, program["QUESTIONS"][place]) for place in chosen]
    end = tokenizer.encode("<|im_end|>")[0]
    again = program["eight_answers"](model, prompts, end, rounds=1)
    assert again["new_tokens"] == [record["new_tokens"][place] for place in chosen]
    assert set(again["answers"]) == set(record["answers"])


def test_the_task_that_repeats_takes_the_passes_of_the_record(program, record, smollm2):
    model, tokenizer = smollm2
    expected = record["guessing"][0]
    prompt = encoded(tokenizer, program["TASKS"][expected["task"]])[None]
    again = program["guessed"](model, expected["task"], prompt, tokenizer.encode("<|im_end|>")[0], rounds=1)
    assert {name: again[name] for name in again if name != "seconds"} == \
        {name: expected[name] for name in expected if name != "seconds"}
    assert set(again["seconds"]) == set(expected["seconds"])
