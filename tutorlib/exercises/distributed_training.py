"""Exercises of the chapter on distributed training."""
import torch

from tutorlib.exercises.sheet import ExerciseSheet

check = ExerciseSheet()


# 1: what a ring sends

def ring_sends(size, processes):
    # 2 (P - 1) turns, in each a piece of size / P
    return 2 * (processes - 1) * size / processes


def half_of_it(size, processes):
    return (processes - 1) * size / processes


def whole_vectors(size, processes):
    return 2 * (processes - 1) * size


def twice(size, processes):
    return 2 * size


@check.exercise(1, "What a ring sends", reference=ring_sends, mistakes=[
    (half_of_it, "Adding is half of it: the finished pieces have to go round too."),
    (whole_vectors, "A message is a piece of the vector, one part of P."),
    (twice, "That is where it ends for many processes; two send less."),
])
def check_sends(answer):
    return torch.tensor([answer(size, processes) for size in (1e6, 24.0) for processes in (1, 2, 3, 8, 1024)])


# 2: a mean of parts

def mean_of_parts(gradients, rows):
    # gradients (P, N), each the mean over its process's rows (P,)
    share = rows / rows.sum()  # (P,)
    return share @ gradients  # (N,)


def all_alike(gradients, rows):
    return gradients.mean(0)


def not_divided(gradients, rows):
    return rows @ gradients


def sum_of_means(gradients, rows):
    return gradients.sum(0)


@check.exercise(2, "A mean of parts", reference=mean_of_parts, mistakes=[
    (all_alike, "A process with three rows counts three times as much as one with one."),
    (not_divided, "Divide by the number of all rows."),
    (sum_of_means, "Each gradient is a mean already: their sum is P times too long."),
])
def check_mean(answer):
    return answer(torch.randn(3, 5), torch.tensor([3.0, 3.0, 1.0]))


# 3: columns, then rows

def divided(x, U, W, processes):
    # x (T, D), U (D, F), W (F, D): process p has the columns U_p and the rows W_p
    parts = [torch.relu(x @ U_p) @ W_p for U_p, W_p in
             zip(U.chunk(processes, dim=1), W.chunk(processes, dim=0))]  # P of (T, D)
    return torch.stack(parts)  # (P, T, D)


def rows_first(x, U, W, processes):
    return torch.stack([torch.relu(x_p @ U_p) @ W / processes for x_p, U_p in
                        zip(x.chunk(processes, dim=1), U.chunk(processes, dim=0))])


def same_columns(x, U, W, processes):
    A_0, B_0 = U.chunk(processes, dim=1)[0], W.chunk(processes, dim=0)[0]
    return torch.stack([torch.relu(x @ A_0) @ B_0] * processes)


def summed(x, U, W, processes):
    return torch.relu(x @ U) @ W


@check.exercise(3, "Columns, then rows", reference=divided, mistakes=[
    (rows_first, "Cut by rows, the first product is a sum over processes, and relu of a part is not a part of relu."),
    (same_columns, "Every process has other columns: the one of rank p has piece p."),
    (summed, "Return what each process has before the sum, (P, T, D)."),
])
def check_columns(answer):
    return answer(torch.randn(3, 4), torch.randn(4, 8), torch.randn(8, 4), 4)


# 4: how many microbatches

def enough(stages, most):
    # (K - 1) / (M + K - 1) <= most; the small term is for rounding
    M = 1
    while (stages - 1) / (M + stages - 1) > most + 1e-12:
        M += 1
    return M


def as_many_as_stages(stages, most):
    return stages


def one_too_few(stages, most):
    return max(enough(stages, most) - 1, 1)


def without_filling(stages, most):
    M = 1
    while (stages - 1) / M > most + 1e-12:
        M += 1
    return M


@check.exercise(4, "How many microbatches", reference=enough, mistakes=[
    (as_many_as_stages, "With M = K nearly half of the time is lost: (K - 1) / (2 K - 1)."),
    (one_too_few, "The bubble must be at most that share: one microbatch more."),
    (without_filling, "The time in which the pipeline fills counts in the whole: (K - 1) / (M + K - 1)."),
])
def check_enough(answer):
    return torch.tensor([float(answer(stages, most)) for stages in (2, 4, 16) for most in (0.5, 0.2, 0.05)])


# 5: the batch that pays

def rows_that_pay(seconds_a_row, message, processes):
    # B rows take B s alone, B s / P + message on P processes
    return message / (seconds_a_row * (1 - 1 / processes))


def without_own_work(seconds_a_row, message, processes):
    return message / seconds_a_row


def rows_of_a_process(seconds_a_row, message, processes):
    return rows_that_pay(seconds_a_row, message, processes) / processes


def all_saved(seconds_a_row, message, processes):
    return message * processes / seconds_a_row


@check.exercise(5, "The batch that pays", reference=rows_that_pay, mistakes=[
    (without_own_work, "What is saved a row is s (1 - 1 / P): a part of the work is still one's own."),
    (rows_of_a_process, "That is what each process has; the batch is P times as large."),
    (all_saved, "More processes save more of each row, not less."),
])
def check_rows(answer):
    return torch.tensor([answer(seconds, message, processes) for seconds, message in ((0.002, 0.03), (0.5, 0.1))
                         for processes in (2, 4, 64)])
