"""The interface strings: their numbers, their split, and what is left out."""

import re
import sys

import pytest

from tutorlib.data import interface_strings
from tutorlib.data.interface_strings import Pair, _read, group_of, load_interface_strings, split, string_words


@pytest.fixture(scope="module")
def splits():
    return load_interface_strings()


def test_counts_are_stable_and_the_package_is_not_imported(splits):
    assert [len(part) for part in splits] == [2035, 124, 512]
    assert "jupyterlab_language_pack_zh_CN" not in sys.modules


def test_no_source_of_one_part_is_in_another_whatever_its_case_and_punctuation(splits):
    groups = [{group_of(pair.source) for pair in part} for part in splits]
    assert not groups[0] & groups[1] and not groups[0] & groups[2] and not groups[1] & groups[2]
    sources = [pair.source for part in splits for pair in part]
    assert len(sources) == len(set(sources))


def test_a_pair_is_short_english_and_chinese(splits):
    for part in splits:
        assert all(len(pair.source) <= 60 and re.search("[a-z]", pair.source.lower()) for pair in part)
        assert all(re.search("[\u4e00-\u9fff]", pair.target) and pair.target == " ".join(pair.target.split()) for pair in part)
    assert Pair("Save", "保存") in [pair for part in splits for pair in part]


def test_shorter_ones_are_some_of_them(splits):
    assert {pair for part in load_interface_strings(20) for pair in part} < {pair for part in splits for pair in part}


def test_entries_lose_context_plural_forms_and_what_has_no_chinese():
    entries = {"": {"domain": "x"}, "menu\x04Open": ["打开"], "%1 file": ["%1 个文件", "另"], "OK": ["OK"], "12": ["十二"],
               "None": []}
    assert _read(entries) == [("Open", "打开"), ("%1 file", "%1 个文件")]


def test_words_are_small_and_signs_alone():
    assert string_words("Don't open %1 files… (v2.10)") == "don ' t open %1 files … ( v 2 . 1 0 )".split()


def test_a_split_depends_on_the_group_alone():
    pairs = [Pair(f"{word}{end}", "字") for word in ("open", "save", "close", "undo", "cut") for end in ("", "…", " !")]
    parts = split(pairs, valid=0.3, test=0.3)
    assert sum(map(len, parts)) == 15 and all(len(part) % 3 == 0 for part in parts)
    alone = split(pairs[:3], valid=0.3, test=0.3)
    assert [bool(part) for part in alone] == [pairs[0] in part for part in parts]


def test_refusals(monkeypatch):
    with pytest.raises(ValueError, match="valid and test must be shares"):
        split([], valid=0.9, test=0.2)
    with pytest.raises(ValueError, match="longest"):
        load_interface_strings(0)
    monkeypatch.setattr(interface_strings, "SHA256", "0" * 64)
    with pytest.raises(ValueError, match="the interface strings have sha256 .*; expected 0000"):
        load_interface_strings()
