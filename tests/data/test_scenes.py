"""Scenes: drawn again by hand, exact boxes and masks, ranges kept, seeds that do what they say."""

import pytest
import torch

from tutorlib.data import scenes
from tutorlib.data.digits import Images, load_digits
from tutorlib.data.scenes import NAMES, boxes_of, make_scenes


@pytest.fixture(scope="module")
def digits():
    return load_digits().train


@pytest.fixture(scope="module")
def drawn(digits):
    return make_scenes(120, digits, 0)


def test_shapes_types_and_range(drawn):
    assert drawn.images.shape == (120, 3, 64, 64) and drawn.images.dtype == torch.float32
    assert drawn.images.min() >= 0 and drawn.images.max() <= 1
    assert drawn.classes.shape == (120, 64, 64) and drawn.classes.dtype == torch.int64
    for boxes, labels, masks in zip(drawn.boxes, drawn.labels, drawn.masks, strict=True):
        assert boxes.shape == (len(labels), 4) and masks.shape == (len(labels), 64, 64)
        assert boxes.dtype == torch.float32 and labels.dtype == torch.int64 and masks.dtype == torch.bool


def test_a_box_is_the_smallest_that_holds_its_mask(drawn):
    """Cut out by the box's corners, a mask loses no pixel, and each of the four sides touches one."""
    for boxes, masks in zip(drawn.boxes, drawn.masks, strict=True):
        for (cx, cy, w, h), mask in zip(boxes * 64, masks, strict=True):
            left, right, top, bottom = (round(edge.item()) for edge in (cx - w / 2, cx + w / 2, cy - h / 2, cy + h / 2))
            inside = mask[top:bottom, left:right]
            assert inside.sum() == mask.sum() > 0
            assert all(edge.any() for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1]))


def test_boxes_of_a_pixel_and_of_a_wide_picture():
    masks = torch.zeros(2, 4, 8, dtype=torch.bool)
    masks[0, 3, 0] = masks[1, 1, 2] = masks[1, 2, 5] = True
    expected = [[0.5 / 8, 3.5 / 4, 1 / 8, 1 / 4], [4 / 8, 2 / 4, 4 / 8, 2 / 4]]
    torch.testing.assert_close(boxes_of(masks), torch.tensor(expected))
    assert boxes_of(masks[:0]).shape == (0, 4)
    with pytest.raises(ValueError, match="masks must each hold a pixel"):
        boxes_of(masks[:, :1])


def test_a_pixel_shows_one_object_and_the_map_says_which(drawn):
    for labels, masks, classes in zip(drawn.labels, drawn.masks, drawn.classes, strict=True):
        assert masks.sum(0).max() <= 1
        assert torch.equal(classes > 0, masks.any(0))
        for label, mask in zip(labels, masks, strict=True):
            assert (classes[mask] == label + 1).all()


def test_the_object_in_front_hides_the_one_behind(digits, monkeypatch):
    """Squares alone, without noise: inside each mask one color, give or take the light, and the last square is whole."""
    monkeypatch.setattr(scenes, "_object", lambda which, side, *_: (11, torch.ones(side, side)))
    drawn = make_scenes(30, digits, 1, objects=(4, 4), visible=0.3, noise=0)
    hidden = 0
    for image, masks, boxes in zip(drawn.images, drawn.masks, drawn.boxes, strict=True):
        area = (boxes[:, 2] * boxes[:, 3] * 64**2).round()
        assert masks[-1].sum() == area[-1]
        hidden += int((masks.sum((1, 2)) < area).sum())
        for mask in masks:
            color = image[:, mask]  # (3, pixels); light scales all three alike
            ratio = color / color.sum(0)
            assert (ratio.amax(1) - ratio.amin(1)).max() < 0.02 or color.max() == 1  # clipped where it is too bright
    assert hidden > 10


