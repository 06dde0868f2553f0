"""Exercises of the chapter on repairing PyTorch programs."""
import torch
from torch import Tensor, nn

from tutorlib.exercises.sheet import ExerciseSheet, Wrong

check = ExerciseSheet()


# 1: shapes on paper

# (c) chunk: two of (3, 7, 6); stack: (2, 3, 7, 6); (d) view: (3, 2, 42)
SHAPES = [(5, 3, 4), (2, 9, 4), (2, 3, 7), (3, 42, 2)]


@check.exercise(1, "Shapes on paper", reference=SHAPES, mistakes=[
    ([(5, 3, 1), (2, 9, 4), (2, 3, 7), (3, 42, 2)], "In the first, the sizes 4 and 1 meet at the right: the larger results."),
    ([(5, 1, 4), (2, 9, 4), (2, 3, 7), (3, 42, 2)], "In the first, 1 and 3 meet in the middle: the larger one results."),
    ([(5, 3, 4), (2, 9, 6), (2, 3, 7), (3, 42, 2)], "In the second, the inner size 6 is summed over and goes."),
    ([(5, 3, 4), (2, 9, 4), (3, 7, 2), (3, 42, 2)], "In the third, stack puts the pieces in front."),
    ([(5, 3, 4), (2, 9, 4), (2, 3, 7, 6), (3, 42, 2)], "In the third, mean takes the last dimension away."),
    ([(5, 3, 4), (2, 9, 4), (3, 7), (3, 42, 2)], "In the third, stack adds a dimension in front, one entry for each piece."),
    ([(5, 3, 4), (2, 9, 4), (2, 3, 7), (3, 2, 42)], "In the fourth, transpose exchanges the last two."),
    ([(5, 3, 4), (2, 9, 4), (2, 3, 7), (3, 2, 7, 6)], "In the fourth, view is given three dimensions, and makes three."),
    ([(5, 3, 4), (2, 9, 4), (2, 3, 7), (3, 7, 2, 6)], "In the fourth, view is given three dimensions, and makes three."),
])
def check_shapes(answer):
    if len(answer) != 4:
        raise Wrong("Give four shapes, in a list.")
    return [tuple(shape) for shape in answer]


# 2: whose numbers?

