"""Exercises of the chapter on the Keras program. They ask for torch, so that the check needs no second framework."""
import math

import torch

from tutorlib.exercises.sheet import ExerciseSheet, Wrong

check = ExerciseSheet()


# 1: what can be known

def limit(vocabulary, motif, length):
    unknown = (motif - 1) / (length - 1)  # share of the targets
    return unknown * math.log(vocabulary), 1 - unknown + unknown / vocabulary


def counting_the_first(vocabulary, motif, length):
    unknown = motif / length
    return unknown * math.log(vocabulary), 1 - unknown + unknown / vocabulary


def motif_of_targets(vocabulary, motif, length):
    unknown = motif / (length - 1)
    return unknown * math.log(vocabulary), 1 - unknown + unknown / vocabulary


def over_all_tokens(vocabulary, motif, length):
    unknown = (motif - 1) / length
    return unknown * math.log(vocabulary), 1 - unknown + unknown / vocabulary


def without_luck(vocabulary, motif, length):
    unknown = (motif - 1) / (length - 1)
    return unknown * math.log(vocabulary), 1 - unknown


def in_bits(vocabulary, motif, length):
    loss, accuracy = limit(vocabulary, motif, length)
    return loss / math.log(2), accuracy


def swapped(vocabulary, motif, length):
    return limit(vocabulary, motif, length)[::-1]


def as_if_noise(vocabulary, motif, length):
    return math.log(vocabulary), 1 / vocabulary


def knowing_all(vocabulary, motif, length):
    return 0.0, 1.0


@check.exercise(1, "The limit of a task", reference=limit, mistakes=[
    (counting_the_first, "The first token is no target: length - 1 are predicted, and motif - 1 of them are new."),
    (motif_of_targets, "The first token of the motif is given, not predicted: motif - 1 targets are new."),
    (over_all_tokens, "The first token is no target: divide by length - 1."),
    (without_luck, "A guess is right once in `vocabulary` times, for the new tokens too."),
    (in_bits, "Nats: use the natural logarithm."),
    (swapped, "First the loss, then the accuracy."),
    (as_if_noise, "After one motif all is known: those targets cost nothing."),
    (knowing_all, "The first motif is random: nobody knows its tokens in advance."),
])
def check_limit(answer):
    found = [answer(*sizes) for sizes in ((100, 10, 50), (41, 3, 13), (5, 4, 8))]
    if not all(isinstance(pair, (tuple, list)) and len(pair) == 2 for pair in found):
        raise Wrong("Return two numbers, the loss and the accuracy.")
    return found


# 2: layouts

def to_linear_weight(kernel):
    return kernel.flatten(1).T  # (D, H, K) -> (D, H*K) -> (H*K, D)


def flattened_only(kernel):
    return kernel.flatten(1)


def heads_interleaved(kernel):
    return kernel.transpose(1, 2).flatten(1).T


def heads_first(kernel):
    return kernel.permute(1, 0, 2).reshape(kernel.size(0), -1)


def heads_first_transposed(kernel):
    return kernel.permute(1, 0, 2).reshape(kernel.size(0), -1).T


@check.exercise(2, "Carry an attention kernel over", reference=to_linear_weight, mistakes=[
    (flattened_only, "nn.Linear stores (out, in): transpose. The matrix is square, so the shape did not tell."),
    (heads_interleaved, "Head 0 owns the first K outputs, side by side: flatten H before K."),
    (heads_first, "Each row must hold one output for all D inputs: flatten (H, K), then transpose."),
    (heads_first_transposed, "Each row must hold one output for all D inputs: flatten (H, K), then transpose."),
])
def check_layout(answer):
    return answer(torch.randn(6, 2, 3))  # (D, H, K)


# 3: tracing

def traceable(x):
    return torch.where(x.sum() > 0, x, -x)


def branching(x):
    return x if x.sum() > 0 else -x


def always_positive(x):
    return x


def always_negated(x):
    return -x


def elementwise(x):
    return torch.where(x > 0, x, -x)


def by_sign_function(x):
    return x * torch.sign(x.sum())


def inverted(x):
    return torch.where(x.sum() > 0, -x, x)


@check.exercise(3, "A branch that can be traced", reference=traceable, mistakes=[
    (branching, "a Python branch on a tensor's value cannot be traced"),
    (always_positive, "x comes out for either sign of the sum."),
    (always_negated, "-x comes out for either sign of the sum."),
    (elementwise, "The sign of the sum decides, for all entries together; yours decides for each entry."),
    (by_sign_function, "Where the sum is 0 the result is -x; the sign of 0 is 0."),
    (inverted, "A positive sum returns x."),
])
def check_tracing(answer):
    try:
        traced = torch.fx.symbolic_trace(answer)
    except torch.fx.proxy.TraceError:
        raise Wrong("symbolic_trace refuses: a Python branch on a tensor's value cannot be traced.") from None
    return [traced(torch.tensor(x)) for x in ([3.0, -1.0, 2.0], [1.0, -4.0], [2.0, -2.0])]


