"""Exercises of the chapter on models that are to be smaller."""
import torch

from tutorlib.exercises.sheet import ExerciseSheet

check = ExerciseSheet()


# 1: rounding to a grid

def rounded(row, bits):
    # row (in,), float; 2^bits points from the smallest weight to the largest
    low, high = row.min(), row.max()
    scale = (high - low) / (2**bits - 1)
    return ((row - low) / scale).round() * scale + low  # (in,)


def one_step_too_many(row, bits):
    low, high = row.min(), row.max()
    scale = (high - low) / 2**bits
    return ((row - low) / scale).round() * scale + low


def cut_off(row, bits):
    low, high = row.min(), row.max()
    scale = (high - low) / (2**bits - 1)
    return ((row - low) / scale).floor() * scale + low


def without_the_minimum(row, bits):
    low, high = row.min(), row.max()
    scale = (high - low) / (2**bits - 1)
    return (row / scale).round() * scale


def integers_only(row, bits):
    low, high = row.min(), row.max()
    scale = (high - low) / (2**bits - 1)
    return ((row - low) / scale).round()


@check.exercise(1, "Rounding to a grid", reference=rounded, mistakes=[
    (one_step_too_many, "Between 2^bits points there are 2^bits - 1 steps; yours has one point too many for the bits."),
    (cut_off, "Round to the nearest point: cutting off is twice as far, and always to one side."),
    (without_the_minimum, "The first point is the smallest weight, not zero."),
    (integers_only, "Those are the integers that are stored; return the weights that they stand for."),
])
def check_rounding(answer):
    row = torch.randn(40) + 1.0
    return [answer(row.clone(), bits) for bits in (2, 3, 4)]


# 2: the size of a file

def file_bytes(weights, bits, group):
    # two numbers of two bytes for each group
    return weights * bits / 8 + weights / group * 4


def without_grids(weights, bits, group):
    return weights * bits / 8


def one_number_a_group(weights, bits, group):
    return weights * bits / 8 + weights / group * 2


def grids_in_float32(weights, bits, group):
    return weights * bits / 8 + weights / group * 8


def in_bits(weights, bits, group):
    return weights * bits + weights / group * 32


@check.exercise(2, "The size of a file", reference=file_bytes, mistakes=[
    (without_grids, "Each group has a scale and a minimum, and they are in the file too."),
    (one_number_a_group, "A group has two numbers: a scale and a minimum."),
    (grids_in_float32, "The two numbers are float16, two bytes each."),
    (in_bits, "Eight bits are a byte."),
])
def check_bytes(answer):
    return [float(answer(*case)) for case in ((64, 4, 32), (3_087_360, 3, 64), (134_515_008, 4, 32))]


# 3: two of four

def pattern(weight):
    # weight (out, in) -> True for the two largest magnitudes of each four neighbors
    fours = weight.abs().unflatten(1, (-1, 4))  # (out, in / 4, 4)
    second = fours.topk(2, -1).values[..., 1:]  # (out, in / 4, 1)
    return (fours >= second).flatten(1)  # (out, in)


def half_of_all(weight):
    return weight.abs() > weight.abs().median()


def half_of_each_row(weight):
    return weight.abs() > weight.abs().median(1, keepdim=True).values


def with_their_signs(weight):
    fours = weight.unflatten(1, (-1, 4))
    return (fours >= fours.topk(2, -1).values[..., 1:]).flatten(1)


def down_the_columns(weight):
    fours = weight.T.abs().unflatten(1, (-1, 4))
    return (fours >= fours.topk(2, -1).values[..., 1:]).flatten(1).T


@check.exercise(3, "Two of four", reference=pattern, mistakes=[
    (half_of_all, "The kernel wants two of every four neighbors, not half of the matrix wherever they lie."),
    (half_of_each_row, "Half of each row is not enough: two of every four neighbors."),
    (with_their_signs, "A large negative weight matters as much: compare magnitudes."),
    (down_the_columns, "The four neighbors lie in a row, along the inputs."),
])
def check_pattern(answer):
    return answer(torch.randn(8, 16)).float()


# 4: when two factors are smaller

def largest_rank(out, width):
    # (out + width) · rank < out · width
    return (out * width - 1) // (out + width)


def the_smaller_side(out, width):
    return min(out, width)


def half_the_smaller_side(out, width):
    return min(out, width) // 2


def one_factor_only(out, width):
    return (out * width - 1) // max(out, width)


@check.exercise(4, "When two factors are smaller", reference=largest_rank, mistakes=[
    (the_smaller_side, "At full rank the two factors together are larger than the matrix."),
    (half_the_smaller_side, "That is the answer for a square matrix; take the two sides as they are."),
    (one_factor_only, "Both factors are stored: (out + in) numbers for each rank."),
])
def check_rank(answer):
    return [int(answer(*case)) for case in ((192, 192), (768, 192), (2048, 100))]


# 5: the student's loss

def student_loss(student, teacher, temperature):
    # logits (N, V) each; the teacher is a constant
    q = (teacher / temperature).softmax(-1)  # (N, V)
    log_p = (student / temperature).log_softmax(-1)  # (N, V)
    return -temperature**2 * (q * log_p).sum(-1).mean()


def without_the_square(student, teacher, temperature):
    return student_loss(student, teacher, temperature) / temperature**2


def temperature_for_one(student, teacher, temperature):
    q, log_p = (teacher / temperature).softmax(-1), student.log_softmax(-1)
    return -temperature**2 * (q * log_p).sum(-1).mean()


def hard_targets(student, teacher, temperature):
    return torch.nn.functional.cross_entropy(student, teacher.argmax(-1))


def the_other_way_round(student, teacher, temperature):
    return student_loss(teacher, student, temperature)


def mean_over_all(student, teacher, temperature):
    return student_loss(student, teacher, temperature) / student.shape[-1]


@check.exercise(5, "The student's loss", reference=student_loss, mistakes=[
    (without_the_square, "Multiply by the temperature squared, or a warmer teacher has a shorter gradient."),
    (temperature_for_one, "Both are asked at the same temperature."),
    (hard_targets, "The teacher's first choice is a label; the point of it are all the probabilities."),
    (the_other_way_round, "The teacher's probabilities are the weights, the student's logarithms are what they weigh."),
    (mean_over_all, "Sum over the vocabulary, mean over the positions."),
])
def check_student(answer):
    student, teacher = 2 * torch.randn(5, 7), 2 * torch.randn(5, 7)
    return [answer(student.clone(), teacher.clone(), temperature) for temperature in (2.0, 4.0)]
