"""Exercises of the chapter on position: tables, shifts, rotary codes and distance biases."""

import torch

from tutorlib.exercises.sheet import ExerciseSheet, Wrong

check = ExerciseSheet()


# -- 1: the table -----------------------------------------------------------------------------------------------------


def table(length, width):
    speed = 10000 ** (-torch.arange(0, width, 2) / width)  # (D/2,)
    angle = torch.arange(length)[:, None] * speed  # (T, D/2)
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)  # (T, D)


def cosine_first(length, width):
    return table(length, width).unflatten(1, (-1, 2)).flip(-1).flatten(1)


def in_halves(length, width):
    return torch.cat([table(length, width)[:, 0::2], table(length, width)[:, 1::2]], dim=1)


def without_the_index(length, width):
    angle = torch.arange(length)[:, None] / 10000 ** torch.full((width // 2,), 2 / width)
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)


def base_squared(length, width):
    angle = torch.arange(length)[:, None] / 10000**2 ** (torch.arange(0, width, 2) / width)
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)


def half_the_exponent(length, width):
    angle = torch.arange(length)[:, None] / 10000 ** (torch.arange(width // 2) / width)
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)


def multiplied(length, width):
    angle = torch.arange(length)[:, None] * 10000 ** (torch.arange(0, width, 2) / width)
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)


@check.exercise(1, "The table from its formula", reference=table, mistakes=[
    (cosine_first, "Even dimensions hold the sine, odd ones the cosine. At position 0 the row begins 0, 1."),
    (in_halves, "The two halves are right, but each sine stands beside its cosine: 2i and 2i + 1 are neighbors."),
    (without_the_index, "Every pair turns at the same speed. The exponent must contain the index: 2i / D, not 2 / D."),
    (base_squared, "The exponent of 10000 is 2i / D. Mind which operation Python does first in a ** b ** c."),
    (half_the_exponent, "The last pair turns too fast: the exponent is 2i / D, which comes close to 1, not to 1/2."),
    (multiplied, "The hands turn faster and faster. Divide the position by 10000 ** (2i / D)."),
])
def check_table(answer):
    return torch.as_tensor(answer(length=9, width=8)).float()


# -- 2: a shift -------------------------------------------------------------------------------------------------------


def shift(code, steps):
    width = len(code)
    angle = steps * 10000 ** (-torch.arange(0, width, 2) / width)  # (D/2,)
    sine, cosine = code[0::2], code[1::2]  # (D/2,) each
    new_sine = sine * angle.cos() + cosine * angle.sin()
    new_cosine = cosine * angle.cos() - sine * angle.sin()
    return torch.stack([new_sine, new_cosine], dim=-1).flatten()  # (D,)


def add_codes(code, steps):
    return code + table(steps + 1, code.shape[-1])[steps].to(code.dtype)


def shift_halves(code, steps):
    width = code.shape[-1]
    angle = steps / 10000 ** (torch.arange(0, width, 2, dtype=code.dtype) / width)
    sine, cosine = code.chunk(2, dim=-1)
    return torch.cat([sine * angle.cos() + cosine * angle.sin(), cosine * angle.cos() - sine * angle.sin()], dim=-1)


@check.exercise(2, "Move a code without knowing where it is", reference=shift, mistakes=[
    (lambda code, steps: shift(code, -steps), "That is the code as many positions earlier: check the signs of the two sines."),
    (add_codes, "The sum of two codes is not the code of the sum: a shift turns each pair by its frequency times the steps."),
    (shift_halves, "A sine stands beside its cosine here, at 2i and 2i + 1: do not cut the vector into halves."),
    (lambda code, steps: code, "The code is returned as it came."),
])
def check_shift(answer):
    codes = table(12, 6).double()  # (12, D)
    return torch.stack([torch.as_tensor(answer(codes[p].clone(), steps)) for p, steps in ((0, 3), (4, 5), (7, 1), (2, 2))])


# -- 3: rotary codes at given positions -------------------------------------------------------------------------------


def rotate(x, positions):
    width = x.size(-1)
    speed = 10000 ** (-torch.arange(0, width, 2) / width)  # (K/2,)
    angle = positions[:, None] * speed  # (T, K/2)
    cos, sin = angle.cos(), angle.sin()
    first, second = x.chunk(2, dim=-1)  # (T, K/2) each
    turned = first * cos - second * sin, second * cos + first * sin
    return torch.cat(turned, dim=-1)  # (T, K)


def rotate_neighbors(x, positions):
    width = x.shape[-1]
    angle = positions[:, None] / 10000 ** (torch.arange(0, width, 2) / width)
    first, second = x[:, 0::2], x[:, 1::2]
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([first * cos - second * sin, second * cos + first * sin], dim=-1).flatten(-2)


def mixed_layouts(x, positions):
    width = x.shape[-1]
    angle = positions[:, None] / 10000 ** (torch.arange(0, width, 2) / width)
    angle = angle.repeat_interleave(2, dim=-1)  # (T, K): an angle for neighbors, but halves are turned
    first, second = x.chunk(2, dim=-1)
    return x * angle.cos() + torch.cat([-second, first], dim=-1) * angle.sin()


