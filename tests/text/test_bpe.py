"""Byte-level BPE: any text there and back, the fast forms equal those that teach, what is learned by hand, refusals."""

import pickle
from collections import Counter

import pytest
import regex
import torch
from hypothesis import given
from hypothesis import strategies as st

from tutorlib.pretrained.gpt2 import gpt2_tokenizer
from tutorlib.text import bpe
from tutorlib.text.bpe import (
    DIGITS_PATTERN,
    BytePairTokenizer,
    from_visible,
    learn_merges,
    learn_merges_by_recounting,
    merge_word,
    merge_word_fast,
    to_visible,
)

WORDS = st.lists(st.text("ab ", min_size=1, max_size=12).map(str.encode), min_size=1, max_size=12)
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
GPT2 = gpt2_tokenizer()


def test_merges_by_hand():
    """hug 10, pug 5, pun 12, bun 4, hugs 5: the example that Hugging Face's course works out."""
    words = {b"hug": 10, b"pug": 5, b"pun": 12, b"bun": 4, b"hugs": 5}
    assert learn_merges(words, 256 + 3) == [(b"u", b"g"), (b"u", b"n"), (b"h", b"ug")]
    ranks = {pair: rank for rank, pair in enumerate(learn_merges(words, 259))}
    assert merge_word(b"bugs", ranks) == [b"b", b"ug", b"s"]
    assert merge_word(b"hugun", ranks) == [b"hug", b"un"]


def test_the_patterns_cut_by_hand():
    cut = BytePairTokenizer([])._pattern.findall
    assert cut("it's  two\n\n 12!") == ["it", "'s", " ", " two", "\n\n", " 12", "!"]
    digits = BytePairTokenizer([], pattern=DIGITS_PATTERN)._pattern.findall
    assert digits("a  12") == ["a", "  ", "1", "2"]


def test_equal_counts_are_settled_by_the_smaller_ids():
    assert learn_merges({b"ba": 1, b"ab": 1, b"~b": 1}, 257) == [(b"a", b"b")]
    assert learn_merges({b" a": 1, b"ba": 1}, 257) == [(b"b", b"a")]  # in GPT-2's order a blank comes after the letters


def test_a_token_that_two_merges_spell_has_one_id():
    tokenizer = BytePairTokenizer([(b"a", b"b"), (b"b", b"c"), (b"ab", b"c"), (b"a", b"bc")])
    assert len(tokenizer) == 256 + 3 and tokenizer.encode("abc") == [258]


def test_learning_stops_where_no_pair_is_left():
    assert learn_merges({b"ab": 3}, 1000) == [(b"a", b"b")]
    assert learn_merges({b"aaaa": 1}, 1000) == [(b"a", b"a"), (b"aa", b"aa")]  # by way of aa a a, which leaves no aa a behind


@given(WORDS)
def test_correcting_the_counts_learns_what_counting_anew_learns(words):
    counts = Counter(words)
    merges = learn_merges(counts, 256 + 12)
    assert merges == learn_merges_by_recounting(counts, 256 + 12)


@given(WORDS, st.binary(max_size=40))
def test_the_heap_merges_as_the_form_that_teaches(words, other):
    ranks = {pair: rank for rank, pair in enumerate(learn_merges(Counter(words), 256 + 20))}
    for word in [*words, b"".join(words), other]:
        assert merge_word_fast(word, ranks) == merge_word(word, ranks)
    for word in (other, other * 3):
        assert merge_word_fast(word, GPT2.ranks) == merge_word(word, GPT2.ranks)


def test_a_pair_that_a_merge_has_changed_keeps_its_new_place_in_the_order():
    """a b c d: once b c is merged, what was noted for a b must not bring a bc before bc d."""
    ranks = {(b"b", b"c"): 0, (b"a", b"b"): 1, (b"bc", b"d"): 2, (b"a", b"bc"): 3}
    assert merge_word_fast(b"abcd", ranks) == merge_word(b"abcd", ranks) == [b"a", b"bcd"]


