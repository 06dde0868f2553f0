"""Exercises of the chapter on recurrence."""
import math

import torch

from tutorlib.exercises.sheet import ExerciseSheet, Wrong

check = ExerciseSheet()


# 1: two ones in a row

def two_ones():
    # The first unit copies the bit; the second is ReLU(bit before + bit - 1).
    weight = torch.tensor([[0.0, 1.0], [0.0, 0.0], [1.0, 1.0]])
    return weight, torch.tensor([0.0, -1.0]), torch.tensor([0.0, 1.0])


def two_ones_without_bias():
    return two_ones()[0], torch.zeros(2), two_ones()[2]


def two_ones_anywhere():
    _, bias, readout = two_ones()
    return torch.tensor([[1.0, 1.0], [0.0, 0.0], [1.0, 1.0]]), bias, readout  # the first unit counts all ones


def the_last_bit():
    weight, bias, _ = two_ones()
    return weight, bias, torch.tensor([1.0, 0.0])


def the_parity():
    weight = torch.tensor([[1.0, 1.0], [-2.0, -2.0], [1.0, 1.0]])
    return weight, torch.tensor([0.0, -1.0]), torch.tensor([1.0, -2.0])


def read(answer, bits):
    """The network's answers (T,) to bits (T,)."""
    weight, bias, readout = (torch.as_tensor(part, dtype=torch.float32) for part in answer)
    state, outputs = torch.zeros(2), []
    for bit in bits:
        state = (torch.cat([state, bit[None]]) @ weight + bias).relu()  # (D,)
        outputs.append(state @ readout)
    return torch.stack(outputs)


@check.exercise(1, "Two ones in a row", reference=two_ones, mistakes=[
    (two_ones_without_bias, "The second unit must stay silent for a single one: give it a bias."),
    (two_ones_anywhere, "The first unit must hold the last bit alone, so the old state must not add to it."),
    (the_last_bit, "This tells the last bit. The answer is in the unit that needs two ones to wake."),
    (the_parity, "This is the network for parity. What must the state remember here?"),
])
def check_two_ones(answer):
    parts = answer()
    if not isinstance(parts, (tuple, list)) or len(parts) != 3:
        raise Wrong("Return three tensors: the weight (3, 2), the bias (2,) and the readout (2,).")
    if [tuple(torch.as_tensor(part).shape) for part in parts] != [(3, 2), (2,), (2,)]:
        raise Wrong("The shapes must be (3, 2), (2,) and (2,): two rows for the state, one for the bit.")
    return read(parts, torch.tensor([1.0, 1, 0, 1, 1, 1, 0, 0, 1, 0, 1, 1]))


# 2: count the parameters

def count_parameters(input_width, hidden, gates, num_layers, directions):
    total, width = 0, input_width
    for _ in range(num_layers):
        total += directions * gates * (hidden * (width + hidden) + 2 * hidden)
        width = directions * hidden  # what the next layer reads
    return total


def count_one_bias(input_width, hidden, gates, num_layers, directions):
    first = gates * (hidden * (input_width + hidden) + hidden)
    later = gates * (hidden * (directions * hidden + hidden) + hidden)
    return directions * (first + (num_layers - 1) * later)


def count_without_biases(input_width, hidden, gates, num_layers, directions):
    first = gates * hidden * (input_width + hidden)
    later = gates * hidden * (directions * hidden + hidden)
    return directions * (first + (num_layers - 1) * later)


def count_narrow_second_layer(input_width, hidden, gates, num_layers, directions):
    first = gates * (hidden * (input_width + hidden) + 2 * hidden)
    later = gates * (hidden * (hidden + hidden) + 2 * hidden)
    return directions * (first + (num_layers - 1) * later)


def count_equal_layers(input_width, hidden, gates, num_layers, directions):
    return directions * num_layers * gates * (hidden * (input_width + hidden) + 2 * hidden)


def count_one_direction(input_width, hidden, gates, num_layers, directions):
    return count_parameters(input_width, hidden, gates, num_layers, directions) // directions


@check.exercise(2, "Count the parameters", reference=count_parameters, mistakes=[
    (count_one_bias, "PyTorch's layers keep two biases for each gate, one for the input and one for the state."),
    (count_without_biases, "Each gate has biases too, two of width D."),
    (count_narrow_second_layer, "A second layer reads the outputs of all directions: its input is directions * D wide."),
    (count_equal_layers, "Only the first layer reads the inputs. The others read the outputs below them."),
    (count_one_direction, "Each direction has cells of its own."),
])
def check_count(answer):
    return [answer(12, 32, 1, 1, 1), answer(12, 32, 4, 1, 1), answer(12, 32, 3, 3, 1), answer(12, 32, 4, 2, 2)]


# 3: a bias for a memory

def forget_bias(steps, share):
    gate = share ** (1 / steps)  # gate ** steps = share
    return math.log(gate / (1 - gate))  # for 1/e: gate = exp(-1/T), near 1 - 1/T


