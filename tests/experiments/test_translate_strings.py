"""The record of the translator: whole, of the strings that there are, and its first losses come out again."""

from pathlib import Path

import pytest
import torch

from tutorlib.data.interface_strings import load_interface_strings, string_words
from tutorlib.evaluation.translation import chrf
from tutorlib.translating import UNKNOWN, Translation, load_translator, new_translator, translate

ROOT = Path(__file__).parents[2]
TOOL = ROOT / "experiments" / "translate_strings.py"
RECORD = ROOT / "experiments" / "records" / "translate_strings.json"


def test_the_record_is_whole(program, record):
    assert record["settings"] == program["settings"]()
    assert [program["Run"](run["pairs"], run["seed"], run["hidden"]) for run in record["runs"]] == program["PLANNED"]
    assert all(len(run["written"]) == 512 for run in record["runs"])
    assert [(entry["beams"], entry["penalty"]) for entry in record["beams"]] == [
        (beams, penalty) for beams in program["BEAMS"] for penalty in (0.0, 1.0)]
    assert all(len(entry[name]) == program["SEARCHED"] for entry in record["beams"] for name in ("written", "chrf", "log p"))


def test_scores_are_of_what_was_written_and_one_beam_is_greedy(record):
    test = load_interface_strings().test
    for entry in record["beams"]:
        assert all(abs(chrf(text, pair.target) - score) < 0.006
                   for text, pair, score in zip(entry["written"], test, entry["chrf"]))
    assert record["beams"][0]["written"] == record["beams"][1]["written"] == record["runs"][0]["written"][:256]


def test_harder_search_finds_what_is_more_probable(record):
    sums = [sum(entry["log p"]) for entry in record["beams"] if entry["penalty"] == 0]
    assert sums == sorted(sums)


def test_a_sum_is_the_score_times_the_length_that_divided_it(program):
    assert program["translate_sums"]([Translation("ab", -1.0)], 1.0) == [-3.0]  # two characters and the end
    assert program["translate_sums"]([Translation("ab", -1.0), Translation("a" * 60, -1.0)], 0.0) == [-1.0, -1.0]
    assert program["translate_sums"]([Translation("a" * 60, -1.0)], 1.0) == [-60.0]  # cut off: no end was paid for


def test_fewer_pairs_are_some_of_them(program):
    pairs = load_interface_strings().train
    few = program["drawn"](program["Run"](509, 0), pairs)
    assert len(few) == len(set(few)) == 509 and set(few) < set(pairs)
    assert program["drawn"](program["Run"](2035, 1), pairs) == pairs


def test_one_known_word_of_each_string_is_hidden(program, record):
    splits = load_interface_strings()
    seen = {word for pair in splits.train for word in string_words(pair.source)}
    pairs = program["one_word_hidden"](splits)
    assert len(pairs) == 200
    for whole, hidden in pairs:
        words, others = whole.split(), hidden.split()
        assert set(words) <= seen and 2 <= len(words) <= 6
        assert [b for a, b in zip(words, others, strict=True) if a != b] == ["zzz"] and "zzz" not in seen
    for run in record["runs"]:
        assert len(run.get("one word hidden", ())) == len(run.get("words known", ())) == 200 * (run["hidden"] > 0)


def test_words_are_hidden_from_the_reader_alone(program, monkeypatch):
    shown = []

    def watch(model, batches, *_, **__):
        shown.extend(batches(step) for step in range(3))
        raise StopIteration
    monkeypatch.setitem(program["trained"].__globals__, "train", watch)
    pairs = load_interface_strings().train[:200]
    for hidden in (0.0, 0.1):
        with pytest.raises(StopIteration):
            program["trained"](program["Run"](200, 0, hidden), pairs)
    words = new_translator(pairs).words
    unknown = words.encode([UNKNOWN])[0]
    for (plain, *given), (some, *same) in zip(shown[:3], shown[3:], strict=True):
        changed = plain != some
        assert all(map(torch.equal, given, same)) and (some[changed] == unknown).all() and (plain != unknown).all()
        assert changed.any() and not {words.pad, words.end} & set(plain[changed].tolist())


def test_the_weights_write_what_the_record_says(program, record):
    translator = load_translator()
    sources = [pair.source for pair in load_interface_strings().test[:48]]
    written = [each.text for each in translate(translator, sources)]
    assert sum(a == b for a, b in zip(written, record["runs"][0]["written"], strict=False)) >= 46


@pytest.mark.slow
def test_first_losses_are_those_of_the_record(program, record):
    run = program["PLANNED"][4]
    _, losses = program["trained"](run, program["drawn"](run, load_interface_strings().train), steps=3)
    assert losses == pytest.approx(record["runs"][4]["losses"][:3], abs=2e-3)
