"""Two small tasks to teach a chat model, with answers that a program knows: dates to ISO 8601, numbers to English words.

Each is an instruction, and pairs of what is asked and what is to be answered. Both come with questions of a kind that is
meant to be kept from training: other ways to write a date, longer numbers.
"""

from collections.abc import Callable, Sequence
from datetime import date, timedelta
from typing import NamedTuple

import torch

from tutorlib.arguments import check_whole
from tutorlib.data.batches import numbered_generator

MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
          "December")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
SMALL = ("zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
         "eighteen nineteen").split()
TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()


class Pair(NamedTuple):
    """A question and its one right answer."""

    question: str
    answer: str


# -- dates ------------------------------------------------------------------------------------------------------------

DATE_INSTRUCTION = "Write the date as YYYY-MM-DD."
FIRST_YEAR, LAST_YEAR = 1900, 2029
SEEN_FORMS: tuple[Callable[[date], str], ...] = (
    lambda day: f"{MONTHS[day.month - 1]} {day.day}, {day.year}",  # March 3, 1994
    lambda day: f"{day.day} {MONTHS[day.month - 1]} {day.year}",  # 3 March 1994
    lambda day: f"{MONTHS[day.month - 1][:3]} {day.day}, {day.year}",  # Mar 3, 1994
    lambda day: f"the {ordinal(day.day)} of {MONTHS[day.month - 1]}, {day.year}",  # the 3rd of March, 1994
)
UNSEEN_FORMS: tuple[Callable[[date], str], ...] = (
    lambda day: f"{DAYS[day.weekday()]}, {day.day} {MONTHS[day.month - 1]} {day.year}",  # Thursday, 3 March 1994
    lambda day: f"{day.year}, {MONTHS[day.month - 1]} {day.day}",  # 1994, March 3
    lambda day: f"{day.day}-{MONTHS[day.month - 1][:3].upper()}-{day.year}",  # 3-MAR-1994
    lambda day: f"{day.month}/{day.day}/{day.year}",  # 3/3/1994, the American order
)


def ordinal(number: int) -> str:
    """1 -> 1st, 2 -> 2nd, 11 -> 11th: as days are counted."""
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def date_pairs(count: int, seed: int, forms: Sequence[Callable[[date], str]] = SEEN_FORMS,
               years: tuple[int, int] = (FIRST_YEAR, LAST_YEAR)) -> list[Pair]:
    """`count` different days of the years from the first to the last, each in the form whose turn it is.

    Raises ValueError for a count that the years have not, or no form.
    """
    check_whole("count", count)
    first = date(years[0], 1, 1)
    days = (date(years[1], 12, 31) - first).days + 1
    if count > days or not forms:
        raise ValueError(f"count must be at most the {days} days of {years}, and forms not empty, got {count}, {len(forms)}")
    drawn = torch.randperm(days, generator=numbered_generator(seed, 0))[:count].tolist()
    chosen = [first + timedelta(days=place) for place in drawn]
    return [Pair(forms[place % len(forms)](day), day.isoformat()) for place, day in enumerate(chosen)]


# -- numbers ----------------------------------------------------------------------------------------------------------

NUMBER_INSTRUCTION = "Write the number in words."


def in_words(number: int) -> str:
    """A whole number from 0 to 999,999 in American English: 3045 -> three thousand forty-five.

    Raises ValueError for another one.
    """
    check_whole("number", number, least=0)
    if number > 999_999:
        raise ValueError(f"number must be at most 999999, got {number}")
    if number >= 1000:
        return _joined(f"{in_words(number // 1000)} thousand", number % 1000)
    if number >= 100:
        return _joined(f"{SMALL[number // 100]} hundred", number % 100)
    if number >= 20:
        return TENS[number // 10 - 2] + (f"-{SMALL[number % 10]}" if number % 10 else "")
    return SMALL[number]


def _joined(words: str, rest: int) -> str:
    return f"{words} {in_words(rest)}" if rest else words


def number_pairs(count: int, seed: int, digits: Sequence[int] = (1, 2, 3, 4)) -> list[Pair]:
    """`count` different numbers, of so many digits each in turn while there are any.

    Raises ValueError for more numbers than there are.
    """
    check_whole("count", count)
    ranges = [range(10 ** (length - 1) if length > 1 else 0, 10**length) for length in digits]
    if count > sum(map(len, ranges)):
        raise ValueError(f"count must be at most {sum(map(len, ranges))}, the numbers of {tuple(digits)} digits, got {count}")
    orders = [torch.randperm(len(some), generator=numbered_generator(seed, length)).tolist()
              for length, some in zip(digits, ranges, strict=True)]
    found: list[int] = []
    for turn in range(max(map(len, ranges))):
        found += [some[order[turn]] for some, order in zip(ranges, orders, strict=True) if turn < len(some)]
        if len(found) >= count:
            break
    return [Pair(str(number), in_words(number)) for number in found[:count]]
