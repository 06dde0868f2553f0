"""Characters: one token each, back again, refusals by name."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tutorlib.text.characters import CharacterTokenizer


def test_ids_follow_the_code_points():
    tokenizer = CharacterTokenizer("banana, 中")
    assert tokenizer.characters == " ,abn中" and len(tokenizer) == 6
    assert tokenizer.encode("nab中") == [4, 2, 3, 5]
    assert tokenizer.decode(torch.tensor([4, 2, 3, 5])) == "nab中"


@given(st.text(min_size=1))
def test_decoding_undoes_encoding(text):
    tokenizer = CharacterTokenizer(text)
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text and len(ids) == len(text) and set(ids) == set(range(len(tokenizer)))


def test_what_the_text_did_not_hold_is_refused():
    tokenizer = CharacterTokenizer("abc")
    with pytest.raises(ValueError, match="text: unknown character 'é'; expected the 3 characters"):
        tokenizer.encode("abé")
    for number in (3, -1):
        with pytest.raises(ValueError, match=f"ids: {number} is out of range; expected 0 to 2"):
            tokenizer.decode([0, number])
    with pytest.raises(ValueError, match="text must hold at least one character"):
        CharacterTokenizer("")


@pytest.mark.parametrize("ids", [[1.7], [1, True], torch.tensor([0.0, 1.0]), torch.tensor([True]), ["1"],
                                 torch.zeros(1, 1, dtype=torch.int64)])
def test_what_is_no_id_is_refused(ids):
    with pytest.raises(ValueError, match="ids must be whole numbers, got"):
        CharacterTokenizer("abc").decode(ids)


def test_ids_may_be_numbers_of_any_library():
    ids = [1, np.int64(2), torch.tensor(0)]
    assert CharacterTokenizer("abc").decode(ids) == CharacterTokenizer("abc").decode(np.array([1, 2, 0])) == "bca"


@pytest.mark.parametrize("text", [["a", "b"], b"ab", None])
def test_what_is_no_text_is_refused(text):
    for call in (CharacterTokenizer("abc").encode, CharacterTokenizer):
        with pytest.raises(ValueError, match="text must be a string, got"):
            call(text)
