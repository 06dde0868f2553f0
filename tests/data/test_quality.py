"""Wrong labels are as many as asked and never right; what is kept is what the scores say, as many of each class."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.closeness import assert_same
from tutorlib.data.quality import distance_to_mean, keep_lowest, wrong_labels


def dice(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@settings(max_examples=30)
@given(share=st.floats(0, 1), classes=st.integers(2, 7), count=st.integers(0, 60), seed=st.integers(0, 10**6))
def test_as_many_labels_are_wrong_as_asked(share, classes, count, seed):
    labels = torch.randint(classes, (count,), generator=dice(seed))
    kept = labels.clone()
    spoiled = wrong_labels(labels, share, classes, generator=dice(seed + 1))
    assert (spoiled != labels).sum() == round(share * count)
    assert ((spoiled >= 0) & (spoiled < classes)).all() and torch.equal(labels, kept)


def test_each_wrong_class_is_as_likely():
    spoiled = wrong_labels(torch.full((30_000,), 2), 1.0, 4, generator=dice())
    counts = spoiled.bincount(minlength=4)
    assert counts[2] == 0 and (counts[[0, 1, 3]] - 10_000).abs().max() < 400  # five standard errors


def test_distance_by_hand():
    examples = torch.tensor([[[0.0, 0.0]], [[2.0, 0.0]], [[5.0, 5.0]], [[0.0, 4.0]], [[2.0, 4.0]]])
    labels = torch.tensor([0, 0, 3, 0, 0])
    assert_same(distance_to_mean(examples, labels), torch.tensor([5.0, 5.0, 0.0, 5.0, 5.0]).sqrt())


def test_the_lowest_of_each_class_are_kept():
    scores, labels = torch.tensor([5.0, 1.0, 2.0, 9.0, 0.5, 3.0]), torch.tensor([0, 0, 0, 1, 1, 1])
    assert keep_lowest(scores, labels, 2).tolist() == [1, 2, 4, 5]
    assert keep_lowest(-scores, labels, 1).tolist() == [0, 3]


def test_refusals():
    labels = torch.tensor([0, 1, 1])
    with pytest.raises(ValueError, match="share must be from 0 to 1, got 1.5"):
        wrong_labels(labels, 1.5, 3, generator=dice())
    with pytest.raises(ValueError, match="classes must be at least 2, so that there is a wrong one, got 1"):
        wrong_labels(labels, 0.5, 1, generator=dice())
    with pytest.raises(ValueError, match="labels must be below classes = 2, got 2"):
        wrong_labels(labels + 1, 0.5, 2, generator=dice())
    for wrong in (labels.float(), labels[None], labels - 1):
        with pytest.raises(ValueError, match=r"labels must be \(N,\) integers from 0 on"):
            wrong_labels(wrong, 0.5, 3, generator=dice())
    with pytest.raises(ValueError, match=r"examples must be \(N, ...\) with a label each, got \(2, 4\) and 3 labels"):
        distance_to_mean(torch.zeros(2, 4), labels)
    with pytest.raises(ValueError, match=r"scores must be \(3,\), as labels are, got \(2,\)"):
        keep_lowest(torch.zeros(2), labels, 1)
    with pytest.raises(ValueError, match="keep must be at most 1, as many as there are of class 0, got 2"):
        keep_lowest(torch.zeros(3), labels, 2)
    with pytest.raises(ValueError, match="keep must be at least 1, got 0"):
        keep_lowest(torch.zeros(3), labels, 0)
