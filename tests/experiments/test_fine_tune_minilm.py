"""The record of fine-tuning MiniLM: its first steps, its baselines and its draws of labels come out again."""

import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch

ROOT = Path(__file__).parents[2]
TOOL = ROOT / "experiments" / "fine_tune_minilm.py"
RECORD = ROOT / "experiments" / "records" / "fine_tune_minilm.json"


@pytest.fixture(scope="module")
def bench(program):
    return program["Bench"](program["load_sentiment"](), None)


@pytest.mark.slow
def test_the_first_steps_come_out_again(bench, record):
    """In float32, from the real weights; another processor rounds otherwise, by less than this."""
    assert bench.first_losses() == pytest.approx(record["first_losses"], abs=2e-3)


def test_the_draws_and_the_sentences_are_the_recorded_ones(bench, record, program):
    assert bench.drawn(program["Run"]("all layers", 16, 0, 0)) == record["first_draw"]
    assert {part: len(sentences) for part, sentences in bench.parts.items()} == record["sentences"]
    assert bench.praise() == pytest.approx(record["praise"])


@pytest.mark.slow
def test_counting_comes_out_again(bench, record, program):
    for run in [run for run in record["runs"] if run["arm"] == "counting" and run["size"] == 50][:1]:
        again = bench.done(program["Run"]("counting", 50, run["draw"], 0), 0)
        assert abs(again["test"] - run["test"]) < 0.03 and abs(again["development"] - run["development"]) < 0.03


def test_what_was_right_gives_the_scores(record):
    for run in record["runs"]:
        for part in ("test", "amazon"):
            ones = f"{int(run['right'][part], 16):b}".count("1")
            assert ones / record["sentences"][part] == pytest.approx(run[part], abs=1e-4), (run["arm"], run["size"])


def test_bits_are_packed_from_the_highest(program):
    assert program["packed"](torch.tensor([True, False, False, False, True])) == "11"
    assert program["packed"](torch.tensor([False] * 5)) == "00"


def test_every_rate_is_the_best_on_the_development_set(record):
    for run in record["runs"]:
        tried = {each["rate"]: each["development"] for each in record["tuning"] if each["arm"] == run["arm"]}
        assert not tried or tried[run["rate"]] == max(tried.values())


def test_batches_hold_every_sentence_once(program):
    tokens = [[1] * (1 + place % 7) for place in range(48)]
    batches = program["SimilarLengths"](tokens, torch.arange(48), 0)
    seen = torch.cat([batches(step)[2] for step in range(3)])
    assert sorted(seen.tolist()) == list(range(48))
    rows, mask, _ = batches(0)
    assert rows.shape == mask.shape and (rows == mask).all()  # ones where there are tokens, zeros behind
    assert torch.equal(batches(4)[2], batches(4)[2])


def test_the_drawing_shows_the_record(record):
    drawing = ElementTree.parse(ROOT / "book" / "drawings" / "bert-two.svg")
    shown = {node.get("data-of"): node.text for node in drawing.iter() if node.get("data-of")}
    assert len(shown) == 5
    for key, text in shown.items():
        arm, size = key.split("/")
        found = [run["test"] for run in record["runs"] if (run["arm"], str(run["size"])) == (arm, size)]
        assert f"{100 * sum(found) / len(found):.0f} %" == text, key


def test_intervals_of_a_made_record(program):
    right = torch.arange(400) % 4 > 0  # three of four
    runs = [{"arm": arm, "size": 50, "draw": draw, "right": {"test": program["packed"](each)}}
            for arm, each in (("a", right), ("b", right.roll(1) & right)) for draw in (0, 1)]
    made = {"sentences": {"test": 400}, "runs": runs}
    assert torch.equal(program["rights"](made, "a", 50, "test")[1], right.double())
    mean, low, high = program["interval"](made, "a", 50, "test")
    assert mean == 0.75 and abs((high - low) / 2 - 1.96 * (0.75 * 0.25 / 400) ** 0.5) < 0.006
    mean, low, high = program["interval"](made, "a", 50, "test", less="b")
    assert mean == 0.25 and 0.2 < low < mean < high < 0.3
    together = program["interval"](made, "a", 50, "test", groups=torch.arange(400) // 4)  # each group is alike
    assert together[0] == 0.75 and together[1] == together[2] == 0.75


def test_refuses_unknown_arguments(monkeypatch, capsys, program):
    monkeypatch.setattr(sys, "argv", [str(TOOL), "record.json", "--color", "blue"])
    with pytest.raises(SystemExit):
        program["main"]()
    assert "--color" in capsys.readouterr().err