# 4: looking ahead

def looks_ahead(model, tokens):
    before = model(tokens)  # (B, T, V)
    for place in range(1, tokens.size(1)):
        changed = tokens.clone()
        changed[:, place] = (changed[:, place] + 1) % 100
        if not torch.allclose(model(changed)[:, :place], before[:, :place], atol=1e-6):
            return True
    return False


def last_token_only(model, tokens):
    changed = tokens.clone()
    changed[:, -1] = (changed[:, -1] + 1) % 100
    return not torch.allclose(model(changed)[:, :-1], model(tokens)[:, :-1], atol=1e-6)


def first_output_only(model, tokens):
    changed = tokens.clone()
    changed[:, 1:] = (changed[:, 1:] + 1) % 100
    return not torch.allclose(model(changed)[:, 0], model(tokens)[:, 0], atol=1e-6)


def own_output_too(model, tokens):
    changed = tokens.clone()
    changed[:, -1] = (changed[:, -1] + 1) % 100
    return not torch.allclose(model(changed), model(tokens), atol=1e-6)


def any_change(model, tokens):
    return not torch.allclose(model((tokens + 1) % 100), model(tokens), atol=1e-6)


def past_instead(model, tokens):
    changed = tokens.clone()
    changed[:, 0] = (changed[:, 0] + 1) % 100
    return not torch.allclose(model(changed)[:, 1:], model(tokens)[:, 1:], atol=1e-6)


def never(model, tokens):
    return False


def always(model, tokens):
    return True


def _averaging(reach):
    """A model whose output t is the mean of what it may reach; the allowed pairs are a (T, T) boolean matrix."""
    table = torch.randn(100, 5, generator=torch.Generator().manual_seed(1))  # (V, D)

    def model(tokens):
        allowed = reach(tokens.size(1)).float()  # (T, T)
        return (allowed / allowed.sum(dim=-1, keepdim=True)) @ table[tokens]  # (B, T, D)

    return model


def _with_leak(place, source):
    def reach(length):
        allowed = torch.ones(length, length).tril().bool()
        allowed[place, source] = True
        return allowed

    return reach


NOT_BEFORE = "A causal model is called leaky: at the changed place and after it outputs may move. Look before it."


@check.exercise(4, "Find the leak", reference=looks_ahead, mistakes=[
    (last_token_only, "A leak of a token in the middle is missed: change every place in turn, not the last alone."),
    (first_output_only, "A leak into a later output is missed: look at every output before the change."),
    (own_output_too, NOT_BEFORE),
    (any_change, NOT_BEFORE),
    (past_instead, NOT_BEFORE),
    (never, "No leak is found."),
    (always, NOT_BEFORE),
])
def check_leak(answer):
    tokens = torch.randint(100, (2, 8))  # (B, T)
    causal = _averaging(lambda length: torch.ones(length, length).tril().bool())
    everywhere = _averaging(lambda length: torch.ones(length, length).bool())
    models = (causal, everywhere, _averaging(_with_leak(3, 5)), _averaging(_with_leak(6, 7)), _averaging(_with_leak(0, 1)))
    return [bool(answer(model, tokens.clone())) for model in models]


# 5: two Adams

def epsilon_for_torch(epsilon, beta, step):
    return epsilon / math.sqrt(1 - beta ** step)


def unchanged(epsilon, beta, step):
    return epsilon


def multiplied(epsilon, beta, step):
    return epsilon * math.sqrt(1 - beta ** step)


def without_root(epsilon, beta, step):
    return epsilon / (1 - beta ** step)


def first_step_only(epsilon, beta, step):
    return epsilon / math.sqrt(1 - beta)


def step_from_zero(epsilon, beta, step):
    return epsilon / math.sqrt(1 - beta ** (step + 1))


@check.exercise(5, "One Adam in the other's words", reference=epsilon_for_torch, mistakes=[
    (unchanged, "Multiply numerator and denominator of Keras's step by the same factor, until the numerators agree."),
    (multiplied, "Keras's epsilon stands before the correction, so the one behind it must be larger, not smaller."),
    (without_root, "The correction stands under the root together with v."),
    (first_step_only, "The correction fades: it depends on the step."),
    (step_from_zero, "Steps count from 1: the first has beta to the power 1."),
])
def check_epsilon(answer):
    return [1e7 * answer(1e-7, 0.999, 1), 1e7 * answer(1e-7, 0.999, 100), 1e8 * answer(1e-8, 0.9, 3)]
