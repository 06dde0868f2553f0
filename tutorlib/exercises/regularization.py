"""Exercises of the chapter on regularization and augmentation."""
import torch

from tutorlib.exercises.sheet import ExerciseSheet, Wrong
from tutorlib.training.regularization import soft_threshold

check = ExerciseSheet()


# 1: one weight

# a / (1 + strength), and the soft threshold
RIDGE_AND_LASSO = -1.2 / 1.5, -(1.2 - 0.5)


@check.exercise(1, "One weight, two penalties", reference=RIDGE_AND_LASSO, mistakes=[
    ((-0.7, -0.8), "Ridge divides by 1 + strength, the lasso subtracts: give (ridge, lasso) in this order."),
    ((-0.8, -1.7), "The soft threshold moves toward zero, so a negative weight goes up."),
    ((-0.8, 0.7), "The soft threshold keeps the sign of a."),
    ((-0.96, -0.7), "The penalty is half of strength * w**2; its derivative has no half: solve w - a + 0.5 w = 0."),
    ((-2.4, -0.7), "A penalty shrinks the weight: divide by 1 + strength."),
    ((-0.6, -0.7), "For L2 the derivative of the penalty is strength * w: solve w - a + 0.5 w = 0."),
    ((-0.8, 0.0), "The threshold is 0.5, and |a| is larger: the weight is not zero."),
    ((0.8, 0.7), "Both penalties shrink the weight and keep its sign."),
])
def check_one_weight(answer):
    if not isinstance(answer, (tuple, list)) or len(answer) != 2:
        raise Wrong("Give two numbers, (ridge, lasso).")
    return [float(number) for number in answer]


# 2: both penalties at once

def shrink_both(values, l1, l2):
    return soft_threshold(values, l1) / (1 + l2)  # u > 0: u - v + l1 + l2 u = 0


def shrink_first(values, l1, l2):
    values = values / (1 + l2)
    return values.sign() * (values.abs() - l1).clamp(min=0)


def subtract_both(values, l1, l2):
    return values.sign() * (values.abs() - l1 - l2).clamp(min=0)


def factor_of_decay(values, l1, l2):
    return (1 - l2) * values.sign() * (values.abs() - l1).clamp(min=0)


def twice_l2(values, l1, l2):
    return values.sign() * (values.abs() - l1).clamp(min=0) / (1 + 2 * l2)


def without_sign(values, l1, l2):
    return (values.abs() - l1).clamp(min=0) / (1 + l2)


def without_corner(values, l1, l2):
    return values.sign() * (values.abs() - l1) / (1 + l2)


def l1_alone(values, l1, l2):
    return values.sign() * (values.abs() - l1).clamp(min=0)


@check.exercise(2, "Both penalties at once", reference=shrink_both, mistakes=[
    (shrink_first, "Set the derivative u - v + l1 + l2 u to zero for u > 0: the subtraction comes before the division."),
    (subtract_both, "The L2 part divides; only the L1 part subtracts."),
    (factor_of_decay, "1 - l2 is a gradient step on the L2 term. Here the sum is minimized: divide by 1 + l2."),
    (twice_l2, "The L2 term carries a half, so its derivative is l2 * u."),
    (without_sign, "Negative values keep their sign."),
    (without_corner, "Values below the threshold must not pass zero: they stop there."),
    (l1_alone, "This is the soft threshold alone: l2 has no effect."),
])
def check_shrink_both(answer):
    values = torch.tensor([3.0, 1.2, 0.4, 0.0, -0.4, -0.7, -2.0])
    return answer(values.clone(), 0.5, 0.25), answer(values.clone(), 0.1, 1.5)


# 3: the penalty that dropout is in linear regression

def dropout_strengths(inputs, p):
    return p / (1 - p) * inputs.square().mean(0)  # (D,)


def strengths_without_scaling(inputs, p):
    return p * (1 - p) * inputs.square().mean(0)


def strengths_of_keeping(inputs, p):
    return (1 - p) / p * inputs.square().mean(0)


def strengths_of_variance(inputs, p):
    return p / (1 - p) * inputs.var(0, correction=0)


def strengths_of_mean(inputs, p):
    return p / (1 - p) * inputs.mean(0).square()


def strengths_without_division(inputs, p):
    return p * inputs.square().mean(0)


def strengths_summed(inputs, p):
    return p / (1 - p) * inputs.square().sum(0)


def strengths_over_features(inputs, p):
    return p / (1 - p) * inputs.square().mean(1)


def strengths_halved(inputs, p):
    return p / (1 - p) * inputs.square().mean(0) / 2


@check.exercise(3, "The penalty that dropout is", reference=dropout_strengths, mistakes=[
    (strengths_without_scaling, "p (1 - p) is the variance of the mask; kept entries are also divided by 1 - p."),
    (strengths_without_division, "Kept features are divided by 1 - p, and their variance by its square."),
    (strengths_of_keeping, "p is the probability of dropping, not of keeping."),
    (strengths_of_variance, "The features are dropped to zero, not to their mean: take the mean of x squared."),
    (strengths_of_mean, "Square first, then average."),
    (strengths_summed, "The loss is a mean over the examples, and so is the strength."),
    (strengths_over_features, "One strength for each feature: average over the examples, dimension 0."),
    (strengths_halved, "The squared error here carries no half."),
])
def check_dropout_strengths(answer):
    inputs = torch.randn(6, 4) * torch.tensor([1.0, 2.0, 3.0, 4.0]) + 1
    return answer(inputs, 0.2), answer(inputs, 0.5)


# 4: what a pasted box leaves of the label

def kept_share(height, width, top, left, side):
    rows = max(min(top + side, height) - max(top, 0), 0)
    columns = max(min(left + side, width) - max(left, 0), 0)
    return 1 - rows * columns / (height * width)


