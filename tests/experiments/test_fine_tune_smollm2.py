"""The record of teaching SmolLM2: its first steps come out again, its runs are planned ones, its questions were not taught."""

import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from safetensors.torch import load_file

from tutorlib.models.llama import Llama, LlamaConfig

ROOT = Path(__file__).parents[2]
TOOL = ROOT / "experiments" / "fine_tune_smollm2.py"
RECORD = ROOT / "experiments" / "records" / "fine_tune_smollm2.json"


@pytest.mark.slow
def test_the_first_steps_come_out_again(record, program):
    """In float32, from the real weights; another processor rounds otherwise, by less than this."""
    assert program["Bench"](None).first_losses() == pytest.approx(record["first_losses"], abs=2e-3)


def test_every_run_is_a_planned_one(record, program):
    planned = program["planned"]()
    found = [program["Run"](**{field: run[field] for field in program["Run"]._fields}) for run in record["runs"]]
    assert found == planned[:len(found)] and len(set(found)) == len(found)


def test_as_many_answers_as_questions(record, program):
    for run in record["runs"]:
        asked = program["asked"](run["task"])
        assert run["extra"] in ("", "shuffled", "mixed", *program["MORE"])
        assert {kind: len(bits) for kind, bits in run["right"].items()} == {kind: len(pairs) for kind, pairs in asked.items()}
        assert set("".join(run["right"].values())) <= {"0", "1"}


def test_what_was_said_is_what_counts(record):
    """Said greedily and counted by its most probable tokens; bfloat16 may differ where two are as probable."""
    agree = [(answer == said) == (run["right"][kind][place] == "1") for run in record["runs"] for kind in run.get("said", ())
             for place, (_, answer, said) in enumerate(run["said"][kind])]
    assert sum(agree) >= 0.95 * len(agree)


@pytest.mark.parametrize("task", ["dates", "numbers"])
@pytest.mark.parametrize("seed", [0, 1])
def test_no_question_of_the_test_is_taught(task, seed, program):
    taught = program["taught"](program["Run"](task, "adapter", seed=seed))
    assert len(taught) == program["BATCH"] * program["STEPS"][task] == len(set(taught))
    held_out = program["asked"](task)["held out"]
    assert not {pair.answer for pair in taught} & {pair.answer for pair in held_out}


def test_shuffled_answers_are_the_same_answers(program):
    plain, mixed = (program["taught"](program["Run"]("dates", "adapter", extra=extra)) for extra in ("", "shuffled"))
    assert sorted(pair.answer for pair in plain) == sorted(pair.answer for pair in mixed)
    assert [pair.question for pair in plain] == [pair.question for pair in mixed]
    assert sum(one == two for one, two in zip(plain, mixed, strict=True)) < 5


def test_numbers_that_were_trained(record):
    sizes = {"output matrix": 49152 * 576, "all weights": 134_515_008}
    for run in record["runs"]:
        if run["arm"] == "adapter" and run["places"] == "all":
            assert run["trained"] == 305_280 * run["rank"]
        elif run["arm"] in sizes:
            assert run["trained"] == sizes[run["arm"]]


def test_the_file_is_the_adapter(program):
    weights = load_file(RECORD.with_suffix(".safetensors"))
    assert len(weights) == 2 * 210 and {value.dtype for value in weights.values()} == {torch.float16}
    assert {value.shape[0] for name, value in weights.items() if name.endswith("down")} == {program["SAVED"].rank}
    assert RECORD.with_suffix(".safetensors").stat().st_size < 4_000_000


def test_the_drawing_shows_the_record(record):
    drawing = ElementTree.parse(ROOT / "book" / "drawings" / "fine-tuning-two.svg")
    shown = {node.get("data-of"): node.text for node in drawing.iter() if node.get("data-of")}
    assert len(shown) >= 9
    arms = {"before": next(run for run in record["runs"] if run["arm"] == "none" and run["task"] == "dates"),
            "shots": max((run for run in record["runs"] if run["arm"] == "shots" and run["task"] == "dates"),
                         key=lambda run: run["right"]["held out"].count("1")),
            "after": next(run for run in record["runs"] if run["rank"] == 4 and run["arm"] == "adapter")}
    for key, text in shown.items():
        arm, kind, *place = key.split("/")
        run = arms[arm]
        if place:
            assert text == run["said"][kind][int(place[0])][2].replace("\n", " ")[:len(text)] and text, key
        else:
            bits = run["right"][kind]
            assert text == f"{100 * bits.count('1') / len(bits):.0f} %", key


def test_what_is_alike_is_read_once(program):
    """A small model stands for the real one: from the cache of the common beginning come the answers of whole prompts."""
    torch.manual_seed(0)
    model = Llama(LlamaConfig(40, 32, 16, 2, 2, 4, 24)).eval()
    bench = object.__new__(program["Bench"])
    bench.autocast = None
    prompts = [[3, 1, 4, 1, 5, 9, 2, first, 6] for first in range(10, 22)]
    with torch.no_grad():
        best = [model(torch.tensor([prompt]))[0, -1].argmax().item() for prompt in prompts]
        answers = [[token if place % 2 else (token + 1) % 40] for place, token in enumerate(best)]
        assert bench.right_from(model, prompts, answers) == "01" * 6


def test_refuses_unknown_arguments(monkeypatch, capsys, program):
    monkeypatch.setattr(sys, "argv", [str(TOOL), "record.json", "--color", "blue"])
    with pytest.raises(SystemExit):
        program["main"]()
    assert "--color" in capsys.readouterr().err
