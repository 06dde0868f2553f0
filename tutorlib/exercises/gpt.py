"""Exercises of the chapter on GPT."""
import math

import torch
import torch.nn.functional as F

from tutorlib.exercises.sheet import ExerciseSheet, Wrong

check = ExerciseSheet()


# 1: the shift

def next_token_loss(logits, tokens):
    # position t predicts token t + 1; the last position has no target
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())


def unshifted(logits, tokens):
    return F.cross_entropy(logits.flatten(0, 1), tokens.flatten())


def shifted_the_wrong_way(logits, tokens):
    return F.cross_entropy(logits[:, 1:].flatten(0, 1), tokens[:, :-1].flatten())


def rolled(logits, tokens):
    return F.cross_entropy(logits.flatten(0, 1), tokens.roll(-1, dims=1).flatten())


def summed(logits, tokens):
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten(), reduction="sum")


def over_the_batch_in_one(logits, tokens):
    return F.cross_entropy(logits.flatten(0, 1)[:-1], tokens.flatten()[1:])


@check.exercise(1, "Repair the loss", reference=next_token_loss, mistakes=[
    (unshifted, "Position t is compared with token t, which the model has read. It predicts token t + 1."),
    (shifted_the_wrong_way, "Shifted the wrong way: the logits at t belong to the token at t + 1."),
    (rolled, "roll brings the first token to the end, where nothing is known. Drop the last position."),
    (summed, "Return the mean over the predictions, not their sum."),
    (over_the_batch_in_one, "You flattened before you shifted, so the end of one row predicts the start of the next."),
])
def check_loss(answer):
    logits, tokens = torch.randn(3, 5, 7), torch.randint(7, (3, 5))  # (B, T, V), (B, T)
    return answer(logits, tokens)


# 2: count the parameters

def gpt_parameters(vocabulary, length, width, layers):
    layer = 12 * width**2 + 13 * width  # weights; 9 D of biases, 4 D of two norms
    return (vocabulary + length) * width + layers * layer + 2 * width


def output_counted_twice(vocabulary, length, width, layers):
    return gpt_parameters(vocabulary, length, width, layers) + vocabulary * width


def without_positions(vocabulary, length, width, layers):
    return gpt_parameters(vocabulary, length, width, layers) - length * width


def without_the_last_norm(vocabulary, length, width, layers):
    return gpt_parameters(vocabulary, length, width, layers) - 2 * width


def without_biases(vocabulary, length, width, layers):
    return gpt_parameters(vocabulary, length, width, layers) - layers * 9 * width


def without_norms_in_layers(vocabulary, length, width, layers):
    return gpt_parameters(vocabulary, length, width, layers) - layers * 4 * width


def matrices_only(vocabulary, length, width, layers):
    return (vocabulary + length) * width + layers * 12 * width * width


@check.exercise(2, "Count the parameters", reference=gpt_parameters, mistakes=[
    (output_counted_twice, "The output matrix is the embedding: count it once."),
    (without_positions, "The positions are learned, a vector each: T D parameters."),
    (without_the_last_norm, "One norm stands behind the last layer."),
    (without_biases, "The linear maps have biases: 4 D in attention, 4 D + D in the feed-forward network."),
    (without_norms_in_layers, "Each layer has two norms, each with a weight and a bias."),
    (matrices_only, "The matrices are right. Biases and norms are missing."),
])
def check_parameters(answer):
    return [answer(72, 64, 32, 3), answer(50257, 1024, 768, 12)]


# 3: top-p by hand

def nucleus(probabilities, p):
    total = 0.0
    for kept, probability in enumerate(sorted(probabilities, reverse=True), start=1):
        total += probability
        if total >= p:  # this token takes the sum to p, and still belongs
            return kept
    return len(probabilities)  # rounding kept the sum below p


def stops_before(probabilities, p):
    kept, total = 0, 0.0
    for probability in sorted(probabilities, reverse=True):
        if total + probability > p:
            break
        kept, total = kept + 1, total + probability
    return kept


def unsorted(probabilities, p):
    kept, total = 0, 0.0
    for probability in probabilities:
        if total >= p:
            break
        kept, total = kept + 1, total + probability
    return kept


def a_threshold(probabilities, p):
    return sum(probability >= 1 - p for probability in probabilities)


def ascending(probabilities, p):
    return unsorted(sorted(probabilities), p)


@check.exercise(3, "The size of the nucleus", reference=nucleus, mistakes=[
    (stops_before, "The sum has to reach p: the token that takes it over p belongs to the nucleus, and the first always does."),
    (unsorted, "Begin with the most probable token: sort first."),
    (ascending, "Sort downward: the most probable token comes first."),
    (a_threshold, "p bounds the sum of the kept probabilities, not each of them."),
])
def check_nucleus(answer):
    peaked, flat = [0.0625, 0.75, 0.125, 0.0625], [0.125] * 8
    kept = [answer(list(peaked), 0.5), answer(list(peaked), 0.8), answer(list(flat), 0.5), answer(list(flat), 0.55)]
    if any(isinstance(each, (list, tuple)) for each in kept):
        raise Wrong("Return how many tokens are kept, a number.")
    return [*kept, answer([0.125, 0.5, 0.375], 0.9)]


# 4: bits a character of any tokens

def bits_a_character(nats, pieces):
    return sum(nats) / math.log(2) / sum(map(len, pieces))


def bits_a_token(nats, pieces):
    return sum(nats) / math.log(2) / len(pieces)


def nats_a_character(nats, pieces):
    return sum(nats) / sum(map(len, pieces))


def mean_of_ratios(nats, pieces):
    return sum(loss / len(piece) for loss, piece in zip(nats, pieces, strict=True)) / len(pieces) / math.log(2)


def per_byte(nats, pieces):
    return sum(nats) / math.log(2) / sum(len(piece.encode()) for piece in pieces)


def as_perplexity(nats, pieces):
    return 2 ** bits_a_character(nats, pieces)


@check.exercise(4, "Bits a character", reference=bits_a_character, mistakes=[
    (bits_a_token, "That is bits a token: another tokenizer would give another number for the same prediction."),
    (nats_a_character, "That is in nats. A bit is ln 2 nats."),
    (mean_of_ratios, "A mean of ratios counts a short token as much as a long one. Divide the sum by the sum."),
    (per_byte, "Those are bytes. A letter with an accent is one character and two bytes."),
    (as_perplexity, "That is a perplexity. The bits are its logarithm."),
])
def check_bits(answer):
    return [answer([2.0, 0.5, 3.5], ["The", " ", "king"]), answer([1.0, 4.0], ["é", "tude"])]
