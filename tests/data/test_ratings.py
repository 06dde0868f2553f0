"""A reader's file of ratings: what is read, in which order, and what is refused, with its line."""

import math
import pickle

import pytest

from tutorlib.data.ratings import read_ratings

GOOD = "user,item,rating,timestamp\nann,tea,4,30\nbob,jam,2.5,10\nann,jam,5,20\nann,tea,1,40\n"


@pytest.fixture
def file(tmp_path):
    def write(text, encoding="utf-8"):
        path = tmp_path / "ratings.csv"
        path.write_bytes(text.encode(encoding))
        return path
    return write


def test_lines_come_in_the_order_of_their_times(file):
    ratings = read_ratings(file(GOOD))
    assert [line.time for line in ratings.lines] == [10, 20, 30, 40] and ratings.items == ["jam", "tea"]
    assert ratings.histories() == {"bob": [(1, 10.0)], "ann": [(1, 20.0), (2, 30.0)]}  # an item at its first time
    assert ratings.histories(least=3) == {"ann": [(1, 20.0), (2, 30.0)]}


def test_columns_may_stand_in_any_order_among_others(file):
    text = "note,timestamp,Rating,item, user\n\"x, y\",1,3,\"a \"\"b\"\"\",ann\n"
    assert read_ratings(file(text)).lines == [("ann", 'a "b"', 3.0, 1.0)]


def test_a_byte_order_mark_and_windows_line_ends_are_no_matter(file):
    assert read_ratings(file("\ufeff" + GOOD.replace("\n", "\r\n"))).items == ["jam", "tea"]


@pytest.mark.parametrize("text, said", [
    ("", "line 1: the header must name each of user, item, rating, timestamp once, got ''"),
    ("user,item,rating\na,b,1\n", "line 1: the header must name"),
    ("user,item,rating,rating,timestamp\na,b,1,1,1\n", "line 1: the header must name"),
    ("user,item,rating,timestamp\n", "no line below the header"),
    (GOOD + "ann,tea,4\n", "line 6: expected 4 values, as the header has, got 3"),
    (GOOD + "ann,,4,1\n", "line 6: item must be a name, got nothing"),
    (GOOD + " ,tea,4,1\n", "line 6: user must be a name, got nothing"),
    (GOOD + "ann,tea,good,1\n", "line 6: rating must be a finite number, got 'good'"),
    (GOOD + "ann,tea,nan,1\n", "line 6: rating must be a finite number, got 'nan'"),
    (GOOD + "\n\nann,tea,4,2020-01-01\n", "line 8: timestamp must be a finite number, got '2020-01-01'"),
    (GOOD + 'ann,"tea"x,4,1\n', "line 6: "),
])
def test_a_bad_line_is_refused_with_its_number(file, text, said):
    with pytest.raises(ValueError, match="ratings.csv") as caught:
        read_ratings(file(text))
    assert said in str(caught.value)


def test_what_is_no_text_is_refused_and_nothing_is_unpickled(tmp_path):
    path = tmp_path / "ratings.csv"
    path.write_bytes(pickle.dumps([math.pi, "x" * 300]))
    with pytest.raises(ValueError, match="ratings.csv"):
        read_ratings(path)
    with pytest.raises(FileNotFoundError):
        read_ratings(tmp_path / "none.csv")
