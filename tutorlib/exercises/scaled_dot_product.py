"""Exercises of the chapter on scaled dot-product attention."""
import math

import torch

from tutorlib.exercises.sheet import ExerciseSheet

check = ExerciseSheet()


# -- 1. By hand --------------------------------------------------------------------------------------------------------

# Scores 0, 3, 2; divided by 1.414: 0, 2.12, 1.41; exponentials 1, 8.34, 4.11.
# Their sum is 13.46, the weights are 0.07, 0.62, 0.31.
# Output 0.62 (0, 3) + 0.31 (1, 1) = (0.31, 2.17): money has drowned out the water.
OUTPUT = (0.31, 2.17)


@check.exercise(1, "By hand", reference=OUTPUT, tolerance=0.006, mistakes=[
    ((0.26, 2.37), "These are the numbers without the scale: divide the scores by the root of 2 before the exponential."),
    ((0.33, 1.97), "You divided the scores by 2. The width is 2, the divisor is its root."),
    ((0.40, 2.20), "You divided the scores by their sum. The weights are proportional to their exponentials."),
])
def check_by_hand(answer):
    return answer


# -- 2. A softmax that survives large scores ---------------------------------------------------------------------------

def stable_softmax(scores):
    exponentials = (scores - scores.amax(dim=-1, keepdim=True)).exp()  # row by row
    return exponentials / exponentials.sum(dim=-1, keepdim=True)


def naive_softmax(scores):
    return scores.exp() / scores.exp().sum(dim=-1, keepdim=True)


def softmax_with_one_maximum(scores):
    exponentials = (scores - scores.max()).exp()
    return exponentials / exponentials.sum(dim=-1, keepdim=True)


def softmax_over_queries(scores):
    return scores.softmax(dim=-2)


def softmax_over_everything(scores):
    exponentials = (scores - scores.max()).exp()
    return exponentials / exponentials.sum()


@check.exercise(2, "A softmax that survives large scores", reference=stable_softmax, mistakes=[
    (naive_softmax, "Large scores overflow and give NaN. What may you subtract from a row without changing the result?"),
    (softmax_with_one_maximum, "One row lies 2000 below the other. Each row needs a maximum of its own."),
    (softmax_over_queries, "Each row must sum to one: normalize over the last dimension, the keys."),
    (softmax_over_everything, "One row lies 2000 below the other. Each row needs a maximum and a sum of its own."),
])
def check_softmax(answer):
    scores = torch.tensor([[1000.0, 1001.0, 999.0], [-1000.0, -1000.5, -1003.0]])  # (T, S)
    return answer(scores)


# -- 3. Attention with a mask ------------------------------------------------------------------------------------------

def attention(query, key, value, mask):
    # The colleague's hidden keys took part in the sum: what remains is less than one.
    scores = query @ key.mT / math.sqrt(query.size(-1))  # (B, T, S)
    return scores.masked_fill(~mask, -math.inf).softmax(dim=-1) @ value  # (B, T, V)


def hide(scores, mask):
    return scores.masked_fill(~mask, -math.inf)


def without_scale(query, key, value, mask):
    return stable_softmax(hide(query @ key.mT, mask)) @ value


def scale_by_width(query, key, value, mask):
    return stable_softmax(hide(query @ key.mT / query.size(-1), mask)) @ value


def scale_by_value_width(query, key, value, mask):
    return stable_softmax(hide(query @ key.mT / math.sqrt(value.size(-1)), mask)) @ value


def scale_by_number_of_keys(query, key, value, mask):
    return stable_softmax(hide(query @ key.mT / math.sqrt(key.size(-2)), mask)) @ value


def over_queries(query, key, value, mask):
    return hide(query @ key.mT / math.sqrt(query.size(-1)), mask).softmax(dim=-2) @ value


def mask_after_softmax(query, key, value, mask):
    return (query @ key.mT / math.sqrt(query.size(-1))).softmax(dim=-1) * mask @ value


def zeros_as_scores(query, key, value, mask):
    return (query @ key.mT / math.sqrt(query.size(-1)) * mask).softmax(dim=-1) @ value


def inverted_mask(query, key, value, mask):
    return hide(query @ key.mT / math.sqrt(query.size(-1)), ~mask).softmax(dim=-1) @ value


def no_mask(query, key, value, mask):
    return (query @ key.mT / math.sqrt(query.size(-1))).softmax(dim=-1) @ value


@check.exercise(3, "Attention with a mask", reference=attention, mistakes=[
    (without_scale, "The scores are not scaled by the root of the width of a key."),
    (scale_by_width, "You divided by the width. The standard deviation of a score is the root of the width."),
    (scale_by_value_width, "The scale belongs to the products of queries and keys; the width of the values is another number."),
    (scale_by_number_of_keys, "The scale is the root of the width of a key, not of the number of keys."),
    (over_queries, "The softmax runs over the wrong dimension: for every query, the weights of the keys must sum to one."),
    (mask_after_softmax, "A row's weights sum to less than one: the hidden keys took their share before they were removed."),
    (zeros_as_scores, "A hidden key still gets a weight. A score of 0 is a score like another: exp(0) = 1."),
    (inverted_mask, "The mask is True where a query may attend; you hid those keys."),
    (no_mask, "The mask has no effect: hidden keys still get a weight."),
])
def check_attention(answer):
    query, key, value = torch.randn(2, 3, 6), torch.randn(2, 5, 6), torch.randn(2, 5, 4)
    mask = torch.tensor([[True, True, False, True, False], [True, False, True, True, True], [False, True, True, False, True]])
    return answer(query, key, value, mask)  # (B, T, V) = (2, 3, 4)


