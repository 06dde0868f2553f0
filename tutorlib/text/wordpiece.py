"""WordPiece, BERT's tokenizer: words by rules, then each word cut into the longest pieces that the vocabulary has.

Sources: Schuster and Nakajima 2012 (word pieces); Devlin et al. 2019 and the program published with it (rules and cutting).
"""

import re
import unicodedata
from collections.abc import Container, Iterable, Sequence
from functools import cache

from torch import Tensor

from tutorlib.arguments import check_string, check_whole, whole_numbers
from tutorlib.text.vocabulary import pad_right

SPECIAL = UNKNOWN, CLS, SEP, PAD, MASK = "[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"
_SPECIAL_PATTERN = re.compile(f"({'|'.join(map(re.escape, SPECIAL))})")
LONGEST_WORD = 100  # characters; a longer word is unknown
CHINESE = ((0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F), (0x2B740, 0x2B81F),
           (0x2B820, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F))  # ideographs; Japanese syllables are not among them


def split_words(text: str, lowercase: bool = True) -> list[str]:
    """BERT's rules: no control characters, blanks between words, every Chinese character and punctuation mark a word.

    With `lowercase` accents go too: 'Café' is 'cafe'.
    """
    text = "".join(_clean(character) for character in text)
    if lowercase:
        text = "".join(character for character in unicodedata.normalize("NFD", text)
                       if unicodedata.category(character) != "Mn")  # marks that NFD has parted from their letters
        text = "".join(character.lower() for character in text)  # one by one: a final sigma is like any other
    return "".join(f" {character} " if _is_punctuation(character) else character for character in text).split()


@cache
def _clean(character: str) -> str:
    """Nothing for a control character, one blank for any white space, blanks around a Chinese character."""
    if character in "\t\n\r":
        return " "
    if character == "\ufffd" or unicodedata.category(character) in ("Cc", "Cf", "Co", "Cs"):
        return ""  # control, format, private use, surrogate
    if character.isspace():
        return " "
    return f" {character} " if any(low <= ord(character) <= high for low, high in CHINESE) else character


@cache
def _is_punctuation(character: str) -> bool:
    """Unicode's punctuation, and all of ASCII that is neither letter, digit, blank nor control: $ and + too."""
    if character.isascii():
        return character.isprintable() and not character.isalnum() and character != " "
    return unicodedata.category(character).startswith("P")


def longest_pieces(word: str, vocabulary: Container[str]) -> list[str]:
    """The word cut greedily: from the left, always the longest piece in the vocabulary; inside a word pieces begin with ##.

    [UNK] alone where a rest has no piece, and for words of more than 100 characters.
    """
    if len(word) > LONGEST_WORD:
        return [UNKNOWN]
    pieces, start = [], 0
    while start < len(word):
        mark = "##" if start else ""
        end = next((end for end in range(len(word), start, -1) if mark + word[start:end] in vocabulary), None)
        if end is None:
            return [UNKNOWN]
        pieces.append(mark + word[start:end])
        start = end
    return pieces


