"""The memory, the word table and the counted dictionary: what they find in pairs whose truth is known."""

import pytest
import torch

from tutorlib.baselines.translation import (
    NOTHING,
    TranslationMemory,
    align_words,
    count_phrases,
    count_words,
    word_by_word,
)
from tutorlib.data.word_order import draw_sentences

TINY = [(["the", "dog"], ["DER", "HUND"]), (["the", "cat"], ["DIE", "KATZE"]), (["dog"], ["HUND"])]


def test_the_memory_finds_the_most_similar_source_and_says_how_similar():
    memory = TranslationMemory([("Close file", "1"), ("Open file", "2"), ("Close File", "3")])
    assert memory("close file") == ("Close file", "1", 1.0)  # case aside; of equals the first
    found = memory("Open files")
    assert found.target == "2" and 0.7 < found.similarity < 1
    assert memory("xyz").similarity == 0


def test_similarity_is_dices_share_of_trigrams():
    # "  ab  ": four trigrams; "  ac  ": four; only "  a" is shared
    assert TranslationMemory([("ab", "")])("ac").similarity == pytest.approx(2 * 1 / 8)


def test_one_round_by_hand():
    table = count_words(TINY, rounds=1)
    # HUND: 1/3 each of NOTHING, the, dog in the first pair; 1/2 each of NOTHING and dog in the third
    assert table["dog"]["HUND"] == pytest.approx((1 / 3 + 1 / 2) / (1 / 3 + 1 / 3 + 1 / 2))
    assert table["the"]["KATZE"] == pytest.approx(1 / 4)


def test_every_row_sums_to_one_and_the_likelihood_never_falls():
    def likelihood(table):
        return torch.tensor([sum(table[s].get(t, 0) for s in (NOTHING, *source)) / (len(source) + 1)
                             for source, target in TINY for t in target]).log().sum()
    tables = [count_words(TINY, rounds) for rounds in (1, 2, 5, 20)]
    assert all(sum(row.values()) == pytest.approx(1) for table in tables for row in table.values())
    found = [likelihood(table).item() for table in tables]
    assert found == sorted(found) and found[-1] > found[0] + 0.1


def test_learns_the_made_languages_words_and_nearly_its_alignment():
    sentences = draw_sentences(400, torch.Generator().manual_seed(0))
    table = count_words([(s.source, s.target) for s in sentences], rounds=5)
    assert all(word_by_word([word], table) == [word.upper()] for word in table if word)
    once = [s for s in sentences if len(set(s.source)) == len(s.source)]
    assert all(align_words(s.source, s.target, table) == list(s.alignment) for s in once)
    assert len(once) > 50


def test_a_word_of_nothing_is_aligned_with_none_and_an_unknown_one_left_out():
    table = {NOTHING: {"了": 0.9}, "dog": {"狗": 1.0}}
    assert align_words(["dog"], ["了", "狗"], table) == [None, 0]
    assert word_by_word(["dog", "cat"], table) == ["狗"]


def test_a_phrase_is_the_run_that_goes_with_the_word():
    pairs = [(["close", "cell"], "关闭单元格"), (["open", "cell"], "打开单元格"), (["open"], "打开"),
             (["close"], "关闭"), (["a", "cell"], "单元格")]
    phrases = count_phrases(pairs)
    assert phrases["cell"] == "单元格" and phrases["close"] == "关闭" and phrases["open"] == "打开"
    assert max(map(len, count_phrases(pairs, longest=2).values())) == 2


def test_refusals():
    for call in (TranslationMemory, count_words, count_phrases):
        with pytest.raises(ValueError, match="pairs must be at least one"):
            call([])
    with pytest.raises(ValueError, match="rounds"):
        count_words(TINY, rounds=0)
    with pytest.raises(ValueError, match="longest"):
        count_phrases([(["a"], "b")], longest=0)
