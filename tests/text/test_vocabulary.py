"""Symbols to ids and back."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tutorlib.text.vocabulary import Vocabulary, pad_right

LETTERS = Vocabulary("abc")


@given(st.lists(st.sampled_from("abc")))
def test_decode_undoes_encode_with_marks_and_padding_around(symbols):
    ids = [LETTERS.begin, *LETTERS.encode(symbols), LETTERS.end, LETTERS.encode("a")[0], LETTERS.pad]
    assert LETTERS.decode(ids) == tuple(symbols)  # what follows the end mark does not count
    assert LETTERS.decode(torch.tensor(ids)) == tuple(symbols)


def test_padding_and_begin_are_left_out_wherever_they_stand():
    assert LETTERS.decode([0, 1, 3, 0, 4, 1, 5]) == ("a", "b", "c")


def test_ids_are_fixed():
    assert LETTERS.encode("abc") == [3, 4, 5] and len(LETTERS) == 6
    assert (LETTERS.pad, LETTERS.begin, LETTERS.end) == (0, 1, 2)


def test_padding_is_at_the_right():
    assert pad_right([[5], [3, 4]]).tolist() == [[5, 0], [3, 4]]
    assert pad_right([[5], [3, 4]], pad=9).tolist() == [[5, 9], [3, 4]]


def test_refusals():
    with pytest.raises(ValueError, match="unknown symbol 'd'"):
        LETTERS.encode("ad")
    for number in (-1, 6):
        with pytest.raises(ValueError, match=f"ids: {number} is out of range; expected 0 to 5"):
            LETTERS.decode([number])
    with pytest.raises(ValueError, match="a symbol occurs twice"):
        Vocabulary("aba")
    for ids in ([3.5], torch.tensor([3.0]), [True]):
        with pytest.raises(ValueError, match="ids must be whole numbers, got"):
            LETTERS.decode(ids)


def test_padded_rows_are_int64_whatever_they_hold():
    for rows, shape in (([[]], (1, 0)), ([[], []], (2, 0)), ([[], [1]], (2, 1)), ([torch.tensor([1, 2]).int(), [3]], (2, 2))):
        padded = pad_right(rows)
        assert padded.dtype == torch.int64 and padded.shape == shape
    with pytest.raises(ValueError, match="rows must be at least one, got none"):
        pad_right([])
    with pytest.raises(ValueError, match="rows must be whole numbers, got 1.5"):
        pad_right([[1], [1.5]])
