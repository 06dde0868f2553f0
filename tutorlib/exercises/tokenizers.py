"""Exercises of the chapter on tokenizers."""
from itertools import pairwise

import torch

from tutorlib.exercises.sheet import ExerciseSheet, Wrong
from tutorlib.text.bpe import learn_merges

check = ExerciseSheet()


# 1: four merges by hand

COUNTS = {b"low": 5, b"lower": 2, b"newest": 6, b"widest": 3}
MERGES = [(first + second).decode() for first, second in learn_merges(COUNTS, 260)]
FOURTH = MERGES[-1]  # behind es, est and lo


@check.exercise(1, "Four merges by hand", reference=FOURTH, mistakes=[
    ("es", "That is the first merge, of two pairs with count 9 the one that comes first in the alphabet."),
    ("est", "That is the second merge. Two are left."),
    ("st", "After the first merge, es, most of s t stands inside es t: count again."),
    ("lo", "That is the third merge, with count 7. What do its neighbors become?"),
    ("ow", "l o and o w both occur 7 times, and l o comes first in the alphabet. What is left of o w then?"),
    ("we", "The six of newest went when e joined s: there it is w es now."),
    ("ne", "n e occurs 6 times; a pair with 7 comes before it."),
    ("ew", "e w occurs 6 times; a pair with 7 comes before it."),
])
def check_merge(answer):
    if isinstance(answer, bytes):
        return answer.decode()
    if isinstance(answer, (tuple, list)):
        return "".join(answer)
    return answer


# 2: count the bytes

TOKENS_WITHOUT_MERGES = len("Zoë: 9 €".encode())  # 6 of one byte, ë of two, € of three


@check.exercise(2, "Count the bytes", reference=TOKENS_WITHOUT_MERGES, mistakes=[
    (8, "Those are the characters. How many bytes does UTF-8 take for ë, and for €?"),
    (10, "One of them takes more: ë lies below U+0800 and takes two bytes; € is U+20AC."),
    (9, "€ is U+20AC, above U+07FF: it takes more than one byte."),
    (12, "One of them takes fewer: ë lies below U+0800."),
    (16, "UTF-8 is not two bytes a character: ASCII takes one."),
    (6, "Count all characters, not the ASCII ones alone; the blanks count too."),
])
def check_bytes(answer):
    return answer


# 3: merge by rank

def merge_by_rank(word, ranks):
    parts = [bytes([byte]) for byte in word]
    while known := [(ranks[pair], i) for i, pair in enumerate(pairwise(parts))
                    if pair in ranks]:
        i = min(known)[1]  # the lowest rank, of equals the leftmost
        parts[i:i + 2] = [parts[i] + parts[i + 1]]
    return parts


def from_the_left(word, ranks):
    parts = [bytes([byte]) for byte in word]
    while known := [i for i, pair in enumerate(pairwise(parts)) if pair in ranks]:
        i = known[0]
        parts[i:i + 2] = [parts[i] + parts[i + 1]]
    return parts


def by_longest_token(word, ranks):
    vocabulary, parts = {first + second for first, second in ranks}, []
    while word:
        end = next((end for end in range(len(word), 1, -1) if word[:end] in vocabulary), 1)
        parts.append(word[:end])
        word = word[end:]
    return parts


def highest_rank(word, ranks):
    return merge_by_rank(word, {pair: -rank for pair, rank in ranks.items()})


def one_merge(word, ranks):
    parts = [bytes([byte]) for byte in word]
    known = [(ranks[pair], i) for i, pair in enumerate(pairwise(parts)) if pair in ranks]
    if known:
        i = min(known)[1]
        parts[i:i + 2] = [parts[i] + parts[i + 1]]
    return parts


def rightmost(word, ranks):
    parts = [bytes([byte]) for byte in word]
    while known := [(ranks[pair], -i) for i, pair in enumerate(pairwise(parts)) if pair in ranks]:
        i = -min(known)[1]
        parts[i:i + 2] = [parts[i] + parts[i + 1]]
    return parts


@check.exercise(3, "Merge by rank", reference=merge_by_rank, mistakes=[
    (from_the_left, "You take the first pair that has a merge. The lowest rank goes first, wherever it stands."),
    (by_longest_token, "That is longest match, as WordPiece cuts. BPE replays the merges in the order of their ranks."),
    (highest_rank, "A low rank was learned early and goes first; yours prefers the high ones."),
    (one_merge, "You stop after one merge. Go on until no neighbors have a rank."),
    (rightmost, "Among equal ranks the leftmost goes first: aaa becomes aa a."),
])
def check_ranks(answer):
    ranks = {(b"e", b"a"): 0, (b"s", b"ea"): 1, (b"ea", b"t"): 2, (b"sea", b"t"): 3, (b"a", b"t"): 4, (b"a", b"a"): 5,
             (b"s", b"e"): 6, (b"t", b"e"): 7}
    cut = [answer(word, dict(ranks)) for word in (b"seat", b"beat", b"teas", b"aaa", b"set", b"x", b"")]
    for parts in cut:
        if not isinstance(parts, (list, tuple)) or not all(isinstance(part, bytes) for part in parts):
            raise Wrong("Return a list of bytes, one entry a token; word[i] of bytes is a number, word[i:i + 1] is bytes.")
    return [" ".join(part.decode() for part in parts) for parts in cut]


# 4: fewest pieces

