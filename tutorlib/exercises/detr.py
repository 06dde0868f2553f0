"""Exercises of the chapter on DETR."""
import itertools

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


# 2: the best assignment

def best_assignment(costs):
    # every way to give the rows different columns; the cheapest
    ways = itertools.permutations(range(len(costs[0])), len(costs))
    return list(min(ways, key=lambda way: sum(row[c] for row, c in zip(costs, way))))


def each_for_itself(costs):
    return [min(range(len(row)), key=row.__getitem__) for row in costs]


def first_come(costs):
    taken = []
    for row in costs:
        taken.append(min((column for column in range(len(row)) if column not in taken), key=row.__getitem__))
    return taken


def the_dearest(costs):
    return best_assignment([[-cost for cost in row] for row in costs])


def cheapest_pair_first(costs):
    chosen = {}
    pairs = sorted((cost, r, c) for r, row in enumerate(costs) for c, cost in enumerate(row))
    for _, r, c in pairs:
        if r not in chosen and c not in chosen.values():
            chosen[r] = c
    return [chosen[r] for r in range(len(costs))]


@check.exercise(2, "The best assignment", reference=best_assignment, mistakes=[
    (each_for_itself, "Two rows took one column. Each column may answer for one row."),
    (first_come, "The first rows took what a later one needed more. Compare the sums of whole assignments."),
    (the_dearest, "That is the dearest assignment: costs are to be small."),
    (cheapest_pair_first, "Taking the cheapest pair first can force a dear one. Compare the sums of whole assignments."),
])
def check_assignment(answer):
    tables = [[[1, 2], [3, 100]], [[4, 1, 3], [2, 0, 5], [3, 2, 2]], [[5, 1, 9, 2], [6, 1, 3, 8]], [[0, 1], [0, 50]]]
    found = [answer([list(row) for row in table]) for table in tables]
    if any(isinstance(each, dict) for each in found):
        raise Wrong("Return a list: the column of each row.")
    return [[int(column) for column in each] for each in found]


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


# 4: average precision

def area(right, objects):
    # at each of 101 recalls, the best precision at that recall or a higher one
    hits, curve = 0, []
    for rank, each in enumerate(right, start=1):
        hits += each
        curve.append((hits / objects, hits / rank))
    best = [max((p for r, p in curve if r >= k / 100 - 1e-9), default=0)
            for k in range(101)]
    return sum(best) / 101


def without_the_envelope(right, objects):
    hits, curve = 0, []
    for rank, each in enumerate(right, start=1):
        hits += each
        curve.append((hits / objects, hits / rank))
    return sum(next((p for r, p in curve if r >= k / 100 - 1e-9), 0) for k in range(101)) / 101


def recall_of_what_was_found(right, objects):
    return area(right, max(1, sum(right)))


def plain_precision(right, objects):
    return sum(right) / len(right)


def mean_at_the_hits(right, objects):
    hits, total = 0, 0.0
    for rank, each in enumerate(right, start=1):
        hits += each
        total += each * hits / rank
    return total / max(1, hits)


@check.exercise(4, "Average precision", reference=area, mistakes=[
    (without_the_envelope, "At a recall counts the best precision at that recall or any higher one."),
    (recall_of_what_was_found, "Recall is the share of all objects, also of those never found."),
    (plain_precision, "That is the precision of the whole list. The order must count."),
    (mean_at_the_hits, "Recalls that are never reached count with precision 0."),
])
def check_area(answer):
    return [answer([True, False, True, True], 4), answer([False, True, True], 2), answer([True, True], 5)]


# 5: what trying costs

TRIALS = 12 * 11 * 10 * 9 * 8


@check.exercise(5, "What trying costs", reference=TRIALS, mistakes=[
    (792, "That is how many sets of five queries there are; which query takes which object matters too."),
    (12**5, "No query may answer for two objects: after each choice one is gone."),
    (120, "That is 5!, the orders of five queries; there are twelve to choose from."),
    (479001600, "That is 12!: only five objects want a query."),
    (60, "Not a product of the two numbers: each object in turn has one query less to choose from."),
])
def check_trials(answer):
    return answer
