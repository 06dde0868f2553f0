"""Exercises of the chapter on DETR."""
import torch

from tutorlib.exercises.sheet import ExerciseSheet, Wrong

check = ExerciseSheet()


# 1: intersection over union

def intersection_over_union(first, second):
    # boxes are (cx, cy, w, h); no side of what is shared is negative
    (x, y, w, h), (u, v, a, b) = first, second
    across = max(0, min(x + w / 2, u + a / 2) - max(x - w / 2, u - a / 2))
    down = max(0, min(y + h / 2, v + b / 2) - max(y - h / 2, v - b / 2))
    shared = across * down
    return shared / (w * h + a * b - shared)


def negative_sides(first, second):
    (x, y, w, h), (u, v, a, b) = first, second
    across = min(x + w / 2, u + a / 2) - max(x - w / 2, u - a / 2)
    down = min(y + h / 2, v + b / 2) - max(y - h / 2, v - b / 2)
    return across * down / (w * h + a * b - across * down)


def counted_twice(first, second):
    (_, _, w, h), (_, _, a, b) = first, second
    union = w * h + a * b
    iou = intersection_over_union(first, second)
    shared = iou * union / (1 + iou)
    return shared / union


def from_corners(first, second):
    (x, y, w, h), (u, v, a, b) = first, second
    across = max(0, min(x + w, u + a) - max(x, u))
    down = max(0, min(y + h, v + b) - max(y, v))
    shared = across * down
    return shared / (w * h + a * b - shared)


def over_the_first(first, second):
    iou = intersection_over_union(first, second)
    union = first[2] * first[3] + second[2] * second[3]
    return iou * union / (1 + iou) / (first[2] * first[3])


@check.exercise(1, "Intersection over union", reference=intersection_over_union, mistakes=[
    (negative_sides, "Two boxes that do not meet share nothing: a negative side counts as 0."),
    (counted_twice, "What both cover is in both areas: subtract it once for the union."),
    (from_corners, "x and y are the center, not the upper left corner."),
    (over_the_first, "Divide by the union of both, not by the area of one."),
])
def check_iou(answer):
    pairs = [((0.5, 0.5, 0.4, 0.4), (0.75, 0.5, 0.3, 0.8)), ((0.2, 0.2, 0.2, 0.2), (0.7, 0.7, 0.2, 0.2)),
             ((0.5, 0.5, 1.0, 1.0), (0.5, 0.5, 0.5, 0.5)), ((0.3, 0.3, 0.2, 0.2), (0.3, 0.3, 0.2, 0.2))]
    return [float(answer(*pair)) for pair in pairs]


# 2: from outputs to a list

def sure_boxes(logits, least):
    # the likeliest class other than the last, "no object"; the surest first
    scores, labels = logits.softmax(-1)[:, :-1].max(-1)
    found = [(float(score), int(label), q) for q, (score, label)
             in enumerate(zip(scores, labels)) if score >= least]
    return sorted(found, reverse=True)


def shared_among_the_classes(logits, least):
    scores, labels = logits[:, :-1].softmax(-1).max(-1)
    return _listed(scores, labels, least)


def no_object_as_a_class(logits, least):
    scores, labels = logits.softmax(-1).max(-1)
    return _listed(scores, labels, least)


def by_number(logits, least):
    return sorted(sure_boxes(logits, least), key=lambda each: each[2])


def everything(logits, least):
    return sure_boxes(logits, 0.0)


def _listed(scores, labels, least):
    rows = zip(scores.tolist(), labels.tolist(), range(len(labels)))
    return sorted((row for row in rows if row[0] >= least), reverse=True)


@check.exercise(2, "From outputs to a list", reference=sure_boxes, mistakes=[
    (shared_among_the_classes, "Softmax over all C + 1 logits first: what goes to \"no object\" no class has."),
    (no_object_as_a_class, "\"No object\" is no name for a box: leave the last class out."),
    (by_number, "The surest comes first, not the first output."),
    (everything, "Leave out what is less sure than `least`."),
])
def check_list(answer):
    logits = torch.tensor([[2.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 5.0], [0.0, 4.0, 0.0, 0.0],
                           [1.0, 0.5, 0.0, 1.2], [0.0, 3.0, 0.0, 2.6]])
    found = [tuple(row) for row in answer(logits.clone(), 0.5)]
    if any(len(row) != 3 for row in found):
        raise Wrong("Each entry is (score, class, number of the output).")
    return [[float(value) for value in row] for row in found]