# -- 4. Another variance -----------------------------------------------------------------------------------------------

# Var(q_i k_i) = 4 * 4 = 16; the sum of 64 has variance 1024, standard deviation 32.
FACTOR = 1 / 32


@check.exercise(4, "Another variance", reference=FACTOR, mistakes=[
    (1 / 8, "This is right for coordinates of variance 1. Here every product of coordinates has variance 4 times 4."),
    (1 / 16, "Variances of factors multiply: a product of two coordinates has the variance 16, not 4."),
    (1 / 1024, "This would divide by the variance of a score. A factor of c multiplies the variance by its square."),
    (1 / 128, "Scaling by c multiplies a variance by the square of c: take the root of the whole variance."),
    (32.0, "This is the standard deviation of a score. By which factor is it to be multiplied?"),
])
def check_variance(answer):
    return answer


# -- 5. Backward through softmax ---------------------------------------------------------------------------------------

def softmax_backward(weights, gradient):
    # (diag(p) - p pᵀ) g = p * g - p (p · g)
    return weights * (gradient - (weights * gradient).sum(dim=-1, keepdim=True))


def diagonal_only(weights, gradient):
    return weights * gradient


def elementwise_derivative(weights, gradient):
    return weights * (1 - weights) * gradient


def unweighted_mean_removed(weights, gradient):
    return weights * (gradient - gradient.mean(dim=-1, keepdim=True))


def sum_removed(weights, gradient):
    return weights * (gradient - gradient.sum(dim=-1, keepdim=True))


@check.exercise(5, "Backward through softmax", reference=softmax_backward, mistakes=[
    (diagonal_only, "This is the part diag(p). A score also lowers the weights of all the other keys."),
    (elementwise_derivative, "This is the derivative of a function that works on every element alone, such as the sigmoid."),
    (unweighted_mean_removed, "The mean that is removed from the gradient must itself be weighted by p."),
    (sum_removed, "The sum that is removed from the gradient must itself be weighted by p."),
])
def check_backward(answer):
    weights, gradient = torch.randn(2, 3, 5).softmax(dim=-1), torch.randn(2, 3, 5)
    return answer(weights, gradient)


# -- 6. Scale without a scale ------------------------------------------------------------------------------------------

def equivalent_setting(learning_rate, d_k):
    # The scores shrink by c², so c² = 1/√d_k.
    # The loss is a function of W = W'/c, so its gradient by W' is that by W over c.
    # W' must move by c times the step of W: rate' / c = c · rate, so rate' = c² · rate.
    return d_k**-0.25, learning_rate * d_k**-0.5


def rate_left_alone(learning_rate, d_k):
    return d_k ** -0.25, learning_rate


def rate_of_adam(learning_rate, d_k):
    return d_k ** -0.25, learning_rate * d_k ** -0.25


def whole_root_twice(learning_rate, d_k):
    return d_k ** -0.5, learning_rate / d_k


def rate_raised(learning_rate, d_k):
    return d_k ** -0.25, learning_rate * d_k ** 0.5


def factor_upside_down(learning_rate, d_k):
    return d_k ** 0.25, learning_rate * d_k ** -0.5


def trained_projections(scale, shrink, learning_rate, d_k, steps=4):
    """Projections after some steps of gradient descent on a small lookup, divided by what they were shrunk with."""
    draw = torch.Generator().manual_seed(3)
    inputs, values = torch.randn(6, 5, generator=draw).double(), torch.randn(6, 2, generator=draw).double()
    projections = [(shrink * torch.randn(5, d_k, generator=draw).double()).requires_grad_() for _ in range(2)]
    for _ in range(steps):
        to_query, to_key = projections
        weights = (scale * (inputs @ to_query) @ (inputs @ to_key).mT).softmax(dim=-1)  # (T, S)
        gradients = torch.autograd.grad((weights @ values - values).square().sum(), projections)
        projections = [(p - learning_rate * g).detach().requires_grad_() for p, g in zip(projections, gradients)]
    return torch.stack([(inputs @ p / shrink).detach() for p in projections])  # (2, T, K)


@check.exercise(6, "The scale without the scale", reference=equivalent_setting, mistakes=[
    (rate_left_alone, "The first step agrees and the later ones do not: what does the smaller weight do to its gradient?"),
    (rate_of_adam, "This is the rate for Adam, whose steps do not depend on the size of the gradient."),
    (whole_root_twice, "The score is a product of two projections. If both shrink by c, it shrinks by the square of c."),
    (factor_upside_down, "You made the weights larger. Without the scale the scores are too large, so c must be less than 1."),
    (rate_raised, "The weights have become smaller, and so must the steps."),
])
def check_equivalence(answer):
    shrink, learning_rate = answer(0.05, 16)
    return trained_projections(1.0, shrink, learning_rate, 16)