def test_blanks_before_a_digit_stay_together_where_digits_stand_alone():
    assert regex.findall(DIGITS_PATTERN, "a  12 b") == ["a", "  ", "1", "2", " b"]
    assert regex.findall(bpe.GPT2_PATTERN, "a  12 b") == ["a", " ", " 12", " b"]


@given(TEXT)
def test_decoding_undoes_encoding(text):
    learned = [BytePairTokenizer.train(text, 280), BytePairTokenizer.train(text, 280, pattern=DIGITS_PATTERN)]
    for tokenizer in (GPT2, BytePairTokenizer([]), *learned):
        assert tokenizer.decode(tokenizer.encode(text)) == text


@given(st.lists(st.sampled_from(["the", " the", " ", "1", "é", "<|endoftext|>", "<|end", "|>"]), max_size=12).map("".join))
def test_special_marks_are_one_token_and_come_back(text):
    ids = GPT2.encode(text)
    assert ids.count(50256) == text.count("<|endoftext|>") and GPT2.decode(ids) == text


def test_the_longer_of_two_special_marks_wins():
    tokenizer = BytePairTokenizer([], special={"<a>": 256, "<a>b": 257})
    assert tokenizer.encode("<a>b<a>") == [257, 256]


def test_without_merges_the_ids_are_bytes_in_gpt2s_order():
    assert BytePairTokenizer([]).encode("!~ é") == [0, 93, 220, *[bpe.BYTE_ORDER.index(byte) for byte in "é".encode()]]
    assert sorted(bpe.BYTE_ORDER) == list(range(256))


@given(st.binary())
def test_the_visible_notation_comes_back(token):
    assert from_visible(to_visible(token)) == token and not any(map(str.isspace, to_visible(token)))


def test_the_cache_changes_nothing_and_is_bounded(monkeypatch):
    monkeypatch.setattr(bpe, "CACHED_WORDS", 2)
    tokenizer = BytePairTokenizer.train("one two three two three", 270)
    first = tokenizer.encode("one two three four")
    assert tokenizer.encode("one two three four") == first and len(tokenizer._cache) == 2
    tokenizer.forget()
    assert not tokenizer._cache and tokenizer.encode("one two three four") == first


def test_encoding_returns_a_list_of_its_own():
    for tokenizer in (GPT2, BytePairTokenizer([])):
        ids = tokenizer.encode("hello")
        ids.append(0)
        assert tokenizer.encode("hello") == ids[:-1]


def test_several_texts_are_counted_together_and_words_end_with_them():
    assert BytePairTokenizer.train(["ab", "ab", "cd"], 258).merges == [(b"a", b"b"), (b"c", b"d")]
    assert BytePairTokenizer.train(["ab", "cd"], 400).merges == [(b"a", b"b"), (b"c", b"d")]


def test_special_marks_follow_the_learned_tokens_within_the_size():
    tokenizer = BytePairTokenizer.train("abababab cdcdcd", 260, special=["<end>", "<pad>"])
    assert tokenizer.special == {"<end>": 258, "<pad>": 259} and len(tokenizer) == 260 and len(tokenizer.merges) == 2
    assert BytePairTokenizer.train("abab", 257, special=["<end>"]).special == {"<end>": 256}  # no room for a merge
    assert tokenizer.decode([258]) == "<end>" and tokenizer.token(259) == b"<pad>"


def test_a_part_of_a_character_decodes_to_the_replacement_character():
    ids = BytePairTokenizer([]).encode("é")
    assert len(ids) == 2 and BytePairTokenizer([]).decode(ids[:1]) == "\ufffd"
    assert BytePairTokenizer([]).decode(torch.tensor(ids)) == "é"


def test_a_long_word_takes_no_quadratic_time():
    """A hundred thousand letters without a blank: the form that teaches would take hours."""
    text = "".join(chr(97 + number) for number in torch.randint(26, (100_000,), generator=torch.Generator().manual_seed(0)))
    assert GPT2.decode(GPT2.encode(text)) == text


