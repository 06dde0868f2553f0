"""Byte-level byte-pair encoding (BPE): a text is its UTF-8 bytes, and frequent neighbors are merged into tokens.

Three steps, each in a function that can be read alone: a pattern cuts the text into words; `learn_merges` finds the pairs to
merge; `merge_word` applies them to one word. `BytePairTokenizer` keeps a cache of words, which is what makes it fast.
Sources: Sennrich, Haddow and Birch 2016 (merges); Radford et al. 2019 (bytes, and the pattern). The pattern asks for classes
of letters and numbers, which Python's `re` does not know; so this module uses `regex`, which transformers brings along.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from heapq import heapify, heappop, heappush
from itertools import chain, pairwise

import regex

from tutorlib.arguments import check_string, check_whole, whole_numbers

Pair = tuple[bytes, bytes]

# A word takes the blank before it along. Of several blanks the last goes with the word, the others stay together.
GPT2_PATTERN = r"'(?:s|t|re|ve|m|ll|d)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
# The same with every digit alone, so that numbers are spelled place by place (SmolLM, Llama's first versions).
DIGITS_PATTERN = r"'(?:s|t|re|ve|m|ll|d)| ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?=\p{N})|\s+(?!\S)|\s+"

# GPT-2's files write each byte as one visible character: itself where Latin-1 shows one, else one from U+0100 on.
_VISIBLE = [*range(33, 127), *range(161, 173), *range(174, 256)]
BYTE_ORDER = [*_VISIBLE, *(byte for byte in range(256) if byte not in _VISIBLE)]  # also the order of the first 256 ids
BYTE_TO_CHARACTER = {byte: chr(byte) if byte in _VISIBLE else chr(256 + place - len(_VISIBLE))
                     for place, byte in enumerate(BYTE_ORDER)}
CHARACTER_TO_BYTE = {character: byte for byte, character in BYTE_TO_CHARACTER.items()}

CACHED_WORDS = 1_000_000  # beyond it, new words are still encoded but no longer remembered


def from_visible(token: str) -> bytes:
    """The bytes of a token as GPT-2's files write it: 'Ġthe' is b' the'. Raises ValueError for a character that is no byte."""
    try:
        return bytes(CHARACTER_TO_BYTE[character] for character in token)
    except KeyError as error:
        raise ValueError(f"token: {token!r} holds {error.args[0]!r}, which stands for no byte; expected characters of "
                         "GPT-2's byte alphabet") from None


def to_visible(token: bytes) -> str:
    """The token as GPT-2's files write it: b' the' is 'Ġthe'."""
    return "".join(BYTE_TO_CHARACTER[byte] for byte in token)


def merge_word(word: bytes, ranks: Mapping[Pair, int]) -> list[bytes]:
    """The tokens of one word: merge the pair of lowest rank, the leftmost of equals, until no neighbors have a rank.

    The form that teaches, in n² steps for n bytes; `merge_word_fast` gives the same in n log n.
    """
    parts = [word[i:i + 1] for i in range(len(word))]
    while len(parts) > 1:
        rank, i = min((ranks.get(pair, float("inf")), i) for i, pair in enumerate(pairwise(parts)))
        if rank == float("inf"):
            break
        parts[i:i + 2] = [parts[i] + parts[i + 1]]
    return parts


def merge_word_fast(word: bytes, ranks: Mapping[Pair, int]) -> list[bytes]:
    """What `merge_word` returns. A heap knows the next pair, each part its neighbors: no merge looks at the whole word."""
    parts = [word[i:i + 1] for i in range(len(word))]
    end = len(parts)
    left, right = list(range(-1, end - 1)), list(range(1, end + 1))
    heap = [(ranks[pair], i) for i, pair in enumerate(pairwise(parts)) if pair in ranks]
    heapify(heap)
    while heap:
        rank, i = heappop(heap)
        j = right[i]
        if j == end or ranks.get((parts[i], parts[j])) != rank:
            continue  # a merge has changed or swallowed one of the two since the pair was noted
        parts[i], parts[j] = parts[i] + parts[j], b""
        right[i] = right[j]
        if right[i] < end:
            left[right[i]] = i
        for a, b in ((left[i], i), (i, right[i])):
            if a >= 0 and b < end and (pair := (parts[a], parts[b])) in ranks:
                heappush(heap, (ranks[pair], a))
    return [part for part in parts if part]