def fewest_pieces(word, vocabulary):
    best = {0: []}  # how far -> the pieces up to there
    for end in range(1, len(word) + 1):
        cuts = [best[start] + [("##" if start else "") + word[start:end]]
                for start in range(end) if start in best
                and ("##" if start else "") + word[start:end] in vocabulary]
        if cuts:
            best[end] = min(cuts, key=len)
    return best.get(len(word), ["[UNK]"])


def greedy_pieces(word, vocabulary):
    pieces, start = [], 0
    while start < len(word):
        mark = "##" if start else ""
        end = next((end for end in range(len(word), start, -1) if mark + word[start:end] in vocabulary), None)
        if end is None:
            return ["[UNK]"]
        pieces.append(mark + word[start:end])
        start = end
    return pieces


def any_cut(word, vocabulary, start=0):
    """The first cut found by trying short pieces first, and turning back."""
    if start == len(word):
        return []
    mark = "##" if start else ""
    for end in range(start + 1, len(word) + 1):
        if mark + word[start:end] in vocabulary:
            rest = any_cut(word, vocabulary, end)
            if rest != ["[UNK]"]:
                return [mark + word[start:end], *rest]
    return ["[UNK]"]


def without_marks(word, vocabulary):
    return [piece.removeprefix("##") for piece in fewest_pieces(word, vocabulary)]


def longest_then_back(word, vocabulary, start=0):
    """Long pieces first, and turning back: a cut is found, but not the shortest."""
    if start == len(word):
        return []
    mark = "##" if start else ""
    for end in range(len(word), start, -1):
        if mark + word[start:end] in vocabulary:
            rest = longest_then_back(word, vocabulary, end)
            if rest != ["[UNK]"]:
                return [mark + word[start:end], *rest]
    return ["[UNK]"]


@check.exercise(4, "Fewest pieces", reference=fewest_pieces, mistakes=[
    (greedy_pieces, "That is longest match: it gives up on abc with the pieces ab, a, ##bc. Keep more than one beginning."),
    (longest_then_back, "Turning back finds a cut, but the first that it finds need not be the shortest."),
    (any_cut, "You return the first cut that fits. Compare all of them by their number of pieces."),
    (without_marks, "Inside a word a piece is written with ##."),
])
def check_fewest(answer):
    vocabulary = {"a", "ab", "abc", "##b", "##bc", "##c", "##d", "##de", "##e", "##cdef", "##f"}
    cut = [answer(word, set(vocabulary)) for word in ("abc", "abcdef", "ab", "ax", "bc")]
    small = answer("abc", {"ab", "a", "##bc"})
    return [" ".join(pieces) for pieces in [*cut, small]]


# 5: pad on the left

def pad_left(rows, pad):
    longest = max(map(len, rows))
    tokens = torch.tensor([[pad] * (longest - len(row)) + list(row) for row in rows])
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
    return tokens, mask  # (B, T) each


def pad_right(rows, pad):
    tokens, mask = pad_left([row[::-1] for row in rows], pad)
    return tokens.flip(1), mask.flip(1)


def mask_by_id(rows, pad):
    tokens = pad_left(rows, pad)[0]
    return tokens, (tokens != pad).long()


def mask_inverted(rows, pad):
    tokens, mask = pad_left(rows, pad)
    return tokens, 1 - mask


def pad_with_zero(rows, pad):
    return pad_left(rows, 0)


def mask_on_the_right(rows, pad):
    return pad_left(rows, pad)[0], pad_right(rows, pad)[1]


@check.exercise(5, "Pad on the left", reference=pad_left, mistakes=[
    (pad_right, "The padding stands at the right. The last column must hold each row's last real token."),
    (mask_by_id, "The mask comes from the lengths, not from the ids: the padding id occurs as a real token too."),
    (mask_inverted, "The mask is 1 at real tokens and 0 at padding."),
    (pad_with_zero, "Fill with `pad`, which is not 0 here."),
    (mask_on_the_right, "The tokens are padded at the left, the mask at the right."),
])
def check_pad(answer):
    result = answer([[5, 7, 9], [4], [7, 8]], 7)
    if not isinstance(result, (list, tuple)) or len(result) != 2:
        raise Wrong("Return two tensors: tokens and mask.")
    if result[1].dtype == torch.bool:
        raise Wrong("The mask is an integer tensor here, 1 at real tokens: BERT's `attention_mask`.")
    return result


# 6: sort before you pad

REAL = 3 + 9 + 4 + 8
# In order, then sorted: a batch is as wide as its longest text.
SHARES = 1 - REAL / (2 * 9 + 2 * 8), 1 - REAL / (2 * 4 + 2 * 9)


@check.exercise(6, "Sort before you pad", reference=SHARES, tolerance=0.01, mistakes=[
    ((24 / 34, 24 / 26), "Those are the shares of real tokens; padding is the rest."),
    ((10 / 24, 2 / 24), "You divided by the real tokens. The share is of all places, padding included."),
    ((10, 2), "Those are the numbers of padded places; the share divides by all places."),
    ((34, 26), "Those are the numbers of all places. Which share of them is padding?"),
    ((1 - 24 / 36, 1 - 24 / 36), "Each batch is as wide as its own longest text, not the longest of all."),
    ((1 - 24 / 26, 1 - 24 / 34), "The right numbers in the other order: first as given, then sorted."),
    ((100 * 10 / 34, 100 * 2 / 26), "Give the shares as parts of one, not in percent."),
])
def check_shares(answer):
    if not isinstance(answer, (tuple, list, torch.Tensor)) or len(answer) != 2:
        raise Wrong("Give two numbers: the share in order, and the share when sorted.")
    if any(value is ... for value in answer):
        raise NotImplementedError
    return [float(value) for value in answer]