def test_a_tokenizer_can_be_sent_to_another_process():
    copy = pickle.loads(pickle.dumps(GPT2))
    assert copy.encode("one two <|endoftext|>") == GPT2.encode("one two <|endoftext|>")


@pytest.mark.parametrize("arguments, message", [
    (dict(merges=[(b"ab", b"c")]), r"merges: \(b'ab', b'c'\) needs the token b'ab', which the vocabulary lacks"),
    (dict(merges=[(b"a", b"b")], vocabulary={b"a": 0, b"b": 1}), r"merges: \(b'a', b'b'\) needs the token b'ab', which"),
    (dict(merges=[], vocabulary={b"a": 0, b"b": 0}), "vocabulary and special hold 2 tokens but only 1 ids"),
    (dict(merges=[], special={"<end>": 255}), "vocabulary and special hold 257 tokens but only 256 ids"),
    (dict(merges=[], pattern="(a)|b"), "has groups that capture"),
    (dict(merges=[], special={"": 256}), "special: '' is empty or a token of the vocabulary"),
    (dict(merges=[(b"a", b"b")], special={"ab": 257}), "special: 'ab' is empty or a token of the vocabulary"),
    (dict(merges=[], special={"<end>": 300}), "no token has the id 256; expected 0 to 256"),
    (dict(merges=[], vocabulary={b"a": 0, b"b": 2}), "no token has the id 1; expected 0 to 1"),
    (dict(merges=[], vocabulary={b"a": 0, b"b": -1}), "no token has the id 1; expected 0 to 1"),
    (dict(merges=[(b"a", b"b"), (b"b", b"a"), (b"a", b"b")]), "merges: 1 pairs occur twice"),
])
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        BytePairTokenizer(**arguments)


def test_what_cannot_be_encoded_is_refused():
    with pytest.raises(ValueError, match="text: '.ud800' holds a lone surrogate, which UTF-8 cannot write"):
        GPT2.encode("a\ud800")
    with pytest.raises(ValueError, match="lone surrogate"):
        BytePairTokenizer.train("a\ud800", 300)
    with pytest.raises(ValueError, match=r"pattern: '.+w' does not cover the text 'a b'"):
        BytePairTokenizer([], pattern=r"\w").encode("a b")
    with pytest.raises(ValueError, match="text: the vocabulary has no token for the byte b'c' of 'abc'"):
        BytePairTokenizer([], vocabulary={b"a": 0, b"b": 1}).encode("abc")


def test_what_cannot_be_decoded_or_trained_is_refused():
    for number in (-1, 50257):
        with pytest.raises(ValueError, match=f"ids: {number} is no id of this tokenizer; expected 0 to 50256"):
            GPT2.decode([1, number])
    with pytest.raises(ValueError, match="vocabulary_size must be at least 257, for 256 bytes and 1 special marks; got 256"):
        BytePairTokenizer.train("text", 256, special=["<end>"])
    with pytest.raises(ValueError, match="token: 'a b' holds ' ', which stands for no byte"):
        from_visible("a b")
    with pytest.raises(ValueError, match=r"special: a mark occurs twice in \['<a>', '<a>'\]"):
        BytePairTokenizer.train("text", 300, special=["<a>", "<a>"])
    with pytest.raises(ValueError, match="vocabulary_size must be a whole number, got 300.5"):
        BytePairTokenizer.train("text", 300.5)
    with pytest.raises(ValueError, match="tokens: 1 occur twice"):
        BytePairTokenizer.from_strings([], ["a", "b", "a"])
    with pytest.raises(ValueError, match="special: '<end>' is none of the tokens"):
        BytePairTokenizer.from_strings([], ["a", "b"], special=["<end>"])
    for ids in ([1.7], torch.tensor([1.0]), [True], ["1"]):
        with pytest.raises(ValueError, match="ids must be whole numbers, got"):
            GPT2.decode(ids)
    for number in (1.7, True, "1"):
        with pytest.raises(ValueError, match="ids must be whole numbers, got"):
            GPT2.token(number)
    for text in (b"text", ["text"], None):
        with pytest.raises(ValueError, match="text must be a string, got"):
            GPT2.encode(text)