def count_pairs(words: Mapping[tuple[bytes, ...], int]) -> Counter[Pair]:
    """How often each pair of neighbors occurs in words that are cut into parts and counted."""
    pairs = Counter()
    for parts, count in words.items():
        for pair in pairwise(parts):
            pairs[pair] += count
    return pairs


def learn_merges_by_recounting(words: Mapping[bytes, int], vocabulary_size: int) -> list[Pair]:
    """What `learn_merges` returns, from the definition: count all pairs anew, merge the most frequent, and again."""
    cut = {tuple(word[i:i + 1] for i in range(len(word))): count for word, count in words.items()}
    ids = {bytes([byte]): number for number, byte in enumerate(BYTE_ORDER)}
    merges = []
    while len(ids) < vocabulary_size and (pairs := count_pairs(cut)):
        best = min(pairs, key=lambda pair: (-pairs[pair], ids[pair[0]], ids[pair[1]]))
        merges.append(best)
        ids[b"".join(best)] = len(ids)
        cut = {tuple(_join(parts, best)): count for parts, count in cut.items()}
    return merges


def _join(parts: Sequence[bytes], pair: Pair) -> list[bytes]:
    """The parts with the pair joined wherever it stands, from left to right: a a a becomes aa a."""
    joined, i = [], 0
    while i < len(parts):
        width = 2 if tuple(parts[i:i + 2]) == pair else 1
        joined.append(b"".join(parts[i:i + width]))
        i += width
    return joined


def learn_merges(words: Mapping[bytes, int], vocabulary_size: int) -> list[Pair]:
    """The merges, first to last, that fill a vocabulary which starts with the 256 bytes.

    Each merge is the pair of neighboring tokens that occurs most often in the words, a word counting as often as `words` says;
    of equally frequent pairs the one with the smaller ids, as in the `tokenizers` library. Fewer merges where the words have no
    more pairs. Instead of counting anew, each merge corrects the counts next to the places where it happens.
    """
    tokens = [bytes([byte]) for byte in BYTE_ORDER]
    ids = {token: number for number, token in enumerate(tokens)}
    cut = [[ids[word[i:i + 1]] for i in range(len(word))] for word in words]  # each word as ids
    weights = list(words.values())
    counts: dict[tuple[int, int], int] = defaultdict(int)
    places: dict[tuple[int, int], set[int]] = defaultdict(set)  # the words in which a pair may stand
    for n, word in enumerate(cut):
        for pair in pairwise(word):
            counts[pair] += weights[n]
            places[pair].add(n)
    heap = [(-count, pair) for pair, count in counts.items()]
    heapify(heap)
    merges = []
    while heap and len(tokens) < vocabulary_size:
        negative, pair = heappop(heap)
        if counts[pair] != -negative:  # the count has fallen since it was noted
            if counts[pair] > 0:
                heappush(heap, (-counts[pair], pair))
            continue
        merges.append((tokens[pair[0]], tokens[pair[1]]))
        new = len(tokens)
        tokens.append(b"".join(merges[-1]))
        grown = set()
        for n in places.pop(pair):
            for neighbors in _merge_and_count(cut[n], pair, new, weights[n], counts):
                places[neighbors].add(n)
                grown.add(neighbors)
        del counts[pair]
        for neighbors in grown:
            if counts[neighbors] > 0:  # a a a a becomes aa aa by way of aa a a
                heappush(heap, (-counts[neighbors], neighbors))
    return merges


def _merge_and_count(word: list[int], pair: tuple[int, int], new: int, weight: int,
                     counts: dict[tuple[int, int], int]) -> Iterator[tuple[int, int]]:
    """Merge the pair in the word, in place; correct the counts of the pairs around it, and yield those that are new."""
    i = 0
    while i < len(word) - 1:
        if word[i] == pair[0] and word[i + 1] == pair[1]:
            if i > 0:
                counts[word[i - 1], pair[0]] -= weight
                counts[word[i - 1], new] += weight
                yield word[i - 1], new
            if i + 2 < len(word):
                counts[pair[1], word[i + 2]] -= weight
                counts[new, word[i + 2]] += weight
                yield new, word[i + 2]
            word[i:i + 2] = [new]
        i += 1


