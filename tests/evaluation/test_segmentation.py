"""Scores of segmentation: by hand, against sets of pixels, and what they refuse."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tutorlib.evaluation.segmentation import (
    boundary_iou,
    confusion_matrix,
    dice,
    distance_to_boundary,
    iou,
    mean_iou,
    named_objects,
    near_boundary,
    pixel_accuracy,
)

# A 4 x 4 image: class 1 is the left half, and the prediction takes a column too many and calls one pixel 2.
TRUTH = torch.tensor([[[1, 1, 0, 0]] * 4])[0][None]  # (1, 4, 4)
GUESS = torch.tensor([[[1, 1, 1, 0], [1, 1, 1, 0], [1, 1, 1, 0], [1, 1, 1, 2]]])


def test_by_hand():
    confusion = confusion_matrix(GUESS, TRUTH, 4)
    assert confusion.tolist() == [[3, 4, 1, 0], [0, 8, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert pixel_accuracy(confusion) == pytest.approx(11 / 16)
    scores = iou(confusion)
    assert scores[:3].tolist() == pytest.approx([3 / 8, 8 / 12, 0]) and scores[3].isnan()  # 3 stands in neither
    assert mean_iou(confusion) == pytest.approx((3 / 8 + 8 / 12 + 0) / 3)
    assert dice(confusion)[:3].tolist() == pytest.approx([6 / 11, 16 / 20, 0]) and dice(confusion)[3].isnan()


@settings(deadline=None)
@given(st.integers(0, 999), st.integers(2, 5))
def test_overlaps_are_those_of_sets_of_pixels(seed, num_classes):
    generator = torch.Generator().manual_seed(seed)
    guess, truth = (torch.randint(num_classes, (2, 3, 4), generator=generator) for _ in range(2))
    confusion = confusion_matrix(guess, truth, num_classes)
    assert torch.equal(confusion, sum(confusion_matrix(guess[n], truth[n], num_classes) for n in range(2)))
    for number in range(num_classes):
        ours, true = ({*map(tuple, (values == number).nonzero().tolist())} for values in (guess, truth))
        if ours | true:
            overlap = len(ours & true) / len(ours | true)
            assert iou(confusion)[number].item() == pytest.approx(overlap)
            assert dice(confusion)[number].item() == pytest.approx(2 * overlap / (1 + overlap))
        else:
            assert iou(confusion)[number].isnan()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 999), st.integers(1, 3), st.integers(1, 4))
def test_distances_are_the_nearest_pixel_of_another_class(seed, width, shown):
    classes = torch.randint(shown, (1, 6, 7), generator=torch.Generator().manual_seed(seed))
    classes[:, :3] = 0
    pixels = torch.cartesian_prod(torch.arange(6), torch.arange(7))  # (42, 2)
    apart = (pixels[:, None] - pixels).abs().amax(-1)  # (42, 42), the larger of rows and columns
    other = classes.flatten()[:, None] != classes.flatten()
    nearest = torch.where(other, apart, 99).amin(1).view(1, 6, 7)
    assert torch.equal(near_boundary(classes, width), nearest <= width)
    assert torch.equal(distance_to_boundary(classes, width), nearest.clamp(max=width))


def test_the_rim_alone_counts():
    """A square of 6 x 6 whose inside is called wrong keeps its boundary IoU; one moved by a pixel loses most of it."""
    truth = torch.zeros(1, 12, 12, dtype=torch.int64)
    truth[:, 3:9, 3:9] = 1
    moved = truth.roll(1, 2)
    assert boundary_iou(truth, truth, 3).tolist()[:2] == [1, 1] and boundary_iou(truth, truth, 3)[2].isnan()
    area = iou(confusion_matrix(moved, truth, 2))[1].item()
    assert area == pytest.approx(30 / 42)
    # two rims of 20 pixels each: 5 + 5 of top and bottom lie on one another, and one column pair does not
    assert boundary_iou(moved, truth, 2)[1].item() == pytest.approx(10 / 30)
    assert boundary_iou(moved, truth, 2, width=3)[1].item() == pytest.approx(area)  # the rim is all of it


def test_objects_are_named_by_the_vote_of_the_pixels_that_see_one():
    predicted = torch.tensor([[[0, 0, 0, 2], [3, 3, 0, 0], [0, 0, 0, 0]]])  # (1, 3, 4)
    masks = torch.zeros(3, 3, 4, dtype=torch.bool)
    masks[0, 0] = True  # one pixel of four says 2
    masks[1, 1, :3] = True  # two of three say 3
    masks[2, 2] = True  # none says anything
    assert named_objects(predicted, [masks], [torch.tensor([2, 1, 1])]).tolist() == [True, False, False]
    assert named_objects(predicted, [masks[:0]], [torch.tensor([])]).tolist() == []


def test_device_follows(device):
    guess, truth = GUESS.to(device), TRUTH.to(device)
    assert confusion_matrix(guess, truth, 3).device.type == device.type
    assert boundary_iou(guess, truth, 3).device.type == device.type == near_boundary(truth, 1).device.type


@pytest.mark.parametrize(("call", "message"), [
    (lambda: confusion_matrix(GUESS, TRUTH[:, :3], 3), r"one shape and hold a pixel, got \(1, 4, 4\) and \(1, 3, 4\)"),
    (lambda: confusion_matrix(GUESS[:0], TRUTH[:0], 3), "hold a pixel"),
    (lambda: confusion_matrix(GUESS, TRUTH, 2), r"predicted must lie in \[0, 2\), got values from 0 to 2"),
    (lambda: confusion_matrix(TRUTH, GUESS - 1, 3), r"classes must lie in \[0, 3\), got values from -1 to 1"),
    (lambda: confusion_matrix(GUESS.float(), TRUTH, 3), "predicted must be integers, got torch.float32"),
    (lambda: boundary_iou(GUESS, TRUTH, 3, width=0), "width must be at least 1, got 0"),
    (lambda: near_boundary(TRUTH, 0), "width must be at least 1, got 0"),
    (lambda: distance_to_boundary(TRUTH, 0), "most must be at least 1, got 0"),
    (lambda: confusion_matrix(GUESS, TRUTH, 0), "num_classes must be at least 1, got 0"),
])
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
