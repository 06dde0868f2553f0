"""Average precision as COCO's own program computes it, by hand, and by a definition that is written another way."""

import pytest
import torch
from faster_coco_eval import COCO, COCOeval_faster
from hypothesis import given, settings
from hypothesis import strategies as st

from tutorlib.evaluation.detection import (
    IOU_LEVELS,
    KINDS,
    Detections,
    Objects,
    average_precision,
    corners,
    detections,
    iou,
    kinds_of_error,
    overlaps,
)

BOX = [0.5, 0.5, 0.2, 0.2]


def seen(*entries):
    """Detections from (box, label, score)."""
    boxes, labels, scores = zip(*entries, strict=True) if entries else ([], [], [])
    return Detections(torch.tensor(boxes).view(-1, 4), torch.tensor(labels, dtype=torch.int64), torch.tensor(scores))


def real(*entries):
    """Objects from (box, label)."""
    boxes, labels = zip(*entries, strict=True) if entries else ([], [])
    return Objects(torch.tensor(boxes).view(-1, 4), torch.tensor(labels, dtype=torch.int64))


def drawn(seed=0, images=100):
    """Images with up to five objects; each is found twice, shifted, sometimes under another name, beside three inventions."""
    generator = torch.Generator().manual_seed(seed)

    def boxes(n):
        return torch.cat([torch.rand(n, 2, generator=generator), 0.1 + 0.3 * torch.rand(n, 2, generator=generator)], 1)

    found, there = [], []
    for _ in range(images):
        n = int(torch.randint(0, 6, (), generator=generator))
        objects = Objects(boxes(n), torch.randint(0, 4, (n,), generator=generator))
        shift = 0.04 * torch.randn(2 * n, 4, generator=generator) * torch.rand(2 * n, 1, generator=generator)
        moved = objects.boxes.repeat(2, 1) + shift
        moved[:, 2:].clamp_(min=0.01)
        extra = boxes(3)
        labels = torch.cat([objects.labels.repeat(2), torch.randint(0, 4, (3,), generator=generator)])
        wrong = torch.rand(len(labels), generator=generator) < 0.15
        labels[wrong] = (labels[wrong] + 1) % 4
        there.append(objects)
        found.append(Detections(torch.cat([moved, extra]), labels, torch.rand(len(labels), generator=generator)))
    return found, there


def by_the_library(found, there):
    """AP, AP50 and AP75 of faster-coco-eval, which takes corner, width and height in pixels."""
    def entries(side):
        for image, each in enumerate(side):
            corner = each.boxes[:, :2] - each.boxes[:, 2:] / 2
            for k, box in enumerate((1000 * torch.cat([corner, each.boxes[:, 2:]], 1)).tolist()):
                score = {"score": each.scores[k].item()} if isinstance(each, Detections) else {"iscrowd": 0}
                yield dict(image_id=image, category_id=each.labels[k].item(), bbox=box, area=box[2] * box[3], **score)

    truth = COCO(dict(
        images=[dict(id=image, width=1000, height=1000) for image in range(len(there))], categories=[
            dict(id=label, name=str(label)) for label in sorted({n for each in there for n in each.labels.tolist()})],
        annotations=[dict(id=number, **entry) for number, entry in enumerate(entries(there), 1)]))
    run = COCOeval_faster(truth, truth.loadRes(list(entries(found))), "bbox")
    run.evaluate()
    run.accumulate()
    run.summarize()
    return run.stats[:3]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_as_the_program_of_coco_computes_it(seed):
    """That keeps the best hundred an image; ours keeps all, and none of these has as many."""
    sides = drawn(seed)
    for levels, expected in zip((IOU_LEVELS, [0.5], [0.75]), by_the_library(*sides), strict=True):
        assert average_precision(*sides, levels) == pytest.approx(float(expected), abs=1e-6)