def bias_is_the_gate(steps, share):
    return share ** (1 / steps)


def bias_for_one_step(steps, share):
    return math.log(share / (1 - share))


def bias_of_the_quotient(steps, share):
    gate = 1 - (1 - share) / steps
    return math.log(gate / (1 - gate))


def bias_by_logarithm(steps, share):
    return math.log(steps)


def bias_turned(steps, share):
    return -forget_bias(steps, share)


def bias_through_the_sigmoid(steps, share):
    return 1 / (1 + math.exp(-(share ** (1 / steps))))


def bias_approximated(steps, share):
    return math.log(-steps / math.log(share))


@check.exercise(3, "A bias for a memory", reference=forget_bias, mistakes=[
    (bias_is_the_gate, "That is the gate's value. Which bias makes the sigmoid take it?"),
    (bias_for_one_step, "The gate is applied at every step: its power must be the share."),
    (bias_of_the_quotient, "The losses multiply, they do not add: solve gate ** steps = share."),
    (bias_by_logarithm, "That is the approximation for the share 1/e and many steps. Solve the equation exactly."),
    (bias_through_the_sigmoid, "The sigmoid leads from the bias to the gate. You need the way back: ln(f / (1 - f))."),
    (bias_approximated, "That is close for many steps. The exact gate is share ** (1 / steps); solve for its bias."),
    (bias_turned, "A gate near 1 needs a large positive bias: mind the sign."),
])
def check_bias(answer):
    return [float(answer(50, 0.5)), float(answer(20, 0.9)), float(answer(200, math.exp(-1)))]


# 4: the last real output

def last_real(outputs, lengths):
    return outputs[torch.arange(len(lengths)), lengths - 1]  # one position for each row


def last_padded(outputs, lengths):
    return outputs[:, -1]


def one_too_far(outputs, lengths):
    return outputs[torch.arange(len(lengths)), lengths]


def all_pairs(outputs, lengths):
    return outputs[:, lengths - 1]


def first_output(outputs, lengths):
    return outputs[:, 0]


def mean_of_real(outputs, lengths):
    real = torch.arange(outputs.size(1)) < lengths[:, None]
    return (outputs * real[..., None]).sum(dim=1) / lengths[:, None]


@check.exercise(4, "The last real output", reference=last_real, mistakes=[
    (last_padded, "That is the last position of the padded batch, the mistake of the chapter."),
    (one_too_far, "Positions are counted from 0: the last of n is n - 1."),
    (all_pairs, "This takes every row at every end, (B, B, D). Index rows and positions together."),
    (first_output, "That is the first output."),
    (mean_of_real, "That is the mean of the real outputs, not the last one."),
])
def check_last_real(answer):
    return answer(torch.randn(4, 6, 3), torch.tensor([2, 5, 1, 4]))


# 5: a gate that stays the same

def candidate_weights(z, length):
    return (1 - z) * z ** torch.arange(length).flip(0)  # (T,): the newest comes last


def newest_first(z, length):
    return (1 - z) * z ** torch.arange(length)


def without_input_gate(z, length):
    return z ** torch.arange(length).flip(0)


def one_power_too_many(z, length):
    return (1 - z) * z ** (torch.arange(length).flip(0) + 1)


def gates_swapped(z, length):
    return candidate_weights(1 - z, length)


def weights_of_a_mean(z, length):
    weights = candidate_weights(z, length)
    return weights / weights.sum()


@check.exercise(5, "A gate that stays the same", reference=candidate_weights, mistakes=[
    (newest_first, "In the order of time the oldest candidate comes first, and it has been scaled most often."),
    (without_input_gate, "Each candidate enters with the weight 1 - z before later steps scale it by z."),
    (one_power_too_many, "The last candidate has only just entered: no step has scaled it by z yet."),
    (gates_swapped, "In this chapter z scales the old state, and 1 - z the candidate."),
    (weights_of_a_mean, "The weights need not sum to 1: some of the sum belongs to the start, which is zero."),
])
def check_candidate_weights(answer):
    return [answer(0.9, 6), answer(0.25, 3), answer(0.6, 1)]


# 6: where the costs meet

LENGTH = 2 * 512  # 2 n n D + 4 n D D = 8 n D D  <=>  n = 2 D


@check.exercise(6, "Where the costs meet", reference=LENGTH, mistakes=[
    (2048, "That is where attention's core alone meets the LSTM. Add the projections."),
    (512, "n = D is too short. Write 2 n n D + 4 n D D = 8 n D D and solve for n."),
    (3072, "The projections add to attention's cost, so the crossing comes earlier, not later."),
    (256, "n = D / 2 is too short. Write 2 n n D + 4 n D D = 8 n D D and solve for n."),
    (4096, "Per step the LSTM takes 8 D D in all: four products with a (2D, D) matrix."),
])
def check_crossing(answer):
    return answer
