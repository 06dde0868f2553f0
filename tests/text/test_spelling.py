"""Letters and their ids."""

import pytest

from tutorlib.text.spelling import decode_letters, encode_letters


def test_there_and_back():
    assert encode_letters("a z") == [2, 1, 27] == encode_letters("A Z") and decode_letters([2, 1, 27]) == "a z"
    assert encode_letters("") == [] and decode_letters([]) == ""


def test_refusals():
    with pytest.raises(ValueError, match="text must have letters a to z and spaces only, got '4' in 'route 4'"):
        encode_letters("route 4")
    with pytest.raises(ValueError, match="ids must be from 1 to 27, got 0"):
        decode_letters([1, 0])