def by_definition(found, there, level):
    """Written from the definition alone: one list a class, precision read at each of 101 recalls."""
    areas = []
    for label in {label for each in there for label in each.labels.tolist()}:
        ranked = sorted(((score, image, box) for image, each in enumerate(found)
                         for box, name, score in zip(*(part.tolist() for part in each), strict=True) if name == label),
                        key=lambda entry: -entry[0])
        free = [[box for box, name in zip(each.boxes.tolist(), each.labels.tolist(), strict=True) if name == label]
                for each in there]
        total, hits, curve = sum(map(len, free)), 0, []
        for rank, (_, image, box) in enumerate(ranked, 1):
            best = max(free[image], key=lambda other: share(box, other), default=None)
            if best is not None and share(box, best) >= level:
                free[image].remove(best)
                hits += 1
            curve.append((hits / total, hits / rank))
        areas.append(sum(max((p for r, p in curve if r >= k / 100), default=0) for k in range(101)) / 101)
    return sum(areas) / len(areas)


def share(first, second):
    (x, y, w, h), (cx, cy, v, g) = first, second
    across = max(0, min(x + w / 2, cx + v / 2) - max(x - w / 2, cx - v / 2))
    down = max(0, min(y + h / 2, cy + g / 2) - max(y - h / 2, cy - g / 2))
    return across * down / (w * h + v * g - across * down)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), level=st.sampled_from([0.3, 0.5, 0.9]))
def test_as_the_definition_says(seed, level):
    found, there = drawn(seed, images=12)
    found, there = ([type(each)(*(part.double() if part.is_floating_point() else part for part in each)) for each in side]
                    for side in (found, there))
    if any(len(each.labels) for each in there):
        # recalls that are whole hundredths are reached or not by rounding: 101 points, one class, may differ by one
        assert average_precision(found, there, [level]) == pytest.approx(by_definition(found, there, level), abs=0.011)


APART = [0.1, 0.1, 0.1, 0.1]


@pytest.mark.parametrize(("found", "there", "expected"), [
    ([seen((BOX, 0, 0.9))], [real((BOX, 0))], 1.0),
    ([seen()], [real((BOX, 0))], 0.0),
    ([seen((BOX, 1, 0.9))], [real((BOX, 0))], 0.0),  # another class
    ([seen((BOX, 0, 0.9), (BOX, 0, 0.8))], [real((BOX, 0))], 1.0),  # a duplicate behind a hit costs nothing
    ([seen((APART, 0, 0.9), (BOX, 0, 0.8))], [real((BOX, 0))], 0.5),  # a surer error halves the precision
    ([seen((BOX, 0, 0.9))], [real((BOX, 0), (APART, 0))], 51 / 101),  # recalls 0, .01, ... .5 are reached
    ([seen((BOX, 0, 0.9)), seen((BOX, 0, 0.8))], [real((BOX, 0)), real()], 1.0),
    ([seen((BOX, 0, 0.9))], [real((BOX, 0), (APART, 1))], 0.5),  # the mean over the classes that are there
    ([seen((BOX, 0, 0.9), (APART, 7, 0.8))], [real((BOX, 0))], 1.0),  # a class that is not does not count
])
def test_by_hand(found, there, expected):
    assert average_precision(found, there, [0.5]) == pytest.approx(expected)


def test_a_detection_takes_the_object_it_overlaps_most_and_only_once():
    """The surer one takes the object in its place, so that the other is left the second; by order it would have been wrong."""
    near = [0.55, 0.5, 0.2, 0.2]  # IoU .6 with BOX
    there = [real((BOX, 0), (near, 0))]
    assert average_precision([seen((near, 0, 0.9), (BOX, 0, 0.8))], there, [0.5]) == 1
    assert average_precision([seen((near, 0, 0.9), (near, 0, 0.8))], there, [0.9]) == pytest.approx(51 / 101)


