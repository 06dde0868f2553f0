"""Rated sentences of reviews: from the archive that was fetched, checked, and split without copies."""

from pathlib import Path

import pytest

from tutorlib import packages
from tutorlib.data import sentiment
from tutorlib.data.sentiment import Sentence, load_sentences, load_sentiment, without_copies


@pytest.fixture(scope="module")
def splits():
    return load_sentiment()


def test_the_files_are_whole():
    movie, amazon = load_sentences("movie"), load_sentences("amazon")
    assert (len(movie), len(amazon)) == (10_605, 3_708)
    assert movie[2] == Sentence("Effective but too tepid biopic", -0.6, "3")
    assert len({sentence.review for sentence in amazon}) == 300
    assert all(-4 <= sentence.rating <= 4 and sentence.text.strip() for sentence in movie + amazon)
    assert not any("&amp;" in sentence.text for sentence in movie)  # written as they are read


def test_the_splits_are_clear_and_share_nothing(splits):
    assert [len(part) for part in splits] == [8520, 496, 1000, 2938]
    assert all(abs(sentence.rating) >= 0.5 for part in splits for sentence in part)
    assert all(0.45 < sum(sentence.label for sentence in part) / len(part) < 0.6 for part in splits)
    train, development, test, amazon = splits
    for some, others in ((train, test), (train, development), (development, test), (amazon, train + development)):
        assert len(without_copies(some, others)) == len(some)
        assert not {sentence.text.lower() for sentence in some} & {sentence.text.lower() for sentence in others}


def test_copies_are_found():
    def made(*texts):
        return [Sentence(text, 1.0, "1") for text in texts]

    others = made("a film that nobody should miss", "No surprises.")
    assert without_copies(made("A film, that nobody should have missed"), others) == []  # 2 of its 4 runs
    assert without_copies(made("no surprises"), others) == []
    kept = made("a film to miss", "surprises, no", "that nobody should have seen in a film", "")
    assert without_copies(kept, others) == kept


def test_the_label_is_the_sign_of_the_rating():
    assert [Sentence("", rating, "").label for rating in (-3.0, -0.5, 0.5, 4.0)] == [0, 0, 1, 1]


def test_another_name_is_refused():
    with pytest.raises(ValueError, match="name must be one of .*'movie', 'amazon'.*, got 'tweets'"):
        load_sentences("tweets")


def test_a_missing_archive_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(packages.sys, "prefix", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="The set of rated sentences comes from the source archive "
                                                "vaderSentiment-0.5.zip, .*make environment"):
        load_sentences("movie")


def test_another_archive_or_file_is_refused(monkeypatch):
    monkeypatch.setattr(sentiment, "FILES_SHA256", {"movie": "0" * 64})
    with pytest.raises(ValueError, match="movieReviewSnippets_GroundTruth.txt has sha256 c829"):
        load_sentences("movie")
    monkeypatch.setattr(sentiment, "SHA256", "0" * 64)
    with pytest.raises(ValueError, match="vaderSentiment-0.5.zip has sha256 5d97.*requirements-archives.txt"):
        load_sentences("movie")


def test_the_requirement_pins_the_archive_that_is_read():
    pinned = (Path(__file__).parents[2] / "requirements-archives.txt").read_text()
    assert f"vaderSentiment==0.5 --hash=sha256:{sentiment.SHA256}" in pinned