def tokens_in(j, length, width, num_heads):
    row = length * width // num_heads  # numbers in a row of the view
    return [(h * row + j) // width for h in range(num_heads)]


def by_head_width(j, length, width, num_heads):
    return [(h * length * (width // num_heads) + j) // (width // num_heads) for h in range(num_heads)]


def first_token_only(j, length, width, num_heads):
    return [j // width] * num_heads


def remainders(j, length, width, num_heads):
    return [(h * length * (width // num_heads) + j) % width for h in range(num_heads)]


def consecutive(j, length, width, num_heads):
    return [(j * num_heads + h) // width for h in range(num_heads)]


def strides_of_length(j, length, width, num_heads):
    return [(h * length + j) // width for h in range(num_heads)]


def strides_of_head_width(j, length, width, num_heads):
    return [(h * (width // num_heads) + j) // width for h in range(num_heads)]


def only_one_token(j, length, width, num_heads):
    return j // width


@check.exercise(2, "Whose numbers", reference=tokens_in, mistakes=[
    (by_head_width, "A token owns D consecutive numbers in memory, not K."),
    (first_token_only, "That is the token of the first entry. The others lie further on in memory."),
    (remainders, "The remainder says which feature; the quotient says which token."),
    (consecutive, "The entries of a vector are not neighbors in memory: before the transpose they stood in different rows."),
    (strides_of_length, "A row of the view, before the transpose, has T times K numbers."),
    (strides_of_head_width, "A row of the view, before the transpose, has T times K numbers."),
    (only_one_token, "A vector has one entry for each head: return a list of that many tokens."),
])
def check_tokens(answer):
    found = [answer(j, length, width, heads) for length, width, heads in ((6, 8, 2), (10, 12, 3), (5, 16, 4))
             for j in (0, 7, 19)]
    return [[int(token) for token in tokens] if isinstance(tokens, (list, tuple, Tensor)) else tokens for tokens in found]


# 3: a test that a leak cannot pass

def leaks(layer, x):
    for i in range(len(x)):
        edited = x.clone()
        edited[i] = torch.randn_like(x[i])
        moved = (layer(edited) - layer(x)).abs()  # (B, T, D)
        moved[i] = 0  # the edited sample itself may move
        if moved.max() > 1e-5:
            return True
    return False


def edits_the_first(layer, x):
    edited = x.clone()
    edited[0] = torch.randn_like(x[0])
    return bool((layer(edited) - layer(x))[1:].abs().max() > 1e-5)


def edits_the_last(layer, x):
    edited = x.clone()
    edited[-1] = torch.randn_like(x[-1])
    return bool((layer(edited) - layer(x))[:-1].abs().max() > 1e-5)


def adds_a_constant(layer, x):
    for i in range(len(x)):
        edited = x.clone()
        edited[i] += 1
        moved = (layer(edited) - layer(x)).abs()
        moved[i] = 0
        if moved.max() > 1e-5:
            return True
    return False


def counts_its_own(layer, x):
    for i in range(len(x)):
        edited = x.clone()
        edited[i] = torch.randn_like(x[i])
        if (layer(edited) - layer(x)).abs().max() > 1e-5:
            return True
    return False


def edits_in_place(layer, x):
    for i in range(len(x)):
        edited = x
        edited[i] = torch.randn_like(x[i])
        moved = (layer(edited) - layer(x)).abs()
        moved[i] = 0
        if moved.max() > 1e-5:
            return True
    return False


def looks_at_shapes(layer, x):
    return layer(x).shape[:2] != x.shape[:2]


def upside_down(layer, x):
    return not leaks(layer, x)


def subtract_the_batch_mean(x):
    return x - x.mean(0)


def last_reads_first(x):
    return torch.cat([x[:-1], x[-1:] + x[:1]])


def first_reads_last(x):
    return torch.cat([x[:1] + x[-1:], x[1:]])


def shapes_of_features(x):
    centered = x - x.mean(-1, keepdim=True)  # a constant added to a token is gone
    return centered + centered.mean(0)


def per_token(x):
    return x.sin()


def over_tokens(x):
    return x - x.mean(1, keepdim=True)


@check.exercise(3, "A test that no leak passes", reference=leaks, mistakes=[
    (edits_the_first, "One of the layers leaks from the last sample only. Edit each sample in turn."),
    (edits_the_last, "One of the layers leaks from the first sample only. Edit each sample in turn."),
    (adds_a_constant, "A layer that subtracts the mean of the features does not see an added constant. Edit at random."),
    (counts_its_own, "The output of the edited sample itself may move: leave it out of the comparison."),
    (edits_in_place, "You found no leak anywhere. Clone x before you edit it, and compare values."),
    (looks_at_shapes, "You found no leak anywhere. Clone x before you edit it, and compare values."),
    (upside_down, "True means that the layer leaks."),
])
def check_leaks(answer):
    layers = per_token, over_tokens, subtract_the_batch_mean, last_reads_first, first_reads_last, shapes_of_features
    return [bool(answer(layer, torch.randn(4, 6, 5))) for layer in layers]


# 4: a mask in half precision

def masked_weights(scores, allowed):
    lowest = torch.finfo(scores.dtype).min
    return scores.masked_fill(~allowed, lowest).softmax(-1) * allowed  # (T, S)


def minus_a_billion(scores, allowed):
    return scores.masked_fill(~allowed, -1e9).softmax(-1)


def minus_infinity(scores, allowed):
    return scores.masked_fill(~allowed, float("-inf")).softmax(-1)


def uniform_where_nothing_is_allowed(scores, allowed):
    return scores.masked_fill(~allowed, torch.finfo(scores.dtype).min).softmax(-1)


def zeroed_afterwards(scores, allowed):
    return scores.softmax(-1) * allowed


def inverted(scores, allowed):
    return masked_weights(scores, ~allowed)


def small_number(scores, allowed):
    return scores.masked_fill(~allowed, -5.0).softmax(-1) * allowed


def zero_scores(scores, allowed):
    return (scores * allowed).softmax(-1) * allowed


@check.exercise(4, "A mask in half precision", reference=masked_weights, tolerance=0.01, mistakes=[
    (minus_a_billion, "float16 ends at 65504, so -1e9 overflows: torch.finfo knows the lowest number of the type."),
    (minus_infinity, "Where a query may see nothing, every score is minus infinity, and softmax gives NaN."),
    (uniform_where_nothing_is_allowed, "Where a query may see nothing, softmax gives equal weights. They should be zero."),
    (zeroed_afterwards, "The weights of a row no longer sum to one: mask the scores before the softmax."),
    (inverted, "allowed is True where a query may look."),
    (small_number, "-5 is within reach of a real score: take the smallest number of the type."),
    (zero_scores, "A score of zero is still a score: its exponential is one."),
])
def check_mask(answer):
    scores = torch.tensor([[1.0, 2.0, 3.0], [-9.0, -8.0, 0.0], [4.0, 4.0, 4.0]]).half()  # (T, S)
    allowed = torch.tensor([[True, True, False], [True, True, False], [False, False, False]])
    return answer(scores, allowed).float()


# 5: parameters that nothing reaches

def without_gradient(model, x):
    model.zero_grad()
    output = model(x)
    (output * torch.randn_like(output)).sum().backward()  # no two outputs cancel
    return [name for name, p in model.named_parameters()
            if p.grad is None or not p.grad.any()]


def with_a_plain_sum(model, x):
    model.zero_grad()
    model(x).sum().backward()
    return [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]


def with_stale_gradients(model, x):
    output = model(x)
    (output * torch.randn_like(output)).sum().backward()
    return [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]


def none_only(model, x):
    model.zero_grad()
    output = model(x)
    (output * torch.randn_like(output)).sum().backward()
    return [name for name, p in model.named_parameters() if p.grad is None]


def zero_only(model, x):
    model.zero_grad()
    output = model(x)
    (output * torch.randn_like(output)).sum().backward()
    return [name for name, p in model.named_parameters() if not p.grad.any()]


def frozen_only(model, x):
    return [name for name, p in model.named_parameters() if not p.requires_grad]


def the_reached(model, x):
    missing = without_gradient(model, x)
    return [name for name, _ in model.named_parameters() if name not in missing]


class Unused(nn.Module):
    def __init__(self):
        super().__init__()
        self.used, self.forgotten = nn.Linear(5, 4), nn.Linear(5, 4)

    def forward(self, x):
        return self.used(x)


class Mirrored(nn.Module):
    """All entries of the output sum to zero, whatever the parameters are."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(5, 4)

    def forward(self, x):
        y = self.linear(x)
        return torch.cat([y, -y], dim=-1)


class Silenced(nn.Module):
    """One branch is multiplied by zero, another one is cut off by `detach`."""

    def __init__(self):
        super().__init__()
        self.open, self.silenced, self.cut = nn.Linear(5, 4), nn.Linear(5, 4), nn.Linear(5, 4)

    def forward(self, x):
        return self.open(x) + 0 * self.silenced(x) + self.cut(x).detach()


@check.exercise(5, "Parameters that nothing reaches", reference=without_gradient, mistakes=[
    (with_a_plain_sum, "In one of the models the outputs cancel in a plain sum. Weight them at random."),
    (with_stale_gradients, "You found none. Empty the gradients of earlier passes, run backward, then look at each grad."),
    (none_only, "A gradient may exist and be zero everywhere."),
    (zero_only, "Where no gradient arrives at all, grad is None."),
    (frozen_only, "You found none. Empty the gradients of earlier passes, run backward, then look at each grad."),
    (the_reached, "These are the parameters that a gradient does reach."),
])
def check_silent(answer):
    found = []
    for model in (Unused(), Mirrored(), Silenced()):
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        found.append(sorted(answer(model, torch.randn(3, 6, 5))))
    return [" ".join(names) for names in found]