def share_before_the_border(height, width, top, left, side):
    return 1 - side * side / (height * width)


def pasted_share(height, width, top, left, side):
    return 1 - kept_share(height, width, top, left, side)


def share_clipped_right_only(height, width, top, left, side):
    rows, columns = min(side, height - top), min(side, width - left)
    return 1 - rows * columns / (height * width)


def share_clipped_left_only(height, width, top, left, side):
    return 1 - (top + side - max(top, 0)) * (left + side - max(left, 0)) / (height * width)


def share_of_a_square(height, width, top, left, side):
    rows = min(top + side, height) - max(top, 0)
    columns = min(left + side, width) - max(left, 0)
    return 1 - max(rows, 0) * max(columns, 0) / height**2


def share_without_outside(height, width, top, left, side):
    rows = min(top + side, height) - max(top, 0)
    columns = min(left + side, width) - max(left, 0)
    return 1 - rows * columns / (height * width)


@check.exercise(4, "The label of a pasted box", reference=kept_share, mistakes=[
    (share_before_the_border, "A box that sticks out pastes fewer pixels: cut it at the border first."),
    (pasted_share, "This is the share of the pasted image. The question is what the image keeps."),
    (share_clipped_right_only, "A negative top or left means that the box begins outside: cut it there too."),
    (share_clipped_left_only, "The box may also end outside, below or to the right: cut it there too."),
    (share_of_a_square, "The image has height times width pixels; the two differ here."),
    (share_without_outside, "A box that lies outside altogether pastes nothing, not a negative number of rows."),
])
def check_kept_share(answer):
    boxes = [(2, 3, 4), (-1, 2, 4), (5, 8, 6), (-3, -2, 4), (0, 0, 30), (-9, 4, 3)]
    return [float(answer(8, 10, *box)) for box in boxes]


# 5: paired differences

def paired(scores, reference):
    difference = scores - reference  # (R,), run by run
    return difference.mean(), difference.std() / len(difference) ** 0.5


def unpaired(scores, reference):
    return (scores - reference).mean(), ((scores.var() + reference.var()) / len(scores)) ** 0.5


def paired_spread(scores, reference):
    difference = scores - reference
    return difference.mean(), difference.std()


def paired_by_n(scores, reference):
    difference = scores - reference
    return difference.mean(), difference.std() / len(difference)


def paired_by_variance(scores, reference):
    difference = scores - reference
    return difference.mean(), difference.var() / len(difference)


def paired_biased(scores, reference):
    difference = scores - reference
    return difference.mean(), difference.std(correction=0) / len(difference) ** 0.5


def paired_reversed(scores, reference):
    return paired(reference, scores)


@check.exercise(5, "Paired runs", reference=paired, mistakes=[
    (unpaired, "This forgets the pairs: take the spread of the differences, not of both scores."),
    (paired_spread, "This is the spread of single differences; that of their mean is smaller by the root of their number."),
    (paired_by_variance, "This is the variance of the mean. The standard error is its root."),
    (paired_by_n, "Divide by the root of the number of runs."),
    (paired_biased, "Divide the squares by R - 1: the mean was estimated from the same runs."),
    (paired_reversed, "The difference is score minus reference: positive where the method helps."),
])
def check_paired(answer):
    reference = torch.tensor([80.0, 84.0, 82.0, 86.0, 79.0])
    mean, error = answer(reference + torch.tensor([1.0, 2.0, 0.5, 1.5, 2.5]), reference)
    return float(mean), float(error)


# 6: patience

def last_good(values, patience):
    best = 0
    for i, value in enumerate(values):
        best = i if value < values[best] else best
        if i - best == patience:
            return best, i
    return best, len(values) - 1


def best_of_all(values, patience):
    return min(range(len(values)), key=values.__getitem__), last_good(values, patience)[1]


def counts_equal_as_better(values, patience):
    best, waited = 0, 0
    for i, value in enumerate(values):
        best, waited = (i, 0) if value <= values[best] else (best, waited + 1)
        if waited == patience:
            return best, i
    return best, len(values) - 1


def compares_with_the_last(values, patience):
    best, waited = 0, 0
    for i in range(1, len(values)):
        best = min(best, i, key=values.__getitem__)
        waited = 0 if values[i] < values[i - 1] else waited + 1
        if waited == patience:
            return best, i
    return best, len(values) - 1


def never_resets(values, patience):
    best, waited = 0, 0
    for i, value in enumerate(values):
        if value < values[best]:
            best = i
        elif i:
            waited += 1
        if waited == patience:
            return best, i
    return best, len(values) - 1


def one_too_late(values, patience):
    return last_good(values, patience + 1)


def stays_at_the_end(values, patience):
    end = last_good(values, patience)[1]
    return end, end


@check.exercise(6, "Patience", reference=last_good, mistakes=[
    (best_of_all, "The run cannot know evaluations that come after it has stopped."),
    (counts_equal_as_better, "An equal value is no improvement."),
    (compares_with_the_last, "Compare with the best so far, not with the evaluation before."),
    (never_resets, "A new best starts the count anew."),
    (one_too_late, "Stop at the evaluation that makes the count equal to the patience."),
    (stays_at_the_end, "The first number is the best evaluation, the one to go back to."),
])
def check_patience(answer):
    series = [[3.0, 2.0, 2.5, 2.0, 2.1, 1.0], [5.0, 4.0, 4.5, 3.0, 3.5, 3.2, 3.1, 2.0], [1.0, 2.0], [3.0, 2.0, 1.0],
              [3.0, 2.0, 2.0, 2.0, 1.0]]
    return [tuple(map(int, answer(list(values), patience))) for values in series for patience in (2, 3)]
