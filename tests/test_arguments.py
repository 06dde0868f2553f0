"""Whole numbers, strings, ids: what passes and what does not."""

import numpy as np
import pytest
import torch

from tutorlib.arguments import check_string, check_whole, whole_numbers


def test_whole_numbers_pass_from_the_least_on():
    check_whole("n", 1)
    check_whole("n", np.int64(3), least=3)
    check_whole("n", 0, least=0)
    for value, message in ((0, "n must be at least 1, got 0"), (2.0, "n must be a whole number, got 2.0"),
                           (True, "n must be a whole number, got True"), (None, "whole number, got None"),
                           ("3", "whole number, got '3'"), (float("nan"), "whole number, got nan")):
        with pytest.raises(ValueError, match=message):
            check_whole("n", value)


def test_strings_pass_and_nothing_else():
    check_string("text", "")
    for value in (b"a", ["a"], None, 3):
        with pytest.raises(ValueError, match="text must be a string, got"):
            check_string("text", value)


@pytest.mark.parametrize("values", [[3, 4], (3, 4), iter([3, 4]), np.array([3, 4]), np.array([3, 4], dtype=np.uint8),
                                    torch.tensor([3, 4]), torch.tensor([3, 4]).int(), [torch.tensor(3), np.int16(4)]])
def test_ids_are_ints_wherever_they_come_from(values):
    numbers = whole_numbers("ids", values)
    assert numbers == [3, 4] and {type(number) for number in numbers} == {int}


@pytest.mark.parametrize("values", [[3.0], [True], np.array([3.0]), torch.tensor([3.0]), torch.tensor([[3]]), ["3"], [None]])
def test_what_would_have_to_be_rounded_is_refused(values):
    with pytest.raises(ValueError, match="ids must be whole numbers, got"):
        whole_numbers("ids", values)
