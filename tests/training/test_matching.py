"""Matching is optimal and the loss is what the paper writes, down to pictures without objects and boxes without area."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tutorlib.evaluation.detection import iou
from tutorlib.training.matching import (
    Targets,
    assign,
    assign_by_trying,
    detr_loss,
    generalized_iou,
    match,
    matching_costs,
    set_loss,
)

COSTS = st.integers(0, 5).flatmap(lambda rows: st.integers(rows, 6).flatmap(lambda columns: st.lists(
    st.lists(st.one_of(st.integers(-3, 3), st.floats(-1e3, 1e3)), min_size=columns, max_size=columns),
    min_size=rows, max_size=rows)))


def total(costs, columns):
    return sum(row[column] for row, column in zip(costs, columns, strict=True))


@settings(max_examples=300)
@given(costs=COSTS)
def test_assignment_costs_what_the_best_of_all_trials_costs(costs):
    columns = assign(costs)
    assert len(set(columns)) == len(columns) == len(costs)
    assert total(costs, columns) == pytest.approx(total(costs, assign_by_trying(costs)), abs=1e-6)


def test_the_cheapest_of_each_row_is_not_the_answer():
    """Row by row, 1 then 100; together 2 and 3: the first row gives way."""
    costs = [[1, 2], [3, 100]]
    assert assign(costs) == assign_by_trying(costs) == [1, 0]


def test_a_long_chain_of_rows_moves():
    """Each row is best at the column of the row before, and the last one can go nowhere else: all give way."""
    n = 30
    costs = [[0 if column == row else 1 if column == row + 1 else 10**6 for column in range(n + 1)] for row in range(n)]
    costs.append([0] + [10**6] * n)
    assert assign(costs) == [*range(1, n + 1), 0]


@pytest.mark.parametrize("function", [assign, assign_by_trying])
def test_more_rows_than_columns_are_refused(function):
    with pytest.raises(ValueError, match="costs must have at least as many columns as rows, got 2 rows and 1 columns"):
        function([[1.0], [2.0]])
    assert function([]) == []


def test_costs_that_are_no_numbers_are_refused():
    with pytest.raises(ValueError, match="costs must be numbers, got nan"):
        assign([[0.0, float("nan")]])


UNIT = torch.tensor([0.5, 0.5, 1.0, 1.0])


@pytest.mark.parametrize(("other", "expected"), [
    ([0.5, 0.5, 1.0, 1.0], 1.0),  # equal
    ([0.5, 0.5, 0.5, 0.5], 0.25),  # contained: the hull is the larger one
    ([1.5, 0.5, 1.0, 1.0], 0.0),  # they touch: no overlap, no gap
    ([3.5, 0.5, 1.0, 1.0], -0.5),  # a gap of two between two: half of the hull
    ([1.0, 1.0, 1.0, 1.0], 0.25 / 1.75 - 0.5 / 2.25),  # a quarter shared
    ([0.5, 0.5, 0.0, 0.0], 0.0),  # a point inside
    ([2.0, 0.5, 0.0, 0.0], -0.5),  # a point outside
    ([0.5, 0.5, 1.0, 0.0], 0.0),  # a line inside
])
def test_generalized_iou_by_hand(other, expected):
    other = torch.tensor(other)
    assert generalized_iou(UNIT, other).item() == pytest.approx(expected)
    assert generalized_iou(other, UNIT).item() == pytest.approx(expected)


def test_boxes_without_area_have_values_and_gradients():
    """Two points, at one place or apart, and two crossing lines."""
    first = torch.tensor([[0.5, 0.5, 0, 0], [0.5, 0.5, 0, 0], [0.5, 0.5, 1, 0]], requires_grad=True)
    second = torch.tensor([[0.5, 0.5, 0, 0], [0.75, 0.75, 0, 0], [0.5, 0.5, 0, 1]])
    value = generalized_iou(first, second)
    assert value.tolist() == [0, -1, -1]
    value.sum().backward()
    assert first.grad.isfinite().all()


@settings(max_examples=50)
@given(seed=st.integers(0, 10**6))
def test_generalized_iou_lies_between_minus_one_and_iou(seed):
    first, second = torch.rand(2, 50, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    value = generalized_iou(first, second)
    assert (value <= iou(first, second) + 1e-12).all() and (value >= -1).all()


def test_gradient_pulls_boxes_together_that_do_not_meet():
    """Where IoU says nothing: its gradient is zero, that of the generalized one points at the other box."""
    box = torch.tensor([0.2, 0.5, 0.1, 0.1], requires_grad=True)
    other = torch.tensor([0.8, 0.5, 0.1, 0.1])
    assert torch.autograd.grad(iou(box, other), box)[0].abs().sum() == 0
    assert torch.autograd.grad(generalized_iou(box, other), box)[0][0] > 0


def draw(counts, queries=5, classes=3, seed=0, layers=None):
    generator = torch.Generator().manual_seed(seed)
    shape = (len(counts), queries) if layers is None else (layers, len(counts), queries)
    logits, raw = (torch.randn(*shape, width, generator=generator) for width in (classes + 1, 4))
    labels = [torch.randint(classes, (n,), generator=generator) for n in counts]
    boxes = [0.25 + 0.5 * torch.rand(n, 4, generator=generator) for n in counts]
    return logits, raw.sigmoid(), Targets.of(labels, boxes)


def test_costs_by_hand():
    logits, boxes, targets = draw([2, 1])
    costs = matching_costs(logits, boxes, targets)
    for row, (label, box, image) in enumerate(zip(*targets, strict=True)):
        for query in range(5):
            chance = logits[image, query].softmax(-1)[label]
            distance = (boxes[image, query] - box).abs().sum()
            expected = -chance + 5 * distance - 2 * generalized_iou(boxes[image, query], box)
            assert costs[row, query].item() == pytest.approx(expected.item(), abs=1e-5)


@pytest.mark.parametrize("counts", [[3, 0, 5], [0, 0], [1]])
def test_each_image_is_matched_for_itself_at_the_least_cost(counts):
    logits, boxes, targets = draw(counts)
    chosen, costs = match(logits, boxes, targets).split(counts), matching_costs(logits, boxes, targets).split(counts)
    for mine, table in zip(chosen, costs, strict=True):
        assert len(set(mine.tolist())) == len(mine)
        least = min(total(table.tolist(), columns) for columns in itertools.permutations(range(5), len(mine)))
        assert total(table.tolist(), mine.tolist()) == pytest.approx(least, abs=1e-5)


def test_more_objects_than_queries_are_refused():
    with pytest.raises(ValueError, match="at most as many objects as queries, 5, got 6"):
        match(*draw([1, 6]))


def test_loss_by_hand():
    """One picture, two queries, one object matched to the second; class weights 1 and .1 in a weighted mean."""
    logits, boxes, targets = draw([1], queries=2)
    logp, box = logits[0].log_softmax(-1), targets.boxes[0]
    named = -(logp[1, targets.labels[0]] + 0.1 * logp[0, 3]) / 1.1
    expected = named + 5 * (boxes[0, 1] - box).abs().sum() + 2 * (1 - generalized_iou(boxes[0, 1], box))
    assert set_loss(logits, boxes, targets, torch.tensor([1])).item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_picture_without_objects_asks_for_no_object_everywhere():
    logits, boxes, targets = draw([0, 0])
    expected = -logits.log_softmax(-1)[..., -1].mean()
    assert detr_loss(logits[None], boxes[None], targets).item() == pytest.approx(expected.item(), rel=1e-5)


def test_order_of_objects_and_of_queries_does_not_matter():
    """It is a set on both sides; this is what fixed slots lack."""
    logits, boxes, targets = draw([4], seed=1)
    shuffled = Targets(*(part[torch.tensor([2, 0, 3, 1])] for part in targets))
    queries = torch.tensor([4, 2, 0, 1, 3])
    loss = detr_loss(logits[None], boxes[None], targets)
    assert detr_loss(logits[None], boxes[None], shuffled).item() == pytest.approx(loss.item(), rel=1e-5)
    assert detr_loss(logits[None, :, queries], boxes[None, :, queries], targets).item() == pytest.approx(loss.item(), rel=1e-5)


def test_layers_are_matched_each_for_itself_and_summed():
    logits, boxes, targets = draw([2, 3], layers=3)
    alone = [detr_loss(logits[k:k + 1], boxes[k:k + 1], targets).item() for k in range(3)]
    assert detr_loss(logits, boxes, targets).item() == pytest.approx(sum(alone), rel=1e-5)
    matches = [match(logits[k], boxes[k], targets).tolist() for k in range(3)]
    assert any(one != matches[0] for one in matches)  # else the test could not tell


def test_weight_of_no_object():
    logits, boxes, targets = draw([1], queries=4)
    losses = [detr_loss(logits[None], boxes[None], targets, no_object=weight).item() for weight in (0.0, 0.1, 1.0)]
    assert len(set(losses)) == 3
    matched = match(logits, boxes, targets)
    named = -logits[0].log_softmax(-1)[matched[0], targets.labels[0]]
    box = boxes[0, matched[0]]
    rest = 5 * (box - targets.boxes[0]).abs().sum() + 2 * (1 - generalized_iou(box, targets.boxes[0]))
    assert losses[0] == pytest.approx((named + rest).item(), rel=1e-5)


def test_a_perfect_answer_costs_next_to_nothing():
    _, _, targets = draw([2, 1])
    logits = torch.full((2, 5, 4), -20.0)
    logits[..., -1] = 20.0
    boxes = torch.full((2, 5, 4), 0.5)
    for query, (label, box, image) in enumerate(zip(*targets, strict=True)):
        logits[image, query] = torch.full((4,), -20.0)
        logits[image, query, label], boxes[image, query] = 20.0, box
    assert detr_loss(logits[None], boxes[None], targets).item() == pytest.approx(0, abs=1e-4)


def test_half_precision_is_computed_in_float32_and_double_stays(device):
    logits, boxes, targets = draw([2, 3], layers=2)
    targets = Targets(*(part.to(device) for part in targets))
    half = detr_loss(logits.bfloat16().to(device), boxes.bfloat16().to(device), targets)
    assert half.dtype == torch.float32 and math.isfinite(half.item()) and half.device.type == device.type
    exact = Targets(targets.labels, targets.boxes.double(), targets.image)
    assert detr_loss(logits.double().to(device), boxes.double().to(device), exact).dtype == torch.float64
