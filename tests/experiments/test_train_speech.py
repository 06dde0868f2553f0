"""The record of the chapter on speech: whole, repeatable in its first steps, and drawn as it is."""

from pathlib import Path

import pytest
import torch

from tutorlib.ctc import greedy_letters
from tutorlib.records import run_of
from tutorlib.speaking import load_speech
from tutorlib.text.spelling import decode_letters

ROOT = Path(__file__).parents[2] / "experiments"
TOOL = ROOT / "train_speech.py"
RECORD = ROOT / "records" / "speech.json"


def test_the_record_is_whole(program, record):
    assert [run_of(program["Run"], found) for found in record["runs"]] == program["RUNS"]
    assert sum(run["seconds"] for run in record["runs"]) < 15 * 60


def test_the_first_steps_come_out_as_the_record_says(program, record):
    assert program["first_losses"]() == pytest.approx(record["first"], rel=0.02)


def test_the_kept_recognizer_reads_as_the_record_says(program, record):
    best = next(run for run in record["runs"] if run["steps"] == program["LONG"])
    spoken = program["test_sounds"]("voice new")[:60]
    found = [decode_letters(ids) for ids in program["read"](load_speech()[0], program["disturbed"](spoken, None))]
    rate = program["rates"](found, [each.text for each in spoken])["cer"]
    assert rate == pytest.approx(best["scores"]["voice new"]["cer"], abs=0.08)  # 60 of 250 utterances, error .03


def test_a_stream_says_where_its_keywords_end(program, monkeypatch):
    for name, value in (("MINUTES", 1), ("SAID", 2)):
        monkeypatch.setitem(program["stream"].__globals__, name, value)
    samples, ends = program["stream"]()
    assert samples.shape == (1, 60 * 16_000) and [len(each) for each in ends.values()] == [2, 2, 2]
    assert all(0 < start < end <= 3015 for each in ends.values() for start, end in each)


def test_an_opened_gate_has_margins(program):
    probabilities = torch.zeros(30)
    probabilities[10:12] = 0.9
    assert program["opened"](probabilities, before=3, after=6).nonzero()[:, 0].tolist() == list(range(7, 18))


def test_average_letters_have_their_mean_length_and_sound(program):
    rows = [(torch.tensor([1, 2]), torch.tensor([5, 10]), torch.cat([torch.ones(5, 4), torch.full((10, 4), 2.0)])),
            (torch.tensor([1]), torch.tensor([5]), torch.full((5, 4), 3.0))]
    said = program["average_letters"](rows)(torch.tensor([2, 1]))
    assert said.shape == (15, 4) and said[:10].eq(2).all() and said[10:].eq(2).all()


def test_the_drawing_shows_what_is_read(record):
    from tutorlib.data.synthesis import Request, synthesize
    from tutorlib.data.utterances import leveled
    from tutorlib.layers.spectrogram import log_mel

    sound = leveled(synthesize([Request("the king had seven sons", "m5")])[0])
    with torch.no_grad():
        log_probs = load_speech()[0](log_mel(sound)[None])
    read = decode_letters(greedy_letters(log_probs, torch.tensor([log_probs.size(1)]))[0])
    drawing = (ROOT.parent / "book" / "drawings" / "speech-read.svg").read_text(encoding="utf-8")
    assert ">thakin had seven suns<" in drawing
    assert sum(a != b for a, b in zip(read, "thakin had seven suns", strict=False)) <= 3
