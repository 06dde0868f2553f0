"""Pairs of marks: what is drawn, that the label is true, and that neither ink nor place betrays it."""

import pytest
import torch

from tutorlib.data.pairs import draw_pairs
from tutorlib.models.vit import patches


def marks(images):
    """The two marks of each picture, as 9 squares, and the cells that hold them: (N, 2, 9) and (N, 2)."""
    cells = patches(images, 7).view(-1, 16, 7, 7)
    squares = cells[:, :, :6:2, :6:2].flatten(2)  # (N, 16, 9)
    large = squares.view(-1, 16, 3, 3).repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert torch.equal(cells[:, :, :6, :6], large) and not cells[:, :, 6].any() and not cells[:, :, :, 6].any()
    filled = squares.any(-1)  # (N, 16)
    assert (filled.sum(1) == 2).all()
    places = filled.nonzero()[:, 1].view(-1, 2)
    return squares[filled].view(-1, 2, 9), places


@pytest.mark.parametrize("near", [False, True])
def test_labels_are_true_and_ink_says_nothing(near):
    images, labels = draw_pairs(2000, torch.Generator().manual_seed(0), near=near)
    assert images.shape == (2000, 1, 28, 28) and images.dtype == torch.float32 and set(images.unique().tolist()) == {0.0, 1.0}
    (first, second), places = marks(images)[0].unbind(1), marks(images)[1]
    assert torch.equal((first == second).all(1).long(), labels)
    assert torch.equal(first.sum(1), second.sum(1))
    assert first.sum(1).min() == 1 and first.sum(1).max() == 8
    assert abs(labels.double().mean() - 0.5) < 0.05
    ink = [first.sum(1)[labels == label].double().mean() for label in (0, 1)]
    assert abs(ink[0] - ink[1]) < 0.25
    across, down = (places % 4).diff(dim=1).abs(), (places // 4).diff(dim=1).abs()
    assert ((across + down == 1).all().item()) == near
    assert len(places.unique(dim=0)) == (24 if near else 120)  # every pair of cells comes


def test_the_generator_decides():
    first, same, other = (draw_pairs(5, torch.Generator().manual_seed(seed)) for seed in (3, 3, 4))
    assert torch.equal(first.images, same.images) and torch.equal(first.labels, same.labels)
    assert not torch.equal(first.images, other.images)


def test_refuses_no_pictures():
    with pytest.raises(ValueError, match="number must be at least 1, got 0"):
        draw_pairs(0, torch.Generator())
