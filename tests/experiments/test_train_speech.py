"""The record of the chapter on speech: whole, repeatable in its first steps, and drawn as it is."""

import re
from pathlib import Path

import pytest
import torch

from tutorlib.ctc import greedy_letters
from tutorlib.models import Speaker
from tutorlib.records import run_of
from tutorlib.speaking import load_speech
from tutorlib.text.spelling import decode_letters

ROOT = Path(__file__).parents[2] / "experiments"
TOOL = ROOT / "train_speech.py"
RECORD = ROOT / "records" / "speech.json"


def test_the_record_is_whole(program, record):
    assert [run_of(program["Run"], found) for found in record["runs"]] == program["RUNS"]
    assert sum(run["seconds"] for run in record["runs"]) < 20 * 60


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


def test_a_loud_chunk_is_over_twice_the_median(program):
    samples = torch.ones(5 * 512)
    samples[512:1024], samples[1024:1536] = 2.0, 1.3  # powers 4 and 1.7
    assert program["loud"](samples[:-100]).tolist() == [0, 1, 0, 0, 0]


def test_four_knocks_are_as_loud_as_told(program):
    out = program["knocked"](6 * 16_000, 0.3, torch.Generator().manual_seed(0))
    assert int(out.ne(0).sum()) == 4 * 1600 and out[:16_000].eq(0).all() and out[2 * 16_000 + 1600:4 * 16_000].eq(0).all()
    assert out[out != 0].std() == pytest.approx(0.3, rel=0.05)


def test_the_search_of_letters_read_counts_edits(program):
    ids = torch.tensor([0, 3, 3, 0, 1, 2, 0, 2, 1])  # reads 3 1 2 2 1
    scores = program["spot_spelling"](torch.stack([ids, torch.zeros_like(ids)]), [1, 2])
    assert scores.tolist() == [[-2, -2, -2, -2, -1, 0, 0, -1, -1], [-2] * 9]


def test_letters_told_are_the_teacher_s_alignment(program):
    mel = program["test_sounds"]("neither new")[0]
    from tutorlib.layers.spectrogram import log_mel
    bands, recognizer = log_mel(mel.samples), load_speech()[0]
    told = program["told_when"](recognizer, mel.text, bands)
    assert len(told) == (len(bands) + 1) // 2
    assert decode_letters(torch.tensor(told).unique_consecutive().tolist()) == re.sub(r"(.)\1", r"\1", mel.text)
    assert len(program["told_when"](recognizer, "abc" * 20, bands[:20])) == 10  # does not fit: evenly


def test_a_lone_letter_hears_no_neighbor(program):
    torch.manual_seed(0)
    model, speaker = program["LoneSpeaker"]().eval(), Speaker().eval()
    speaker.load_state_dict(model.state_dict())
    durations = torch.tensor([3, 9, 4])
    with torch.no_grad():
        one, another = (model(torch.tensor([a, 7, b]), durations)[0][3:12] for a, b in ((1, 2), (20, 5)))
        usual, changed = (speaker(torch.tensor([a, 7, b]), durations)[0][3:12] for a, b in ((1, 2), (20, 5)))
    assert torch.allclose(one, another, atol=1e-5) and not torch.allclose(usual, changed, atol=1e-2)


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