def test_the_share_in_sight_is_kept(digits, monkeypatch):
    monkeypatch.setattr(scenes, "_object", lambda which, side, *_: (11, torch.ones(20, 20)))
    for visible in (1.0, 0.7):
        drawn = make_scenes(40, digits, 2, objects=(3, 5), visible=visible)
        least = min(masks.sum((1, 2)).min().item() for masks in drawn.masks)
        assert visible <= least / 400 < visible + 0.1


def test_numbers_and_sides_reach_both_ends_and_no_further(digits):
    drawn = make_scenes(200, digits, 3, objects=(0, 2), sides=(10, 12), visible=1)
    assert {len(labels) for labels in drawn.labels} == {0, 1, 2}
    whole = torch.cat(drawn.boxes) * 64
    longest = whole[:, 2:].amax(1).round()
    shapes = torch.cat(drawn.labels) >= 10
    assert set(longest[shapes].tolist()) == {10.0, 11.0, 12.0}
    assert longest[~shapes].max() == 12 and longest[~shapes].min() >= 8  # fine ends may be too faint


def test_the_smallest_digits_and_the_most_hidden_still_show_a_pixel(digits):
    drawn = make_scenes(100, digits, 8, objects=(5, 8), sides=(4, 12), size=24, visible=0)
    assert min(masks.sum((1, 2)).min().item() for masks in drawn.masks) >= 1


def test_each_kind_is_as_likely(digits):
    labels = torch.cat(make_scenes(600, digits, 4, visible=0).labels)
    share = labels.bincount(minlength=len(NAMES)) / len(labels)
    assert len(share) == len(NAMES) == 13
    assert (share - 1 / 13).abs().max() < 5 * (1 / 13 / len(labels)) ** 0.5


def test_a_scene_depends_on_its_seed_and_number_alone(digits):
    few, many, other = make_scenes(3, digits, 5), make_scenes(6, digits, 5), make_scenes(3, digits, 6)
    assert torch.equal(few.images, many.images[:3]) and torch.equal(few.classes, many.classes[:3])
    assert not torch.equal(few.images, other.images)
    torch.manual_seed(0)
    torch.rand(3)
    assert torch.equal(make_scenes(3, digits, 5).images, few.images)  # torch's own random numbers do not matter


def test_digits_come_from_those_given_with_their_labels(monkeypatch):
    """A given digit is a full square of ink with the label 7: no other digit may appear."""
    given = Images(torch.ones(1, 1, 28, 28), torch.tensor([7]))
    drawn = make_scenes(60, given, 7, visible=1)
    for boxes, labels, masks in zip(drawn.boxes, drawn.labels, drawn.masks, strict=True):
        assert set(labels.tolist()) <= {7, 10, 11, 12}
        for box, label, mask in zip(boxes, labels, masks, strict=True):
            if label == 7:
                assert mask.sum() == (box[2] * box[3] * 64**2).round()


def test_shapes_cover_what_their_names_say():
    area = {name: scenes.shape_ink(name, 40).mean().item() for name in NAMES[10:]}
    assert abs(area["circle"] - torch.pi / 4) < 0.01 and area["square"] == 1 and abs(area["triangle"] - 0.5) < 0.02
    for name in NAMES[10:]:
        assert boxes_of(scenes.shape_ink(name, 21)[None] > 0)[0].tolist() == [0.5, 0.5, 1, 1]


@pytest.mark.parametrize(("options", "message"), [
    (dict(number=0), "number must be at least 1, got 0"),
    (dict(objects=(3, 2)), "objects must be the least and the most, got (3, 2)"),
    (dict(objects=(-1, 2)), "objects must be at least 0, got -1"),
    (dict(sides=(10, 65)), "sides must be at most size=64, got (10, 65)"),
    (dict(sides=(3, 5)), "sides must be at least 4, got 3"),
    (dict(visible=1.5), "visible must lie in [0, 1], got 1.5"),
    (dict(noise=-0.1), "noise must be at least 0, got -0.1"),
])
def test_what_is_refused(digits, options, message):
    with pytest.raises(ValueError) as error:
        make_scenes(**{"number": 1, "digits": digits, "seed": 0} | options)
    assert str(error.value) == message
