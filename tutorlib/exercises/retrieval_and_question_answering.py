"""Exercises of the chapter on retrieval and question answering."""
import torch

from tutorlib.exercises.sheet import ExerciseSheet

check = ExerciseSheet()


# 1: what a word is worth

def worth(count, length, mean_length, rarity, k1, b):
    return rarity * count / (count + k1 * (1 - b + b * length / mean_length))


def without_saturation(count, length, mean_length, rarity, k1, b):
    return rarity * count / (1 - b + b * length / mean_length)


def without_length(count, length, mean_length, rarity, k1, b):
    return rarity * count / (count + k1)


def length_upside_down(count, length, mean_length, rarity, k1, b):
    return rarity * count / (count + k1 * (1 - b + b * mean_length / length))


@check.exercise(1, "What a word is worth", reference=worth, mistakes=[
    (without_saturation, "The tenth occurrence must add less than the first: the count stands below the line, too."),
    (without_length, "A long text has every word more often: multiply k1 by what the length says."),
    (length_upside_down, "Longer than the mean must make the bound larger: length over mean length."),
])
def check_worth(answer):
    cases = (1, 50, 80, 3.0, 1.5, 0.75), (6, 160, 80, 2.0, 1.2, 0.5), (2, 80, 80, 1.0, 2.0, 1.0)
    return [float(answer(*case)) for case in cases]


# 2: the rank of the first right one

def first_rank(scores, right):
    # scores (N,), right (N,) of bool
    best = scores[right].max()
    return int(((scores >= best) & ~right).sum()) + 1


def from_zero(scores, right):
    return int(((scores >= scores[right].max()) & ~right).sum())


def of_the_worst(scores, right):
    return int(((scores >= scores[right].min()) & ~right).sum()) + 1


def ties_for_free(scores, right):
    return int(((scores > scores[right].max()) & ~right).sum()) + 1


@check.exercise(2, "The rank of the first right one", reference=first_rank, mistakes=[
    (from_zero, "The best place is rank 1, not 0: a reciprocal rank would be infinite."),
    (of_the_worst, "Any right passage will do: look at the best of them."),
    (ties_for_free, "Where scores are equal nobody says who comes first: count a tie against you."),
])
def check_first_rank(answer):
    scores = torch.tensor([0.2, 0.9, 0.4, 0.4, 0.1, 0.7])
    cases = ([1], [2], [4, 0], [2, 5], [0, 1, 2, 3])
    return [float(answer(scores, torch.tensor([place in case for place in range(6)]))) for case in cases]


# 3: two searches, one order

def joined(first, second):
    # scores (N,) of two searches
    one, two = (scores - scores.mean() for scores in (first, second))
    return one / one.std() + two / two.std()


def plain_sum(first, second):
    return first + second


def centered_sum(first, second):
    return first - first.mean() + second - second.mean()


def one_spread(first, second):
    return (first + second - (first + second).mean()) / (first + second).std()


@check.exercise(3, "Two searches, one order", reference=joined, mistakes=[
    (plain_sum, "One search counts from 0 to 30, the other from −.1 to .7: the first would decide alone."),
    (centered_sum, "Taking the means off moves no order: what differs is the spread."),
    (one_spread, "Each search has a spread of its own: divide before you add."),
])
def check_joined(answer):
    first, second = 30 * torch.rand(12), torch.rand(12)
    return answer(first, second)


# 4: how many comparisons

def comparisons(passages, cells, probe):
    return cells + probe * passages / cells


def without_centers(passages, cells, probe):
    return probe * passages / cells


def all_cells(passages, cells, probe):
    return passages / cells * cells + probe


def cells_once(passages, cells, probe):
    return probe * (cells + passages / cells)


@check.exercise(4, "How many comparisons", reference=comparisons, mistakes=[
    (without_centers, "To know which cells to open, the question is compared with every center."),
    (all_cells, "Only the opened cells are read: probe of them, with passages / cells vectors each."),
    (cells_once, "The centers are compared once, however many cells are opened."),
])
def check_comparisons(answer):
    return [float(answer(*case)) for case in ((1000, 20, 1), (1_000_000, 1000, 8), (1600, 40, 40))]
