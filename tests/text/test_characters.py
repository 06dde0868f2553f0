"""Characters: one token each, back again, refusals by name."""

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
