"""Exercises of the chapter on attention at length."""

import math

import torch

from tutorlib.exercises.sheet import ExerciseSheet, Wrong
from tutorlib.models import Transformer, TransformerConfig

check = ExerciseSheet()

# Exercise 1: 28 layers, 24 query heads of width 128, 8 key-value heads, 2000 tokens, 2 bytes a number

CACHE_BYTES = 2 * 28 * 2000 * 8 * 128 * 2  # 2 N n H_kv K, two bytes each: 229 MB


@check.exercise(1, "Bytes of a cache", reference=CACHE_BYTES, mistakes=[
    (28 * 2000 * 8 * 128 * 2, "Half of it: a position leaves a key and a value, and each of their numbers has two bytes."),
    (2 * 28 * 2000 * 24 * 128 * 2, "The cache holds the heads of keys and values, of which there are 8."),
    (2 * 28 * 2000 * 8 * 128 * 4, "Four bytes a number is float32; this cache is bfloat16."),
    (2 * 2000 * 8 * 128 * 2, "That is the cache of one layer."),
    (2 * 28 * 8 * 128 * 2, "That is what one token adds."),
])
def check_bytes(answer):
    return answer


# Exercise 2: one block of scores enters the running state


def absorb_block(state, scores, values):
    largest, total, output = state
    new_largest = torch.maximum(largest, scores.amax(-1, keepdim=True))  # (T, 1)
    rescale = (largest - new_largest).exp()  # (T, 1)
    weights = (scores - new_largest).exp()  # (T, S)
    total = rescale * total + weights.sum(-1, keepdim=True)  # (T, 1)
    return new_largest, total, rescale * output + weights @ values  # ..., (T, K)


def never_rescaled(state, scores, values):
    largest, total, output = state
    new_largest = torch.maximum(largest, scores.amax(-1, keepdim=True))
    weights = (scores - new_largest).exp()
    return new_largest, total + weights.sum(-1, keepdim=True), output + weights @ values


def only_the_sum_rescaled(state, scores, values):
    largest, total, output = state
    new_largest = torch.maximum(largest, scores.amax(-1, keepdim=True))
    rescale, weights = (largest - new_largest).exp(), (scores - new_largest).exp()
    return new_largest, rescale * total + weights.sum(-1, keepdim=True), output + weights @ values


def rescaled_upside_down(state, scores, values):
    largest, total, output = state
    new_largest = torch.maximum(largest, scores.amax(-1, keepdim=True))
    rescale, weights = (new_largest - largest).exp(), (scores - new_largest).exp()
    return new_largest, rescale * total + weights.sum(-1, keepdim=True), rescale * output + weights @ values


def largest_of_the_block_alone(state, scores, values):
    largest, total, output = state
    new_largest = scores.amax(-1, keepdim=True)
    rescale, weights = (largest - new_largest).exp(), (scores - new_largest).exp()
    return new_largest, rescale * total + weights.sum(-1, keepdim=True), rescale * output + weights @ values


def without_a_maximum(state, scores, values):
    largest, total, output = state
    weights = scores.exp()
    return largest, total + weights.sum(-1, keepdim=True), output + weights @ values


@check.exercise(2, "A step of the online softmax", reference=absorb_block, mistakes=[
    (never_rescaled, "When the maximum rises, the sum and the output are still relative to the old one. Bring both along."),
    (only_the_sum_rescaled, "The sum is right and the output is not: it, too, is relative to the old maximum."),
    (rescaled_upside_down, "A sum relative to a small maximum is too large for a larger one: which way does the factor point?"),
    (largest_of_the_block_alone, "The new maximum is over all keys seen, not over the last block."),
    (without_a_maximum, "Without a maximum to subtract, scores of a few hundred overflow."),
])
def check_step(answer):
    def after_three_blocks(scores, values):
        state = torch.full((2, 1), -1e30), torch.zeros(2, 1), torch.zeros(2, 3)  # no key has been seen
        for block in (slice(0, 2), slice(2, 4), slice(4, 6)):
            state = answer(state, scores[:, block], values[block])
        return state

    scores = torch.tensor([[1.0, 2.0, 4.0, 3.0, 3.0, 3.5], [5.0, 1.0, 2.0, 4.9, 4.0, 0.0]])  # (T, S)
    values = torch.randn(6, 3)  # (S, K)
    _, total, output = after_three_blocks(100 * scores, values)
    return [*after_three_blocks(scores, values), output / total]


# Exercise 3: merge the attention over two sets of keys


def merge(first, first_log, second, second_log):
    log = torch.logaddexp(first_log, second_log)  # (T, 1)
    return (first_log - log).exp() * first + (second_log - log).exp() * second, log


def plain_average(first, first_log, second, second_log):
    return (first + second) / 2, torch.logaddexp(first_log, second_log)


def plain_sum(first, first_log, second, second_log):
    return first + second, torch.logaddexp(first_log, second_log)


def everything_added(first, first_log, second, second_log):
    return first + second, first_log + second_log


def weighted_by_logarithms(first, first_log, second, second_log):
    log = torch.logaddexp(first_log, second_log)
    return (first_log * first + second_log * second) / (first_log + second_log), log


def logarithms_added(first, first_log, second, second_log):
    log = first_log + second_log
    return (first_log - log).exp() * first + (second_log - log).exp() * second, log


def without_care(first, first_log, second, second_log):
    a, b = first_log.exp(), second_log.exp()
    return (a * first + b * second) / (a + b), (a + b).log()