def test_level_counts_as_reached():
    half = [0.5, 0.5, 0.1, 0.2]  # IoU of exactly one half
    assert iou(torch.tensor(BOX, dtype=torch.float64), torch.tensor(half, dtype=torch.float64)).item() == pytest.approx(0.5)
    found, there = [seen((half, 0, 0.9))], [real((BOX, 0))]
    assert average_precision(found, there, [0.49]) == 1 and average_precision(found, there, [0.51]) == 0


@pytest.mark.parametrize(("other", "shared", "union"), [
    ([0.5, 0.5, 0.2, 0.2], 0.04, 0.04), ([0.6, 0.5, 0.2, 0.2], 0.02, 0.06), ([0.9, 0.9, 0.2, 0.2], 0, 0.08),
    ([0.5, 0.5, 0.1, 0.1], 0.01, 0.04), ([0.7, 0.7, 0.2, 0.2], 0, 0.08), ([0.5, 0.5, 0, 0], 0, 0.04)])
def test_overlaps_by_hand(other, shared, union):
    found = overlaps(torch.tensor(BOX), torch.tensor(other))
    assert [each.item() for each in found] == pytest.approx([shared, union], abs=1e-7)
    assert iou(torch.tensor(BOX), torch.tensor(other)).item() == pytest.approx(shared / union, abs=1e-6)


def test_two_points_have_no_overlap_and_finite_gradients():
    point = torch.tensor([0.5, 0.5, 0.0, 0.0], requires_grad=True)
    value = iou(point, torch.tensor([0.5, 0.5, 0.0, 0.0]))
    value.backward()
    assert value == 0 and point.grad.isfinite().all()


def test_corners():
    assert corners(torch.tensor([[0.5, 0.4, 0.2, 0.6]])).tolist() == [pytest.approx([0.4, 0.1, 0.6, 0.7])]


def test_detections_of_a_model():
    logits = torch.tensor([[[2.0, 0.0, 0.0], [0.0, 1.0, 5.0], [0.0, 3.0, 0.0]]])  # the second query: no object
    boxes = torch.rand(1, 3, 4)
    found, = detections(logits, boxes)
    assert found.labels.tolist() == [1, 0, 1] and torch.equal(found.boxes, boxes[0, [2, 0, 1]])
    assert found.scores.tolist() == pytest.approx(logits[0].softmax(-1)[[2, 0, 1], [1, 0, 1]].tolist())
    assert len(detections(logits, boxes, 0.5)[0].labels) == 2


def test_each_kind_of_error_by_hand():
    shifted, small = [0.55, 0.5, 0.2, 0.2], [0.5, 0.5, 0.08, 0.16]  # IoU .6 and .32 with BOX
    found = [seen((BOX, 0, 0.9), (shifted, 0, 0.8)), seen((shifted, 1, 0.9)), seen((small, 0, 0.9)), seen((APART, 0, 0.9)),
             seen()]
    there = [real((BOX, 0))] * 5
    counts = kinds_of_error(found, there)
    assert list(counts) == list(KINDS)
    assert counts == {"right": 1, "duplicate": 1, "wrong class": 1, "poor box": 1, "nothing there": 1, "missed": 4}


def test_the_surer_of_two_is_right_and_the_other_a_duplicate():
    counts = kinds_of_error([seen((BOX, 0, 0.2), (BOX, 0, 0.9), (BOX, 1, 0.1))], [real((BOX, 0), (BOX, 1))])
    assert counts["right"] == 2 and counts["duplicate"] == 1 and counts["missed"] == 0


def test_images_and_objects_must_be_there():
    with pytest.raises(ValueError, match="found and there must be of the same images, got 1 and 2"):
        average_precision([seen()], [real(), real()])
    with pytest.raises(ValueError, match="there must hold at least one object"):
        average_precision([seen((BOX, 0, 0.9))], [real()])
    with pytest.raises(ValueError, match="levels must hold at least one IoU"):
        average_precision([seen()], [real((BOX, 0))], [])
    with pytest.raises(ValueError, match="found and there must be of the same images, got 0 and 1"):
        kinds_of_error([], [real()])
