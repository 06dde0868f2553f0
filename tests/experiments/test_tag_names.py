"""The record of finding names: its first steps and scores come out again."""

from pathlib import Path

import pytest
import torch

from tutorlib.evaluation.spans import span_scores

ROOT = Path(__file__).parents[2]
TOOL = ROOT / "experiments" / "tag_names.py"
RECORD = ROOT / "experiments" / "records" / "tag_names.json"


@pytest.fixture(scope="module")
def tagger(program):
    return program["Tagger"](None)


@pytest.mark.slow
def test_the_first_steps_come_out_again(tagger, record):
    assert tagger.first_losses() == pytest.approx(record["first_losses"], abs=3e-3)


def test_the_kept_tags_have_the_score(tagger, record):
    full = {"O": "O", "B": "B-NAME", "I": "I-NAME"}
    expected = [verse.tags for verse in tagger.test]
    for run in record["runs"]:
        tags = [[full[tag] for tag in row] for row in run["tags"]]
        assert span_scores(tags, expected).f1 == pytest.approx(run["f1"], abs=1e-4)


def test_each_word_has_its_tag_at_its_first_piece(tagger, program):
    verse = program["TaggedVerse"](["nebuchadnezzar", "went", "to", "bethsaida"], ["B-NAME", "O", "O", "B-NAME"])
    tokens, mask, targets = tagger.batch([verse, program["TaggedVerse"](["so"], ["O"])])
    assert tokens.shape == mask.shape == targets.shape and mask[1].tolist()[:4] == [1, 1, 1, 0]
    asked = targets[0][targets[0] != program["NO_CLASS"]]
    assert asked.tolist() == [1, 0, 0, 1] and targets[0, 0] == program["NO_CLASS"] and targets[0, 1] == 1
    ids, first = tagger.pieces(verse.words)
    assert len(first) == 4 and len(ids) > 6  # the names are cut into pieces
    assert len(tagger.pieces(["word"] * 200)[0]) <= program["LONGEST"]


def test_a_perfect_head_gives_the_tags_back(tagger, program):
    class Oracle(torch.nn.Module):
        def forward(self, tokens, mask):
            return torch.nn.functional.one_hot((tokens == tagger.tokenizer.vocabulary["david"]).long(), 3).float()

    words = [["king", "david", "said"], ["david"], ["so"] * 120]
    assert tagger.tagged(Oracle(), words) == [["O", "B-NAME", "O"], ["B-NAME"], ["O"] * 120]


def test_batches_hold_every_verse_once(tagger):
    verses = tagger.learned(tagger_run(tagger)("MiniLM", 96, 0))
    seen = [tuple(verse.words) for step in range(6) for verse in tagger.of_similar_length(verses, 0, step)]
    assert sorted(seen) == sorted(tuple(verse.words) for verse in verses)


def tagger_run(tagger):
    return type(tagger).fitted.__globals__["Run"]
