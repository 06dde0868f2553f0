"""Dates and numbers as questions: answers that Python's library and num2words' rule agree with, no repeats, what is refused."""

from datetime import date

import pytest

from tutorlib.data.instructions import UNSEEN_FORMS, date_pairs, in_words, number_pairs, ordinal


def test_each_answer_is_its_date():
    pairs = date_pairs(40, seed=0)
    assert len({pair.answer for pair in pairs}) == 40
    assert all(1900 <= date.fromisoformat(pair.answer).year <= 2029 for pair in pairs)
    for pair in pairs:
        day = date.fromisoformat(pair.answer)
        assert f"{day:%B}"[:3] in pair.question and str(day.day) in pair.question and str(day.year) in pair.question


def test_forms_take_turns():
    day = lambda place, seed=0: date.fromisoformat(date_pairs(8, seed)[place].answer)  # noqa: E731
    questions = [pair.question for pair in date_pairs(8, 0)]
    assert questions[0] == f"{day(0):%B} {day(0).day}, {day(0).year}"
    assert questions[5] == f"{day(5).day} {day(5):%B} {day(5).year}"
    assert questions[2].startswith(f"{day(2):%B}"[:3] + " ") and questions[7].startswith(f"the {ordinal(day(7).day)} of")


def test_forms_that_are_kept_from_training():
    pairs = date_pairs(4, 0, UNSEEN_FORMS, (1900, 1900))
    days = [date.fromisoformat(pair.answer) for pair in pairs]
    assert {day.year for day in days} == {1900}
    assert pairs[0].question == f"{days[0]:%A}, {days[0].day} {days[0]:%B} {days[0].year}"
    assert pairs[1].question == f"1900, {days[1]:%B} {days[1].day}"
    assert pairs[2].question == f"{days[2].day}-{days[2]:%b}-1900".upper()
    assert pairs[3].question == f"{days[3].month}/{days[3].day}/1900"


def test_seeds():
    assert date_pairs(9, 3) == date_pairs(9, 3) != date_pairs(9, 4)
    assert number_pairs(9, 3) == number_pairs(9, 3) != number_pairs(9, 4)


@pytest.mark.parametrize("number, words", [
    (0, "zero"), (13, "thirteen"), (20, "twenty"), (45, "forty-five"), (100, "one hundred"), (815, "eight hundred fifteen"),
    (3045, "three thousand forty-five"), (10_000, "ten thousand"), (99_999, "ninety-nine thousand nine hundred ninety-nine"),
    (400_002, "four hundred thousand two")])
def test_numbers_in_words(number, words):
    assert in_words(number) == words


def test_no_two_numbers_share_their_words():
    assert len({in_words(number) for number in range(20_000)}) == 20_000


def test_ordinals():
    assert [ordinal(day) for day in (1, 2, 3, 4, 11, 12, 13, 21, 22, 23, 31)] == (
        "1st 2nd 3rd 4th 11th 12th 13th 21st 22nd 23rd 31st".split())


def test_digits_take_turns_while_there_are_any():
    lengths = [len(pair.question) for pair in number_pairs(30, 0, (1, 3))]
    assert lengths[:6] == [1, 3] * 3 and lengths.count(1) == 10 and lengths[-9:] == [3] * 9
    assert len({pair.question for pair in number_pairs(1000, 1)}) == 1000


def test_refusals():
    with pytest.raises(ValueError, match="count must be at most the 365 days"):
        date_pairs(366, 0, years=(1999, 1999))
    with pytest.raises(ValueError, match="count must be at most 100, the numbers of"):
        number_pairs(101, 0, (1, 2))
    with pytest.raises(ValueError, match="number must be at most 999999"):
        in_words(10**6)
    with pytest.raises(ValueError, match="number must be at least 0"):
        in_words(-1)