# 3: the loss of a picture's classes

def class_loss(logits, query, labels):
    # matched queries have a label, the others "no object", which weighs a tenth
    target = torch.full((len(logits),), logits.size(1) - 1)
    target[query] = labels
    weight = torch.where(target == logits.size(1) - 1, 0.1, 1.0)
    losses = -logits.log_softmax(-1)[torch.arange(len(logits)), target]
    return (weight * losses).sum() / weight.sum()


def matched_only(logits, query, labels):
    return -logits.log_softmax(-1)[query, labels].mean()


def weighs_all_alike(logits, query, labels):
    target = torch.full((len(logits),), logits.size(1) - 1)
    target[query] = labels
    return torch.nn.functional.cross_entropy(logits, target)


def divides_by_the_number(logits, query, labels):
    target = torch.full((len(logits),), logits.size(1) - 1)
    target[query] = labels
    weight = torch.where(target == logits.size(1) - 1, 0.1, 1.0)
    return (weight * -logits.log_softmax(-1)[torch.arange(len(logits)), target]).mean()


def no_object_first(logits, query, labels):
    target = torch.zeros(len(logits), dtype=torch.int64)
    target[query] = labels
    weight = torch.where(target == 0, 0.1, 1.0)
    losses = -logits.log_softmax(-1)[torch.arange(len(logits)), target]
    return (weight * losses).sum() / weight.sum()


@check.exercise(3, "The classes of all queries", reference=class_loss, mistakes=[
    (matched_only, "The other queries have a class too: \"no object\". Without it, nothing ever keeps them silent."),
    (weighs_all_alike, "\"No object\" weighs a tenth."),
    (divides_by_the_number, "It is a weighted mean: divide by the sum of the weights."),
    (no_object_first, "\"No object\" is the last class, not the first."),
])
def check_classes(answer):
    logits = torch.randn(6, 4)
    return [answer(logits.clone(), torch.tensor([4, 1]), torch.tensor([2, 1])),
            answer(logits.clone(), torch.tensor([], dtype=torch.int64), torch.tensor([], dtype=torch.int64))]


# 4: striking second boxes

def struck(boxes, labels):
    # from the surest down; only boxes that stayed strike others
    kept = []
    for row, box in enumerate(boxes):
        same = [other for other in kept if labels[other] == labels[row]]
        if all(intersection_over_union(boxes[other], box) < 0.5 for other in same):
            kept.append(row)
    return kept


def of_any_class(boxes, labels):
    return struck(boxes, [0 for _ in labels])


def also_by_what_was_struck(boxes, labels):
    rows = range(len(boxes))
    return [row for row in rows if all(
        labels[other] != labels[row] or intersection_over_union(boxes[other], boxes[row]) < 0.5
        for other in range(row))]


def by_the_neighbor(boxes, labels):
    rows = range(len(boxes))
    return [row for row in rows if row == 0 or labels[row - 1] != labels[row]
            or intersection_over_union(boxes[row - 1], boxes[row]) < 0.5]


def at_any_overlap(boxes, labels):
    kept = []
    for row, (box, label) in enumerate(zip(boxes, labels)):
        if all(labels[other] != label or intersection_over_union(boxes[other], box) == 0 for other in kept):
            kept.append(row)
    return kept


@check.exercise(4, "Striking second boxes", reference=struck, mistakes=[
    (of_any_class, "A box of another class strikes nothing: two objects may overlap."),
    (also_by_what_was_struck, "Only boxes that stayed strike others."),
    (by_the_neighbor, "Compare with all boxes that stayed, not with the one before."),
    (at_any_overlap, "An IoU below one half strikes nothing."),
])
def check_struck(answer):
    row = [(0.30, 0.5, 0.2, 0.2), (0.36, 0.5, 0.2, 0.2), (0.42, 0.5, 0.2, 0.2), (0.31, 0.5, 0.2, 0.2),
           (0.45, 0.5, 0.2, 0.2), (0.80, 0.2, 0.1, 0.1)]
    return [[int(kept) for kept in answer(row, labels)] for labels in ([1, 1, 1, 1, 1, 1], [1, 2, 1, 1, 2, 1])]