@check.exercise(3, "Merge two partial attentions", reference=merge, mistakes=[
    (plain_average, "An average gives both sets of keys the same weight."),
    (plain_sum, "Each part is normalized already; their sum is not."),
    (everything_added, "Each part is normalized already; their sum is not. Nor do logarithms of sums add up."),
    (weighted_by_logarithms, "The parts' shares are in proportion to their sums of exponentials, not to the logarithms."),
    (logarithms_added, "Adding logarithms multiplies the sums."),
    (without_care, "overflow"),
])
def check_merge(answer):
    def part(query, key, value):
        scores = query @ key.mT  # (T, S)
        return scores.softmax(-1) @ value, scores.logsumexp(-1, keepdim=True)

    def merged(size):
        query, key, value = size * torch.randn(3, 4), torch.randn(7, 4), torch.randn(7, 2)
        pair = answer(*part(query, key[:3], value[:3]), *part(query, key[3:], value[3:]))
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise Wrong("Return a pair: the attention (T, K) and its log-sum-exp (T, 1).")
        return pair

    small, large = merged(1.0), merged(300.0)
    if not all(x.isfinite().all() for x in large) and all(x.isfinite().all() for x in small):
        raise Wrong("Scores of a few hundred make the exponentials overflow. Subtract before you exponentiate.")
    return [*small, *large]


# Exercise 4: greedy decoding with a cache


def decode(model, prompt, count):
    cache, tokens, unseen = model.new_cache(prompt.size(1) + count), prompt, prompt
    for _ in range(count):
        unseen = model(unseen, cache=cache)[:, -1:].argmax(-1)  # (B, 1)
        tokens = torch.cat([tokens, unseen], dim=1)  # (B, T + 1)
    return tokens


def everything_every_time(model, prompt, count):
    cache, tokens = model.new_cache(1000), prompt
    for _ in range(count):
        tokens = torch.cat([tokens, model(tokens, cache=cache)[:, -1:].argmax(-1)], dim=1)
    return tokens


def forgotten_prompt(model, prompt, count):
    cache, tokens = model.new_cache(prompt.size(1) + count), prompt
    for _ in range(count):
        tokens = torch.cat([tokens, model(tokens[:, -1:], cache=cache)[:, -1:].argmax(-1)], dim=1)
    return tokens


def new_cache_every_time(model, prompt, count):
    tokens, unseen = prompt, prompt
    for _ in range(count):
        unseen = model(unseen, cache=model.new_cache(1000))[:, -1:].argmax(-1)
        tokens = torch.cat([tokens, unseen], dim=1)
    return tokens


def no_cache(model, prompt, count):
    tokens = prompt
    for _ in range(count):
        tokens = torch.cat([tokens, model(tokens)[:, -1:].argmax(-1)], dim=1)
    return tokens


def only_the_new(model, prompt, count):
    return decode(model, prompt, count)[:, prompt.size(1):]


class _CountingModel:
    """A small model for the check: counts the positions that it is given."""

    def __init__(self):
        config = TransformerConfig(11, 11, width=16, num_heads=2, num_encoder_layers=1, num_decoder_layers=2, hidden=32,
                                   dropout=0.0, norm_first=True, max_length=2000, tie_output=False)
        model = Transformer(config).double().eval()
        self.conditioned, self.positions = model.condition(torch.randint(11, (2, 4))), 0
        self.new_cache, self.max_length = self.conditioned.new_cache, 2000

    @torch.no_grad()
    def __call__(self, tokens, cache=None):
        self.positions += tokens.size(1)
        return self.conditioned(tokens, cache=cache)


@check.exercise(4, "Decode with a cache", reference=decode, mistakes=[
    (everything_every_time, "Tokens that the cache has seen must not enter it again: give the model the new ones only."),
    (forgotten_prompt, "The cache starts empty: the whole prompt has to pass through the model once."),
    (new_cache_every_time, "A new cache at every step forgets all steps before."),
    (no_cache, "The tokens are right, but positions were computed again. Give the model its cache."),
    (only_the_new, "Return the prompt, too"),
])
def check_decode(answer):
    model, prompt = _CountingModel(), torch.randint(11, (2, 5))
    tokens = answer(model, prompt, 12)
    expected = no_cache(_same_weights(model), prompt, 12)
    if tokens.shape == (2, 12):
        raise Wrong("Return the prompt, too: (B, T + count) tokens.")
    if tokens.shape == expected.shape and torch.equal(tokens, expected) and model.positions > 16:
        raise Wrong("The tokens are right, but positions were computed again. Give the model its cache.")
    return tokens


def _same_weights(model):
    return lambda tokens: model.conditioned(tokens)


# Exercise 5: layers that a window needs to connect the ends


def layers_needed(n, window):
    # Each layer sees window - 1 positions farther back; -(-a // b) is a / b rounded up.
    return -(-(n - 1) // (window - 1))


def whole_windows(n, window):
    return math.ceil(n / window)


def rounded_down(n, window):
    return (n - 1) // (window - 1)


def not_rounded(n, window):
    return (n - 1) / (window - 1)


def doubling(n, window):
    return math.ceil(math.log(n, window))


def window_without_itself(n, window):
    return math.ceil((n - 1) / window)


@check.exercise(5, "Layers for a window", reference=layers_needed, mistakes=[
    (whole_windows, "A window of w positions holds the query itself: it looks w - 1 back."),
    (window_without_itself, "A window of w positions holds the query itself: it looks w - 1 back."),
    (rounded_down, "A layer too few: the last stretch needs one as well."),
    (not_rounded, "Layers come whole: round up."),
    (doubling, "The reach grows by the same number of positions with every layer; it does not multiply."),
])
def check_layers(answer):
    return [answer(*sizes) for sizes in ((16, 4), (17, 4), (32768, 4096), (10, 10), (100, 2), (1000, 10))]
