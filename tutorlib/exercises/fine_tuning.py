"""Exercises of the chapter on fine-tuning."""
import torch

from tutorlib.exercises.sheet import ExerciseSheet, Wrong

check = ExerciseSheet()


# 1: numbers of an adapter

def count(shapes, rank):
    # shapes: (m, n) of each matrix
    return sum(rank * (m + n) for m, n in shapes)


def count_products(shapes, rank):
    return sum(rank * m * n for m, n in shapes)


def count_one(shapes, rank):
    return sum(rank * n for m, n in shapes)


def count_full(shapes, rank):
    return sum(m * n for m, n in shapes)


@check.exercise(1, "Numbers of an adapter", reference=count, mistakes=[
    (count_products, "B has m rows of r numbers and A has r rows of n: their sizes add, r (m + n), they do not multiply."),
    (count_one, "That is A alone. B has m rows of r numbers."),
    (count_full, "That is what training the matrices themselves would move; the adapter has rank r."),
])
def check_count(answer):
    return [answer([(576, 576), (192, 576), (1536, 576)], 4), answer([(3, 5)], 1), answer([(7, 2)] * 3, 2)]


# 2: the forward pass

def adapted(x, W, A, B, alpha):
    # x (..., n), W (m, n), A (r, n), B (m, r)
    scale = alpha / len(A)
    return x @ W.T + scale * (x @ A.T) @ B.T  # (..., m)


def without_scale(x, W, A, B, alpha):
    return x @ W.T + (x @ A.T) @ B.T


def times_alpha(x, W, A, B, alpha):
    return x @ W.T + alpha * (x @ A.T) @ B.T


def in_a_row(x, W, A, B, alpha):
    return (x @ A.T) @ B.T * alpha / len(A)


@check.exercise(2, "The forward pass", reference=adapted, mistakes=[
    (without_scale, "The change is multiplied by s = alpha / r."),
    (times_alpha, "s is alpha divided by the rank, which is the number of rows of A."),
    (in_a_row, "The frozen matrix still speaks: W x is added."),
])
def check_adapted(answer):
    return answer(torch.randn(2, 3, 5), torch.randn(4, 5), torch.randn(2, 5), torch.randn(4, 2), 6.0)


# 3: the targets of an answer

def answer_targets(prompt, answer, nothing):
    # a target for each of the tokens that are read: all but the last
    return [nothing] * (len(prompt) - 1) + answer


def late(prompt, answer, nothing):
    return [nothing] * len(prompt) + answer[1:]


def everything(prompt, answer, nothing):
    return prompt[1:] + answer


def unshifted(prompt, answer, nothing):
    return [nothing] * len(prompt) + answer


@check.exercise(3, "The targets of an answer", reference=answer_targets, mistakes=[
    (everything, "The question's tokens must not count: the model is not to learn to ask."),
    (unshifted, "One too many: the model reads all tokens but the last, and at each place the target is the next token."),
    (late, "The first token of the answer is predicted at the last place of the prompt."),
])
def check_targets(answer):
    rows = [answer([5, 6, 7], [1, 2], -1), answer([8], [3, 4, 9], -1), answer([1, 2, 3, 4], [5], -1)]
    if any(not isinstance(row, list) for row in rows):
        raise Wrong("Return a list of numbers.")
    return rows


# 4: which rank does a change need?

def rank_needed(change, left):
    # the least r whose best part leaves at most the share `left` of the squared change
    squares = torch.linalg.svdvals(change).square()
    remaining = 1 - squares.cumsum(0) / squares.sum()  # after rank 1, 2, ...
    return int((remaining > left).sum()) + 1


def one_too_few(change, left):
    squares = torch.linalg.svdvals(change).square()
    return int((1 - squares.cumsum(0) / squares.sum() > left).sum())


def not_squared(change, left):
    values = torch.linalg.svdvals(change)
    return int((1 - values.cumsum(0) / values.sum() > left).sum()) + 1


def full_rank(change, left):
    return int(torch.linalg.matrix_rank(change))


@check.exercise(4, "The rank that a change needs", reference=rank_needed, mistakes=[
    (one_too_few, "Count from one: if the first part already leaves little enough, the rank is 1."),
    (not_squared, "The squared error is a sum of squared singular values."),
    (full_rank, "A small rest may be left: the share `left` of the squared change."),
])
def check_rank(answer):
    found = []
    for values in ([10.0, 3.0, 1.0, 0.1], [5.0, 0.1, 0.1, 0.1], [2.0, 2.0, 2.0, 1.0]):
        left, _ = torch.linalg.qr(torch.randn(6, 4))
        right, _ = torch.linalg.qr(torch.randn(5, 4))
        found.append(answer(left * torch.tensor(values) @ right.T, 0.05))
    return found


# 5: bytes of a training step

def state_bytes(frozen, trained):
    # 4 bytes a weight; what is trained has a gradient and two means of Adam as well
    return 4 * (frozen + trained) + 12 * trained


def without_adam(frozen, trained):
    return 4 * (frozen + trained) + 4 * trained


def for_all(frozen, trained):
    return 16 * (frozen + trained)


def only_trained(frozen, trained):
    return 16 * trained


@check.exercise(5, "Bytes that a training keeps", reference=state_bytes, mistakes=[
    (without_adam, "Adam keeps two running means a number beside the gradient: 12 bytes, not 4."),
    (for_all, "What is frozen has no gradient and no means."),
    (only_trained, "The frozen weights must be there as well, at 4 bytes."),
])
def check_bytes(answer):
    return [answer(1000, 10), answer(0, 7), answer(134_515_008, 1_221_120)]
