"""WordPiece: the rules by hand, the greedy cut, batches and truncation, refusals."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tutorlib.pretrained.minilm import minilm_tokenizer
from tutorlib.text.wordpiece import SPECIAL, WordPieceTokenizer, cut_longest, longest_pieces, split_words

BERT = minilm_tokenizer()
SMALL = WordPieceTokenizer([*SPECIAL, "un", "##aff", "##able", "##a", "##ff", "able", "play", "##ing", "!"])


@pytest.mark.parametrize("text, words", [
    ("Don't stop!", ["don", "'", "t", "stop", "!"]),
    ("Café  ÀÉ\tnaïve", ["cafe", "ae", "naive"]),
    ("深度 learning", ["深", "度", "learning"]),
    ("ひらがな", ["ひらかな"]),  # syllables are not cut, and the voicing mark goes as an accent does
    ("$5+3=8", ["$", "5", "+", "3", "=", "8"]),
    ("a\u200bb\x00c\ufffdd", ["abcd"]),
    ("a\ue000b\ud800c", ["abc"]),  # private use, a lone surrogate
    ("a\u00a0b\u3000c\u2028d\re\nf", ["a", "b", "c", "d", "e", "f"]),
    ("ΟΔΟΣ ıI İ", ["οδοσ", "ıi", "i"]),
    ("e\u0301\u0323", ["e"]),
    ("", []),
])
def test_rules_by_hand(text, words):
    assert split_words(text) == words


def test_capitals_and_accents_stay_without_lowercase():
    assert split_words("Café, Ünder", lowercase=False) == ["Café", ",", "Ünder"]


@pytest.mark.parametrize("first, last", [(0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F),
                                         (0x2B740, 0x2B81F), (0x2B820, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F)])
def test_ideographs_are_words_from_the_first_of_a_block_to_the_last(first, last):
    assert split_words(f"a{chr(first)}b{chr(last)}c", lowercase=False) == ["a", chr(first), "b", chr(last), "c"]


@pytest.mark.parametrize("code", [0x33FF, 0x4DC0, 0x4DFF, 0xA000, 0xFB00, 0x1FFFF, 0x2A6E0, 0x2A6FF, 0x2CEB0, 0x2F7FF, 0x2FA20])
def test_what_stands_next_to_the_ideographs_is_no_word(code):
    assert split_words(f"a{chr(code)}b", lowercase=False) == [f"a{chr(code)}b"]


def test_the_cut_is_greedy_and_gives_up_as_a_whole():
    vocabulary = SMALL.vocabulary
    assert longest_pieces("unaffable", vocabulary) == ["un", "##aff", "##able"]
    assert longest_pieces("playable", vocabulary) == ["play", "##able"]
    assert longest_pieces("unx", vocabulary) == ["[UNK]"] and longest_pieces("ing", vocabulary) == ["[UNK]"]
    greedy = {"ab", "a", "##bc"}  # the longest first piece leaves a rest without a piece; the greedy cut does not turn back
    assert longest_pieces("abc", greedy) == ["[UNK]"]


def test_words_of_more_than_a_hundred_characters_are_unknown():
    assert longest_pieces("a" * 100, {"a", "##a"}) == ["a"] + ["##a"] * 99
    assert longest_pieces("a" * 101, {"a", "##a"}) == ["[UNK]"]


def test_marks_in_a_text_are_tokens_and_only_as_written():
    assert BERT.tokenize("Paris is [MASK].") == ["paris", "is", "[MASK]", "."]
    assert BERT.tokenize("[mask]") == ["[", "mask", "]"]


def test_encode_and_decode():
    ids = SMALL.encode("Unaffable playing!")
    assert ids == [1, 5, 6, 7, 11, 12, 13, 2] and SMALL.decode(torch.tensor(ids)) == "unaffable playing !"
    assert SMALL.decode([1, 4, 0, 5, 2, 3]) == "[MASK] [UNK] un"  # only what frames and pads a text is left out
    cased = WordPieceTokenizer([*SPECIAL, "Un"], lowercase=False)
    assert cased.tokenize("Un un") == ["Un", "[UNK]"]
    assert len(BERT) == 30522 and BERT.encode("") == [101, 102]
    assert (BERT.unknown, BERT.cls, BERT.sep, BERT.pad, BERT.mask) == (100, 101, 102, 0, 103)


def test_a_batch_is_padded_at_the_right():
    batch = BERT(["one", "one two three"])
    assert list(batch) == ["tokens", "attention_mask", "token_type_ids"]
    assert batch["tokens"].tolist() == [[101, 2028, 102, 0, 0], [101, 2028, 2048, 2093, 102]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 0, 0], [1] * 5]
    assert batch["token_type_ids"].tolist() == [[0] * 5] * 2
    assert all(tensor.dtype == torch.long for tensor in batch.values())
    assert SMALL(["un", ""])["tokens"].tolist() == [[1, 5, 2], [1, 2, 3]]  # its [PAD] is not 0


def test_pairs_have_two_types_and_padding_has_type_0():
    batch = BERT(["one two", "one"], ["three", "two three four"])
    assert batch["tokens"].tolist() == [[101, 2028, 2048, 102, 2093, 102, 0], [101, 2028, 102, 2048, 2093, 2176, 102]]
    assert batch["token_type_ids"].tolist() == [[0, 0, 0, 0, 1, 1, 0], [0, 0, 0, 1, 1, 1, 1]]
    assert BERT.encode_pair("one", "") == ([101, 2028, 102, 102], [0, 0, 0, 1])


@given(st.integers(0, 20), st.integers(0, 20), st.integers(0, 30))
def test_cutting_two_texts_takes_from_the_longer_and_wastes_no_room(first, second, room):
    a, b = cut_longest(list(range(first)), list(range(second)), room)
    assert a == list(range(len(a))) and b == list(range(len(b)))
    assert len(a) + len(b) == min(first + second, room)
    if len(a) < first:
        assert len(a) >= len(b) - 1
    if len(b) < second:
        assert len(b) >= len(a) - 1


def test_max_length_counts_the_marks():
    assert BERT.encode("one two three four", max_length=4) == [101, 2028, 2048, 102]
    assert BERT(["one two three"], max_length=2)["tokens"].tolist() == [[101, 102]]
    assert len(BERT.encode_pair("one two three four", "two", max_length=6)[0]) == 6


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_is_cut_into_known_pieces(text):
    pieces = BERT.tokenize(text)
    assert all(piece in BERT.vocabulary for piece in pieces)
    ids = BERT.encode(text)
    assert ids[0] == BERT.cls and ids[-1] == BERT.sep and len(ids) == len(pieces) + 2


@pytest.mark.parametrize("call, message", [
    (lambda: WordPieceTokenizer([*SPECIAL, "a", "a"]), "vocabulary: 1 pieces occur twice"),
    (lambda: WordPieceTokenizer(["[UNK]", "[SEP]", "[PAD]"]), r"vocabulary lacks \[CLS\], \[MASK\]; expected \[UNK\]"),
    (lambda: BERT("one text"), "texts must be a list of strings, got the string 'one text'"),
    (lambda: BERT(["one"], "two"), "pairs must be a list of strings, got the string 'two'"),
    (lambda: BERT(["one", "two"], ["three"]), "pairs must be as many as texts, 2, got 1"),
    (lambda: BERT([]), "texts must hold at least one text, got none"),
    (lambda: BERT.encode("one", max_length=1), "max_length must leave room for 2 marks, got 1"),
    (lambda: BERT.encode_pair("one", "two", max_length=2), "max_length must leave room for 3 marks, got 2"),
    (lambda: BERT.decode([5, 30522]), "ids: 30522 is out of range; expected 0 to 30521"),
    (lambda: BERT.decode([5, -1]), "ids: -1 is out of range; expected 0 to 30521"),
    (lambda: BERT.decode([5, 6.5]), "ids must be whole numbers, got 6.5"),
    (lambda: BERT.decode([True]), "ids must be whole numbers, got True"),
    (lambda: BERT.encode(["one"]), "text must be a string, got list"),
    (lambda: BERT([b"one"]), "text must be a string, got bytes"),
    (lambda: BERT.encode("one", max_length=4.0), "max_length must be a whole number, got 4.0"),
])
def test_wrong_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