@check.exercise(3, "Rotary codes at given positions", reference=rotate, mistakes=[
    (lambda x, positions: rotate(x, -positions), "The turn goes the wrong way: check the sign of the sines."),
    (lambda x, positions: rotate(x, torch.arange(len(x))), "The rows stand at `positions`, not at 0, 1, 2, ..."),
    (rotate_neighbors, "That is the interleaved layout. Here coordinate i is paired with i + K/2."),
    (mixed_layouts, "Two layouts are mixed: the angles belong to neighbors, the coordinates to halves. No rotation results."),
])
def check_rotate(answer):
    x, positions = torch.randn(5, 8), torch.tensor([0, 0, 3, 4, 11])
    turned = torch.as_tensor(answer(x.clone(), positions))
    if turned.shape != x.shape:
        raise Wrong(f"The result must have the shape of x, {tuple(x.shape)}, got {tuple(turned.shape)}.")
    return turned


# -- 4: from one layout to the other ----------------------------------------------------------------------------------


def to_half_split(weight, num_heads):
    pairs = weight.unflatten(0, (num_heads, -1, 2))  # (H, K/2, 2, D)
    return pairs.transpose(1, 2).flatten(0, 2)  # (D, D): first members, then second


def to_interleaved(weight, num_heads):
    return weight.unflatten(0, (num_heads, 2, -1)).transpose(1, 2).flatten(0, 2)


@check.exercise(4, "Convert a checkpoint", reference=to_half_split, mistakes=[
    (to_interleaved, "That is the way back: it takes half-split rows to interleaved ones."),
    (lambda weight, num_heads: to_half_split(weight, 1), "The rows travel across heads. Every head has its own pairs."),
    (lambda weight, num_heads: weight, "Nothing moved."),
    (lambda weight, num_heads: to_half_split(weight.T, num_heads).T,
     "The columns moved. nn.Linear stores (out, in): heads are rows."),
])
def check_to_half_split(answer):
    weight = torch.arange(12 * 12, dtype=torch.float32).view(12, 12)  # H = 2 heads of K = 6
    return torch.as_tensor(answer(weight.clone(), 2))


# -- 5: a bias by distance --------------------------------------------------------------------------------------------


def distance_bias(num_heads, length):
    # One slope is one window: a steep one sees nothing far, to a flat one all is near.
    slope = 2.0 ** (-8 / num_heads * torch.arange(1, num_heads + 1))  # (H,)
    place = torch.arange(length)  # (T,)
    return -slope[:, None, None] * (place[:, None] - place).abs()  # (H, T, T)


def without_slopes(num_heads, length):
    place = torch.arange(length)
    return -(place[:, None] - place).abs().float().expand(num_heads, length, length)


def from_one(num_heads, length):
    return distance_bias(num_heads, length) * 2.0 ** (8 / num_heads)


def for_every_head(num_heads, length):
    return distance_bias(num_heads, length)[0]


def signed_distance(num_heads, length):
    place = torch.arange(length)
    return distance_bias(num_heads, length) * (place[:, None] - place).sign()


@check.exercise(5, "A bias by distance", reference=distance_bias, mistakes=[
    (lambda num_heads, length: -distance_bias(num_heads, length), "Far keys are favored: the bias must be negative."),
    (without_slopes, "All heads have the slope 1. Each head needs its own, so that some see far."),
    (from_one, "The slopes start at 1: the first head's is 2 ** (-8 / H), since h counts from 1."),
    (signed_distance, "Keys that come later are favored: the penalty grows with the distance |m - n|, in both directions."),
    (for_every_head, "One matrix for all heads is not enough: the shape is (H, T, T)."),
])
def check_distance_bias(answer):
    return torch.as_tensor(answer(4, 6)).float()


# -- 6: who can read backwards ----------------------------------------------------------------------------------------

# Rotary scores depend on m - n with its sign, the penalty on its absolute value.
ANSWERS = {"none": False, "sinusoidal": True, "learned": True, "rotary": True,
           "penalty": False}


@check.exercise(6, "Forwards or backwards", reference=ANSWERS, mistakes=[
    (ANSWERS | {"penalty": True}, "|m - n| is the same read from either end: look at the penalty again."),
    (ANSWERS | {"rotary": False}, "A rotary score depends on m - n with its sign: q R(-d) k differs from q R(d) k."),
    (ANSWERS | {"penalty": True, "rotary": False},
     "Rotary and the penalty are the wrong way round: which of them keeps the sign of m - n?"),
    (ANSWERS | {"none": True}, "Without any code, a word and its mirror image are the same bag of letters."),
    (ANSWERS | {"none": True, "penalty": True}, "Two of these codes cannot tell one end of a word from the other."),
    (ANSWERS | {"learned": False}, "A learned table has another row for each position."),
])
def check_direction(answer):
    return {name: torch.tensor(bool(can)) for name, can in dict(answer).items()}
