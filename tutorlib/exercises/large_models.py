"""Exercises of the chapter on what a large model is: counting parameters, operations and bytes."""
import torch
from torch import nn

from tutorlib.exercises.sheet import ExerciseSheet, Wrong

check = ExerciseSheet()


# 1: a two-layer network on paper

LAYER_1, LAYER_2 = 784 * 128, 128 * 10  # weights, each a multiply-add
WEIGHTS = LAYER_1 + LAYER_2
PARAMETERS = WEIGHTS + 128 + 10
FORWARD = 2 * WEIGHTS
TRAINING = 3 * FORWARD - 2 * LAYER_1  # nobody needs the gradient of the pixels


@check.exercise(1, "An MLP on paper", reference=(PARAMETERS, FORWARD, TRAINING), mistakes=[
    ((WEIGHTS, FORWARD, TRAINING), "The biases are parameters too: one for each hidden unit and each output."),
    ((WEIGHTS, FORWARD, 3 * FORWARD), "Biases are parameters too, and nobody needs the gradient of the pixels."),
    ((PARAMETERS, FORWARD, 3 * FORWARD), "Nobody needs the gradient of the pixels: leave it out of the first layer."),
    ((PARAMETERS, FORWARD, 2 * FORWARD), "The second layer needs two gradients: of its weights and of its inputs."),
    ((PARAMETERS, FORWARD, TRAINING - FORWARD), "Training includes the forward pass."),
    ((PARAMETERS, WEIGHTS, TRAINING // 2), "These are multiply-adds; each is two FLOPs."),
    ((PARAMETERS, WEIGHTS, 3 * WEIGHTS), "These are multiply-adds; each is two FLOPs."),
    ((PARAMETERS, 2 * PARAMETERS, 6 * PARAMETERS), "Adding a bias is not counted: two FLOPs for each weight, none for a bias."),
])
def check_mlp(answer):
    if not isinstance(answer, (tuple, list)) or len(answer) != 3:
        raise Wrong("Give three numbers: (parameters, forward FLOPs, training FLOPs).")
    return [*answer]


# 2: a GPT by its shape

def gpt_parameters(vocabulary, places, width, layers):
    block = 12 * width**2 + 13 * width  # weights; 9 D of biases, 4 D of two norms
    return (vocabulary + places) * width + layers * block + 2 * width


def gpt_untied(vocabulary, places, width, layers):
    return gpt_parameters(vocabulary, places, width, layers) + vocabulary * width


def gpt_without_tables(vocabulary, places, width, layers):
    return gpt_parameters(0, 0, width, layers)


def gpt_by_rule(vocabulary, places, width, layers):
    return 12 * layers * width**2


def gpt_rule_and_tables(vocabulary, places, width, layers):
    return (vocabulary + places) * width + 12 * layers * width**2


def gpt_without_places(vocabulary, places, width, layers):
    return gpt_parameters(vocabulary, 0, width, layers)


def gpt_without_last_norm(vocabulary, places, width, layers):
    return gpt_parameters(vocabulary, places, width, layers) - 2 * width


def gpt_without_biases(vocabulary, places, width, layers):
    return gpt_parameters(vocabulary, places, width, layers) - 9 * layers * width


def gpt_without_norms(vocabulary, places, width, layers):
    return gpt_parameters(vocabulary, places, width, layers) - 4 * layers * width - 2 * width


@check.exercise(2, "Count a GPT", reference=gpt_parameters, mistakes=[
    (gpt_untied, "The scores use the table of tokens a second time: it is stored once."),
    (gpt_without_tables, "The tables of tokens and positions are parameters too."),
    (gpt_by_rule, "The rule of thumb keeps only the matrices of the blocks. Add the tables, biases and normalizations."),
    (gpt_rule_and_tables, "The biases and normalizations are missing: 13 D a block, and one normalization at the end."),
    (gpt_without_places, "Positions have a table of their own, one row a place."),
    (gpt_without_last_norm, "One more normalization stands after the last block."),
    (gpt_without_biases, "Every linear layer has a bias as wide as its output, the wide one of the feed-forward network too."),
    (gpt_without_norms, "A block has two normalizations with scale and shift, and one more follows the last block."),
])
def check_gpt(answer):
    return [answer(50257, 1024, 768, 12), answer(50257, 1024, 1600, 48), answer(100, 7, 16, 3)]


# 3: parameters of a module

class Example(nn.Module):
    """A tied table, a normalization with buffers, a frozen layer, and a frozen one beside it that is trained in part."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(11, 6)
        self.norm = nn.BatchNorm1d(6)
        self.frozen = nn.Linear(6, 5).requires_grad_(False)
        self.hidden = nn.Linear(6, 6)
        self.hidden.bias.requires_grad_(False)
        self.scores = nn.Linear(6, 11, bias=False)
        self.scores.weight = self.table.weight


def count_module(module):
    parameters = list(module.parameters())  # shared ones are listed once
    trained = [p.numel() for p in parameters if p.requires_grad]
    return sum(p.numel() for p in parameters), sum(trained)


def count_state(module):
    values = module.state_dict(keep_vars=True).values()
    return sum(v.numel() for v in values), sum(v.numel() for v in values if v.requires_grad)


def count_state_as_trained(module):
    size = sum(v.numel() for v in module.state_dict().values())
    return size, count_module(module)[1]


def count_twice(module):
    parameters = [p for part in module.modules() for p in part.parameters(recurse=False)]
    return sum(p.numel() for p in parameters), sum(p.numel() for p in parameters if p.requires_grad)


def count_with_buffers(module):
    every, trained = count_module(module)
    return every + sum(b.numel() for b in module.buffers()), trained


def count_frozen_as_trained(module):
    return (count_module(module)[0],) * 2


def count_trained_only(module):
    return (count_module(module)[1],) * 2


def count_tensors(module):
    parameters = list(module.parameters())
    return len(parameters), sum(p.requires_grad for p in parameters)


def count_frozen(module):
    every, trained = count_module(module)
    return every, every - trained


@check.exercise(3, "Count without counting twice", reference=count_module, mistakes=[
    (count_state, "A state dictionary lists buffers, and a shared table under both of its names."),
    (count_state_as_trained, "A state dictionary lists buffers, and a shared table under both of its names."),
    (count_twice, "The shared table was counted once for each module that uses it."),
    (count_with_buffers, "Buffers are stored with the model but are no parameters."),
    (count_frozen_as_trained, "Frozen parameters are parameters, but they are not trained."),
    (count_trained_only, "Frozen parameters are parameters too: the first number includes them."),
    (count_tensors, "You counted tensors. Each holds numel() numbers."),
    (count_frozen, "The second number is of those that are trained, not of the frozen ones."),
])
def check_module(answer):
    result = answer(Example())
    if not isinstance(result, (tuple, list, torch.Size)) or len(result) != 2:
        raise Wrong("Return two numbers: (parameters, trained parameters).")
    return [*result]


# 4: attention against the rest

WEIGHTS_OF_BLOCK = 2 * 8192 * 8192 + 2 * 8192 * 1024 + 3 * 8192 * 28672
CROSSING_LENGTH = 2 * WEIGHTS_OF_BLOCK // (4 * 8192)  # 2 T W = 4 T^2 D


@check.exercise(4, "When attention takes half", reference=CROSSING_LENGTH, mistakes=[
    (6 * 8192, "6 D holds for F = 4 D with two matrices and wide keys. Write this block's weights out."),
    (2 * (8192 + 1024 + 3 * 28672 // 2), "A multiply-add is two FLOPs in both: 2 T W on one side, 4 T^2 D on the other."),
    ((8192 + 1024 + 3 * 28672 // 2) // 2, "A multiply-add is two FLOPs in both: 2 T W on one side, 4 T^2 D on the other."),
    (2 * 8192 + 3 * 28672 // 2, "Keys and values are 1024 wide, not 8192."),
    (8192 + 1024 + 28672, "The feed-forward network has three matrices."),
    (8192 + 1024, "The feed-forward network has weights too."),
    (3 * 28672 // 2, "The four projections of attention have weights too."),
    (8192 + 3 * 28672 // 2, "Keys and values have projections too, narrow ones."),
    (80 * (8192 + 1024 + 3 * 28672 // 2), "Both sides have 80 layers; the length does not depend on their number."),
])
def check_crossing(answer):
    return round(answer) if isinstance(answer, float) and answer.is_integer() else answer


# 5: readers

def readers(memory, parameters, layers, kv_heads, head_width, tokens):
    cache = 2 * layers * kv_heads * head_width * tokens * 2  # keys, values; two bytes
    return max(0, (memory - 2 * parameters) // cache)


def readers_keys_only(memory, parameters, layers, kv_heads, head_width, tokens):
    return max(0, (memory - 2 * parameters) // (2 * layers * kv_heads * head_width * tokens))


def readers_without_bytes(memory, parameters, layers, kv_heads, head_width, tokens):
    return max(0, (memory - parameters) // (2 * layers * kv_heads * head_width * tokens))


def readers_without_weights(memory, parameters, layers, kv_heads, head_width, tokens):
    return memory // (4 * layers * kv_heads * head_width * tokens)


def readers_weights_each(memory, parameters, layers, kv_heads, head_width, tokens):
    return memory // (2 * parameters + 4 * layers * kv_heads * head_width * tokens)


def readers_one_layer(memory, parameters, layers, kv_heads, head_width, tokens):
    return max(0, (memory - 2 * parameters) // (4 * kv_heads * head_width * tokens))


def readers_negative(memory, parameters, layers, kv_heads, head_width, tokens):
    return (memory - 2 * parameters) // (4 * layers * kv_heads * head_width * tokens)


def readers_fraction(memory, parameters, layers, kv_heads, head_width, tokens):
    return max(0, (memory - 2 * parameters) / (4 * layers * kv_heads * head_width * tokens))


def readers_per_token(memory, parameters, layers, kv_heads, head_width, tokens):
    return max(0, (memory - 2 * parameters) // (4 * layers * kv_heads * head_width))


@check.exercise(5, "How many readers", reference=readers, mistakes=[
    (readers_keys_only, "Each layer keeps keys and values, and each of their numbers takes two bytes: a factor of four."),
    (readers_without_bytes, "Each number takes two bytes, in the weights and in the cache."),
    (readers_without_weights, "The weights are in the same memory."),
    (readers_weights_each, "All readers share one copy of the weights."),
    (readers_one_layer, "Every layer has a cache of its own."),
    (readers_negative, "Where the weights alone do not fit, nobody is served: 0, not a negative number."),
    (readers_fraction, "A part of a reader cannot be served: round down."),
    (readers_per_token, "The cache grows with each token of a reader's text."),
])
def check_readers(answer):
    return [answer(80 * 10**9, 7 * 10**9, 32, 32, 128, 4096), answer(640 * 10**9, 69 * 10**9, 80, 8, 128, 4096),
            answer(80 * 10**9, 69 * 10**9, 80, 8, 128, 4096)]


# 6: days

SECONDS = 6 * 1e10 * 2e11 / (64 * 2e14)
DAY = 24 * 3600
DAYS = SECONDS / DAY


@check.exercise(6, "How long to train", reference=DAYS, tolerance=0.02, mistakes=[
    (SECONDS / DAY / 3, "Two FLOPs a parameter and token is the forward pass alone; training takes three times that."),
    (SECONDS / DAY / 2, "A multiply-add is two FLOPs."),
    (SECONDS, "This is in seconds."),
    (SECONDS / 60, "This is in minutes."),
    (SECONDS / 3600, "This is in hours."),
    (SECONDS / DAY * 64, "The 64 accelerators share the work."),
    (SECONDS / DAY / 6, "Each token takes six FLOPs for each parameter."),
])
def check_days(answer):
    return answer