class _WordCache(dict):
    """Word -> ids, filled when a word is first asked for."""

    def __init__(self, encode_word):
        super().__init__()
        self.encode_word = encode_word

    def __missing__(self, word: str) -> list[int]:
        ids = self.encode_word(word)
        if len(self) < CACHED_WORDS:
            self[word] = ids
        return ids


class BytePairTokenizer:
    """Byte-level BPE: every text has ids, and `decode(encode(text)) == text`.

    Args:
        merges: pairs of tokens in the order in which they were learned, which is the order of preference.
        vocabulary: token -> id; by default the 256 bytes in GPT-2's order, then what the merges make, in their order.
        special: marks such as ``<|endoftext|>`` -> id; where one stands in a text it is one token, never cut. The ids of both
            together are 0 to their number less 1, without a gap, so that `len` is a model's vocabulary.
        pattern: a regular expression (of `regex`) whose matches are the words; together they must cover the text.

    Raises ValueError for a merge that occurs twice or whose parts or result the vocabulary lacks, ids that occur twice or leave
    a gap, a mark that is empty or a token of the vocabulary too, and a pattern with groups.
    """

    def __init__(self, merges: Iterable[Pair], *, vocabulary: Mapping[bytes, int] | None = None,
                 special: Mapping[str, int] | None = None, pattern: str = GPT2_PATTERN):
        self.merges = list(merges)
        self.ranks = {pair: rank for rank, pair in enumerate(self.merges)}
        self.vocabulary = dict(vocabulary) if vocabulary is not None else _number(self.merges)
        self.special = dict(special or {})
        self._tokens = {number: token for token, number in self.vocabulary.items()}
        self._tokens.update({number: mark.encode() for mark, number in self.special.items()})
        self._check()
        self._pattern = regex.compile(pattern)
        if self._pattern.groups:
            raise ValueError(f"pattern: {pattern!r} has groups that capture; expected (?:...) instead of (...)")
        marks = sorted(self.special, key=len, reverse=True)
        self._special_pattern = regex.compile(f"({'|'.join(map(regex.escape, marks))})") if marks else None
        self._cache = _WordCache(self._encode_word)

    def _check(self) -> None:
        for pair in self.merges:
            for token in (*pair, pair[0] + pair[1]):
                if token not in self.vocabulary:
                    raise ValueError(f"merges: {pair} needs the token {token!r}, which the vocabulary lacks")
        if len(self.ranks) != len(self.merges):
            raise ValueError(f"merges: {len(self.merges) - len(self.ranks)} pairs occur twice; each has one place in the order")
        for mark in self.special:
            if not mark or mark.encode() in self.vocabulary:
                raise ValueError(f"special: {mark!r} is empty or a token of the vocabulary; expected a mark of its own")
        if len(self._tokens) != len(self.vocabulary) + len(self.special):
            raise ValueError(f"vocabulary and special hold {len(self.vocabulary) + len(self.special)} tokens but only "
                             f"{len(self._tokens)} ids; each needs its own")
        if gaps := set(range(len(self._tokens))) - self._tokens.keys():
            raise ValueError(f"vocabulary and special: no token has the id {min(gaps)}; expected 0 to {len(self._tokens) - 1}")

    @classmethod
    def train(cls, text: str | Iterable[str], vocabulary_size: int, *, special: Sequence[str] = (),
              pattern: str = GPT2_PATTERN) -> "BytePairTokenizer":
        """A tokenizer with up to `vocabulary_size` ids, learned from a text or several; the special marks come last.

        Raises ValueError where the vocabulary cannot hold the 256 bytes and the marks, and for a mark that is given twice.
        """
        if len(set(special)) != len(special):
            raise ValueError(f"special: a mark occurs twice in {list(special)}; each must occur once")
        check_whole("vocabulary_size", vocabulary_size)
        if vocabulary_size < 256 + len(special):
            raise ValueError(f"vocabulary_size must be at least {256 + len(special)}, for 256 bytes and {len(special)} "
                             f"special marks; got {vocabulary_size}")
        texts = [text] if isinstance(text, str) else text
        words = Counter(chain.from_iterable(regex.findall(pattern, part) for part in texts))
        counts = {_utf8(word): count for word, count in words.items()}
        merges = learn_merges(counts, vocabulary_size - len(special))
        first = len(_number(merges))
        return cls(merges, special={mark: first + i for i, mark in enumerate(special)}, pattern=pattern)

    @classmethod
    def from_strings(cls, merges: Iterable[str], tokens: Sequence[str], *, special: Iterable[str] = (),
                     pattern: str = GPT2_PATTERN) -> "BytePairTokenizer":
        """From what a tokenizer's files hold: merges such as "Ġ t", and all tokens in the order of their ids.

        Raises ValueError for a token that occurs twice and a mark that is none of the tokens.
        """
        ids = {token: number for number, token in enumerate(tokens)}
        if len(ids) != len(tokens):
            raise ValueError(f"tokens: {len(tokens) - len(ids)} occur twice; each must occur once")
        special = list(special)
        if unknown := [mark for mark in special if mark not in ids]:
            raise ValueError(f"special: {unknown[0]!r} is none of the tokens; expected marks among them")
        marks = {mark: ids[mark] for mark in special}
        pairs = [tuple(map(from_visible, merge.split(" "))) for merge in merges]
        vocabulary = {from_visible(token): number for token, number in ids.items() if token not in marks}
        return cls(pairs, vocabulary=vocabulary, special=marks, pattern=pattern)

    def __len__(self) -> int:
        """The number of ids, special marks included."""
        return len(self._tokens)

    def encode(self, text: str) -> list[int]:
        """The ids of a text. Raises ValueError for a lone surrogate, which UTF-8 cannot write, and what the pattern misses."""
        check_string("text", text)
        if self._special_pattern is None:
            return self._encode_words(text)
        ids = []
        for place, part in enumerate(self._special_pattern.split(text)):
            ids += [self.special[part]] if place % 2 else self._encode_words(part)  # marks stand at the odd places
        return ids

    def _encode_words(self, text: str) -> list[int]:
        words = self._pattern.findall(text)
        if sum(map(len, words)) != len(text):
            raise ValueError(f"pattern: {self._pattern.pattern!r} does not cover the text {text[:40]!r}")
        return list(chain.from_iterable(map(self._cache.__getitem__, words)))

    def _encode_word(self, word: str) -> list[int]:
        try:
            return [self.vocabulary[token] for token in merge_word_fast(_utf8(word), self.ranks)]
        except KeyError as error:
            raise ValueError(f"text: the vocabulary has no token for the byte {error.args[0]!r} of {word!r}") from None

    def forget(self) -> None:
        """Empty the cache of words, to free its memory or to time a first run."""
        self._cache.clear()

    def token(self, number: int) -> bytes:
        """The bytes of an id. Raises ValueError as `decode` does."""
        return self._bytes([number])

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids, a list or a tensor (T,). Bytes that are not valid UTF-8 become the replacement character U+FFFD.

        Raises ValueError for an id that is no whole number or none of this tokenizer.
        """
        return self._bytes(ids).decode("utf8", errors="replace")

    def _bytes(self, ids: Iterable[int]) -> bytes:
        numbers = whole_numbers("ids", ids)
        try:
            return b"".join([self._tokens[number] for number in numbers])
        except KeyError as error:
            raise ValueError(f"ids: {error.args[0]} is no id of this tokenizer; expected 0 to {len(self) - 1}") from None


def _number(merges: Iterable[Pair]) -> dict[bytes, int]:
    """Ids in GPT-2's order: the bytes, then the tokens that the merges make."""
    ids = {bytes([byte]): number for number, byte in enumerate(BYTE_ORDER)}
    for first, second in merges:
        ids.setdefault(first + second, len(ids))
    return ids


def _utf8(word: str) -> bytes:
    try:
        return word.encode()
    except UnicodeEncodeError:
        raise ValueError(f"text: {word!r} holds a lone surrogate, which UTF-8 cannot write") from None
