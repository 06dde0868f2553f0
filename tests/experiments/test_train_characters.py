"""The record of the LSTM that counts lines: its parts measure what they say, its first losses and its scores come again."""

import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2] / "experiments"
TOOL = ROOT / "train_characters.py"
RECORD = ROOT / "records" / "characters.json"


@pytest.fixture(scope="module")
def texts(program):
    return program["load_texts"]()


@pytest.fixture(scope="module")
def model(program, texts):
    return program["load_model"](RECORD.with_suffix(".safetensors"), texts.tokenizer)


def test_record_is_whole(program, record):
    assert [run["seed"] for run in record["runs"]] == list(program["SEEDS"])
    expected = {name: program[name.upper()] for name in ("width", "hidden", "forget_bias", "steps", "batch", "length", "rate",
                                                         "line", "late", "context")}
    assert record["settings"] == expected | {"near": list(program["NEAR"])}
    assert sum(run["seconds"] for run in record["runs"]) < 180
    assert RECORD.with_suffix(".safetensors").stat().st_size < 1_000_000


def test_places_are_counted_from_the_line_break(program):
    assert program["counted"]("ab\ncd").tolist() == [1, 2, 0, 1, 2]
    assert program["counted"]("a. b", ".").tolist() == [1, 0, 1, 2]
    assert program["words"]("a b c\nd e").tolist() == [0, 1, 1, 2, 2, 0, 0, 1, 1]
    assert program["late"]("x" * 10 + "\nx").tolist() == [False] * 9 + [True, False, False]


def test_lines_hold_at_most_twenty_characters_and_every_word(program):
    chapter = "In the beginning God created the heavens and the earth.\nNow the earth was well-watered and empty."
    lines = program["in_lines"](chapter)
    assert lines.startswith("In the beginning God\ncreated the heavens\nand the earth. Now\n")
    assert max(map(len, lines.split("\n"))) <= 20 and lines.split() == chapter.split()


def test_what_is_judged_was_not_trained_on(texts):
    assert len(texts.choosing) == len(texts.judging) == 40
    joined = "\n".join(texts.train)
    assert all(chapter in joined for chapter in texts.choosing)
    assert not any(chapter in joined for chapter in texts.judging)


def test_area_under_the_curve(program):
    labels = torch.tensor([False, False, True, True])
    values = torch.tensor([[0.0, 3.0, 0.0], [1.0, 2.0, 2.0], [2.0, 1.0, 1.0], [3.0, 0.0, 3.0]])
    assert program["auc"](values, labels).tolist() == [1.0, 0.0, 0.75]
    assert program["choose"](values, labels) == (0, 1.0)
    assert program["choose"](values[:, 1:], labels) == (0, -1.0)


def test_counts_know_what_they_have_seen(program):
    counts = program["count_contexts"](["a" * 9 + "bc" + "\n" + "ab"])
    shares = program["by_counts"](counts, "a" * 9 + "bc")
    assert shares[0] < 0.5 < shares[-1]


def test_reading_is_the_models_and_a_held_unit_moves_the_others(program, texts, model):
    read = [text[:30 + 9 * n] for n, text in enumerate(texts.judging[:3])]
    memory, logits = program["read"](model, read, texts.tokenizer)
    assert len(memory) == len(logits) == sum(map(len, read))
    tokens = torch.tensor([texts.tokenizer.encode("\n" + read[2])])
    expected, (_, last) = model(tokens)
    torch.testing.assert_close(logits[-len(read[2]):], expected[0, 1:], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(memory[-1], last[0, 0], atol=1e-4, rtol=1e-4)
    held, _ = program["read"](model, read, texts.tokenizer, (5, 0.25))
    free = torch.arange(memory.size(1)) != 5
    assert not torch.allclose(held[:, free], memory[:, free])


def test_rows_read_on_where_they_stopped(program, texts):
    reading = program["Reading"](texts)
    assert torch.equal(reading(0)[:, -1], reading(1)[:, 0])
    assert reading(0).shape == (program["BATCH"], program["LENGTH"] + 1)


@pytest.mark.slow
def test_first_losses_are_those_of_the_record(program, record, texts):
    for run in record["runs"][:2]:
        assert program["fit"](texts, run["seed"], 3)[1] == pytest.approx(run["losses"][:3], abs=1e-3)


@pytest.mark.slow
def test_scores_are_those_of_the_record(program, record, texts, model):
    found, run = program["study"](model, texts, 0), record["runs"][0]
    assert found["chosen"]["unit"] == run["chosen"]["unit"]
    for name, areas in run["auc"].items():
        assert found["auc"][name] == pytest.approx(areas, abs=0.01), name
    for one, other in zip([*found["held"], found["second"]], [*run["held"], run["second"]], strict=True):
        assert one == pytest.approx(other, abs=0.01)
    assert found["within words"] == pytest.approx(run["within words"], abs=0.01)
    assert found["bits"] == pytest.approx(run["bits"], abs=0.01)


def test_refuses_unknown_arguments(program, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(TOOL), "record.json", "--color", "blue"])
    with pytest.raises(SystemExit):
        program["main"]()
    assert "--color" in capsys.readouterr().err
