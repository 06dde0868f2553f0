"""Spans from tags: as seqeval has them, there and back, and what is refused."""

import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutorlib.evaluation.spans import Span, span_scores, spans_of, tags_of

TAGS = st.lists(st.sampled_from(["O", "O", "B-a", "I-a", "B-b", "I-b"]), max_size=12)


@given(st.lists(st.tuples(TAGS, TAGS), min_size=1, max_size=6))
def test_scores_are_seqevals(pairs):
    from seqeval.metrics import f1_score, precision_score, recall_score

    expected = [first for first, _ in pairs]
    predicted = [(second + ["O"] * 12)[:len(first)] for first, second in pairs]
    ours = span_scores(predicted, expected)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says where there is nothing to divide by
        theirs = [score(expected, predicted, zero_division=0) for score in (precision_score, recall_score, f1_score)]
    assert [ours.precision, ours.recall, ours.f1] == pytest.approx(theirs)


@given(TAGS)
def test_there_and_back(tags):
    spans = spans_of(tags)
    assert spans_of(tags_of(spans, len(tags))) == spans
    assert sum(span.end - span.start for span in spans) == sum(tag != "O" for tag in tags)


def test_spans_by_hand():
    assert spans_of(["B-a", "I-a", "O", "B-a", "B-a"]) == [Span(0, 2, "a"), Span(3, 4, "a"), Span(4, 5, "a")]
    assert spans_of(["I-a", "I-b", "I-b"]) == [Span(0, 1, "a"), Span(1, 3, "b")]  # each begins one
    assert tags_of([Span(1, 3, "a")], 4) == ["O", "B-a", "I-a", "O"]
    scores = span_scores([["B-a", "O", "B-a"]], [["B-a", "O", "O"]])
    assert scores == (1, 2, 1) and (scores.precision, scores.recall, scores.f1) == (0.5, 1.0, pytest.approx(2 / 3))
    assert span_scores([["O"]], [["O"]]).f1 == 0.0


def test_only_some_spans_count():
    tags = [["B-a", "O", "B-b"], ["B-b"]]
    assert span_scores(tags, tags, lambda text, span: span.kind == "b") == (2, 2, 2)
    assert span_scores(tags, tags, lambda text, span: text == 1) == (1, 1, 1)
    assert span_scores([["B-a", "B-b", "O"]], [["B-a", "O", "B-b"]], lambda text, span: span.start == 1) == (0, 1, 0)


def test_refusals():
    for tags in (["B"], ["X-a"], ["B-"], ["I"]):
        with pytest.raises(ValueError, match=r"tags\[0\] must be 'O', 'B-kind' or 'I-kind'"):
            spans_of(tags)
    for span in (Span(0, 5, "a"), Span(2, 2, "a"), Span(-1, 2, "a")):
        with pytest.raises(ValueError, match="must lie in a text of 4 words"):
            tags_of([span], 4)
    with pytest.raises(ValueError, match="lies over another"):
        tags_of([Span(0, 2, "a"), Span(1, 3, "a")], 4)
    with pytest.raises(ValueError, match="tag for tag"):
        span_scores([["O"]], [["O", "O"]])
    with pytest.raises(ValueError, match="tag for tag"):
        span_scores([["O"]], [["O"], ["O"]])
