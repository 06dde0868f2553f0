"""Marked stretches of a text, such as names: tags to spans and back, and how many spans were found exactly.

Tags are BIO (Ramshaw and Marcus 1995): B-kind begins a span, I-kind goes on with it, O is outside of all.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple


class Span(NamedTuple):
    """Words number start to end - 1 of a text, and what they are."""

    start: int
    end: int
    kind: str


class SpanScores(NamedTuple):
    """How many spans were found exactly, how many were marked, how many there are."""

    right: int
    marked: int
    expected: int

    @property
    def precision(self) -> float:
        """The share of marked spans that are right; 0 where none is marked."""
        return self.right / self.marked if self.marked else 0.0

    @property
    def recall(self) -> float:
        """The share of expected spans that were found; 0 where there is none."""
        return self.right / self.expected if self.expected else 0.0

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall; 0 where no span is marked and none expected."""
        total = self.marked + self.expected
        return 2 * self.right / total if total else 0.0


def spans_of(tags: Sequence[str]) -> list[Span]:
    """The spans of a text's tags. An I that follows no tag of its kind begins one, as in the scoring program of CoNLL.

    Raises ValueError for a tag that is neither O nor B or I with a kind.
    """
    spans, start = [], 0
    for place, (before, tag) in enumerate(zip(["O", *tags], [*tags, "O"], strict=True)):
        if tag != "O" and (tag[:2] not in ("B-", "I-") or not tag[2:]):
            raise ValueError(f"tags[{place}] must be 'O', 'B-kind' or 'I-kind', got {tag!r}")
        goes_on = tag[:2] == "I-" and tag[2:] == before[2:]
        if before != "O" and not goes_on:
            spans.append(Span(start, place, before[2:]))
        if not goes_on:
            start = place
    return spans


def tags_of(spans: Iterable[Span], length: int) -> list[str]:
    """The tags of a text of so many words. Raises ValueError for a span without words, outside the text or over another."""
    tags = ["O"] * length
    for span in spans:
        if not 0 <= span.start < span.end <= length:
            raise ValueError(f"spans: {span} must lie in a text of {length} words and hold at least one")
        if any(tag != "O" for tag in tags[span.start:span.end]):
            raise ValueError(f"spans: {span} lies over another one")
        tags[span.start:span.end] = [f"B-{span.kind}", *[f"I-{span.kind}"] * (span.end - span.start - 1)]
    return tags


def span_scores(predicted: Sequence[Sequence[str]], expected: Sequence[Sequence[str]],
                counts: Callable[[int, Span], bool] = lambda text, span: True) -> SpanScores:
    """Over all texts: a marked span is right where start, end and kind are those of an expected one.

    `counts` (number of the text, span) says which spans to look at, of the marked and of the expected ones alike. Raises
    ValueError where the texts or their tags are not equally many, and as `spans_of` does.
    """
    if list(map(len, predicted)) != list(map(len, expected)):
        raise ValueError(f"predicted must hold the texts of expected, tag for tag, got {len(predicted)} and {len(expected)}")
    right = marked = there = 0
    for text, (ours, theirs) in enumerate(zip(predicted, expected, strict=True)):
        found, gold = ({span for span in spans_of(tags) if counts(text, span)} for tags in (ours, theirs))
        right, marked, there = right + len(found & gold), marked + len(found), there + len(gold)
    return SpanScores(right, marked, there)
