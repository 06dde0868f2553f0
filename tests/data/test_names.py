"""Names by their capitals: by hand, and in the verses."""

import pytest

from tutorlib.data.names import load_names, name_tags, words_and_marks, words_with_capitals
from tutorlib.evaluation.spans import spans_of


@pytest.fixture(scope="module")
def names():
    return load_names()


def test_all_verses_and_their_tags(names):
    assert (len(names.train), len(names.test)) == (28_039, 3_056)
    tags = [tag for verse in names.train for tag in verse.tags]
    assert sum(tag != "O" for tag in tags) / len(tags) == pytest.approx(0.053, abs=0.0005)
    for verse in names.train + names.test:
        assert len(verse.words) == len(verse.tags)
        assert all(word == word.lower() for word in verse.words)
    assert [" ".join(verse.words) for verse in names.train[:1]] == ["in the beginning god created the heavens and the earth ."]
    assert names.train[0].tags == ["O"] * 3 + ["B-NAME"] + ["O"] * 7


def test_a_capital_behind_a_word_or_in_most_places():
    assert words_and_marks("Go to Beth-El, David's men!") == ["Go", "to", "Beth-El", ",", "David", "'s", "men", "!"]
    cut = [words_and_marks(text) for text in ("He saw David and a lord", "Lord, he saw Mark", "a mark on a mark")]
    mostly = words_with_capitals(cut)
    assert mostly == {"david"}  # "mark" has two small letters and one capital, "lord" one that counts
    assert name_tags(["David", ",", "Mark", "saw", "Mark", "David", ".", "I", "said", "I", "Lord"], mostly) == [
        "B-NAME", "O", "O", "O", "B-NAME", "I-NAME", "O", "O", "O", "O", "B-NAME"]
    assert len(spans_of(name_tags(["Simon", "Peter", "and", "James"], {"simon", "peter"}))) == 2