class WordPieceTokenizer:
    """BERT's tokenizer: words by `split_words`, pieces by `longest_pieces`, [CLS] before and [SEP] after each text.

    Args:
        vocabulary: all pieces in the order of their ids, as the lines of BERT's vocab.txt.
        lowercase: whether the vocabulary is of the lower-cased kind, without accents.

    [CLS], [SEP], [MASK], [PAD] and [UNK] written in a text are those tokens, not words, as in transformers.
    Raises ValueError for a vocabulary that holds a piece twice or lacks one of the five.
    """

    def __init__(self, vocabulary: Sequence[str], lowercase: bool = True):
        self.pieces, self.lowercase = list(vocabulary), lowercase
        self.vocabulary = {piece: number for number, piece in enumerate(self.pieces)}
        if len(self.vocabulary) != len(self.pieces):
            raise ValueError(f"vocabulary: {len(self.pieces) - len(self.vocabulary)} pieces occur twice; each must occur once")
        if missing := [mark for mark in SPECIAL if mark not in self.vocabulary]:
            raise ValueError(f"vocabulary lacks {', '.join(missing)}; expected {', '.join(SPECIAL)} among the pieces")
        self.unknown, self.cls, self.sep, self.pad, self.mask = (self.vocabulary[mark] for mark in SPECIAL)

    def __len__(self) -> int:
        return len(self.pieces)

    def tokenize(self, text: str) -> list[str]:
        """The pieces of a text, without [CLS] and [SEP]."""
        check_string("text", text)
        pieces = []
        for place, part in enumerate(_SPECIAL_PATTERN.split(text)):
            words = [part] if place % 2 else split_words(part, self.lowercase)  # marks stand at the odd places
            for word in words:
                pieces += longest_pieces(word, self.vocabulary)
        return pieces

    def encode(self, text: str, max_length: int | None = None) -> list[int]:
        """Ids: [CLS], the text, [SEP]; cut at the end of the text where there would be more than `max_length`."""
        return self._rows([text], None, max_length)[0][0]

    def encode_pair(self, first: str, second: str, max_length: int | None = None) -> tuple[list[int], list[int]]:
        """Ids of [CLS] first [SEP] second [SEP], and their types: 0 up to the first [SEP], 1 after it.

        With `max_length` the longer text is cut first, then both alike.
        """
        return self._rows([first], [second], max_length)[0]

    def __call__(self, texts: Sequence[str], pairs: Sequence[str] | None = None,
                 max_length: int | None = None) -> dict[str, Tensor]:
        """A batch for BERT, padded at the right: tokens, attention_mask (1 keep, 0 pad), token_type_ids, each (B, T).

        `pairs`, if given, are B second texts. Raises ValueError for a string in place of a list, lists of unlike length, and a
        `max_length` without room for the marks.
        """
        rows = self._rows(texts, pairs, max_length)
        if not rows:
            raise ValueError("texts must hold at least one text, got none")
        return {"tokens": pad_right([ids for ids, _ in rows], self.pad),  # (B, T)
                "attention_mask": pad_right([[1] * len(ids) for ids, _ in rows], 0),  # (B, T)
                "token_type_ids": pad_right([types for _, types in rows], 0)}  # (B, T)

    def _rows(self, texts: Sequence[str], pairs: Sequence[str] | None,
              max_length: int | None) -> list[tuple[list[int], list[int]]]:
        """Ids and types of each text, or of each pair."""
        for name, value in (("texts", texts), ("pairs", pairs)):
            if isinstance(value, str):
                raise ValueError(f"{name} must be a list of strings, got the string {value[:40]!r}")
        if pairs is not None and len(pairs) != len(texts):
            raise ValueError(f"pairs must be as many as texts, {len(texts)}, got {len(pairs)}")
        marks = 2 if pairs is None else 3
        if max_length is not None:
            check_whole("max_length", max_length, least=0)
            if max_length < marks:
                raise ValueError(f"max_length must leave room for {marks} marks, got {max_length}")
        room = None if max_length is None else max_length - marks
        rows = []
        for place, text in enumerate(texts):
            first = self._ids(text)
            second = self._ids(pairs[place]) if pairs is not None else []
            if room is not None:
                first, second = cut_longest(first, second, room)
            ids = [self.cls, *first, self.sep]
            types = [0] * len(ids)
            if pairs is not None:
                ids, types = [*ids, *second, self.sep], [*types, *[1] * (len(second) + 1)]
            rows.append((ids, types))
        return rows

    def _ids(self, text: str) -> list[int]:
        return [self.vocabulary[piece] for piece in self.tokenize(text)]

    def decode(self, ids: Iterable[int]) -> str:
        """The pieces of the ids, those with ## joined to what stands before; [CLS], [SEP] and [PAD] are left out.

        Blanks, capitals and accents are as the pieces have them, not as in the text. Raises ValueError for an id that is no
        whole number or out of range.
        """
        numbers = whole_numbers("ids", ids)
        if wrong := [number for number in numbers if not 0 <= number < len(self)]:
            raise ValueError(f"ids: {wrong[0]} is out of range; expected 0 to {len(self) - 1}")
        kept = (self.pieces[number] for number in numbers if number not in (self.cls, self.sep, self.pad))
        return " ".join(kept).replace(" ##", "")


def cut_longest(first: list[int], second: list[int], room: int) -> tuple[list[int], list[int]]:
    """Both cut at the right until together they fit into `room`: the longer one first, then both to halves."""
    shorter = min(len(first), len(second), room // 2)
    if len(first) <= len(second):
        return first[:shorter], second[:room - shorter]
    return first[:room - shorter], second[:shorter]
