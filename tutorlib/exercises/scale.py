"""Exercises of the chapter on scale: scaling laws, budgets, and learning in context."""
from tutorlib.exercises.sheet import ExerciseSheet, Wrong

check = ExerciseSheet()


# 1: the next loss

STEPS_DOWN = [4.5 - 3, 3 - 2.5]  # each a third of the one before
NEXT_LOSS = 2.5 - STEPS_DOWN[1] / 3


@check.exercise(1, "The next loss", reference=NEXT_LOSS, tolerance=0.005, mistakes=[
    (2.0, "The steps are not equal: 1.5, then 0.5. What does each multiply the one before by?"),
    (2.25, "The second step is a third of the first, not half of the one before it."),
    (2.5 * 2.5 / 3, "That is a power without a floor. Look at the steps, not at the losses themselves."),
    (0.5 / 3, "That is the next step; take it off the last loss."),
])
def check_next_loss(answer):
    return float(answer)


# 2: what 6 N D misses

V, T, W, LAYERS = 50257, 1024, 1600, 48
SCORES, ATTENTION = V / (12 * LAYERS * W), T / (6 * W)  # what comes on top, over 6 N
MISSED_SHARE = 1 - 1 / (1 + SCORES + ATTENTION)


@check.exercise(2, "What the rule misses", reference=MISSED_SHARE, tolerance=0.005, mistakes=[
    (SCORES + ATTENTION, "That is the excess over 6 N D. Divide it by the whole."),
    (1 + SCORES + ATTENTION, "That is the true cost over 6 N D. Which share of the true cost lies beyond the rule?"),
    (1 / (1 + SCORES + ATTENTION), "That is the share that the rule catches."),
    (1 - 1 / (1 + SCORES), "Attention multiplies states with states: the rule leaves that out too."),
    (1 - 1 / (1 + ATTENTION), "The scores of the vocabulary are a product too, and N counts the blocks alone."),
    (1 - 1 / (1 + LAYERS * SCORES + ATTENTION), "The scores are computed once, the blocks 48 times."),
    (100 * (1 - 1 / (1 + SCORES + ATTENTION)), "Give a share between 0 and 1, not a percentage."),
])
def check_missed(answer):
    return float(answer)


# 3: twenty tokens a parameter

def spend(flops):
    size = (flops / (6 * 20)) ** 0.5  # C = 6 N D = 6 N 20 N
    return size, 20 * size


def spend_without_six(flops):
    size = (flops / 20) ** 0.5
    return size, 20 * size


def spend_forward(flops):
    size = (flops / 40) ** 0.5
    return size, 20 * size


def spend_turned(flops):
    size, tokens = spend(flops)
    return tokens, size


def spend_without_root(flops):
    return flops / 120, flops / 6


def spend_equal(flops):
    return ((flops / 6) ** 0.5,) * 2


@check.exercise(3, "Twenty tokens a parameter", reference=spend, mistakes=[
    (spend_without_six, "Each token takes six FLOPs for each parameter."),
    (spend_forward, "Two FLOPs a parameter and token is the forward pass alone."),
    (spend_turned, "Return N first, then D: the tokens are the larger number."),
    (spend_without_root, "With D = 20 N the cost is 6 N times 20 N: N comes in squared."),
    (spend_equal, "There are 20 tokens for each parameter, not one."),
])
def check_spend(answer):
    pairs = [answer(flops) for flops in (1.2e11, 6e23)]
    if not all(isinstance(pair, (tuple, list)) and len(pair) == 2 for pair in pairs):
        raise Wrong("Return two numbers: N, D.")
    return {f"{name} for {flops} FLOPs": float(pair[k]) for flops, pair in zip(("1.2e11", "6e23"), pairs, strict=True)
            for k, name in enumerate("ND")}


# 4: the best size

def best_size(A, alpha, B, beta, flops):
    # alpha A N^-alpha = beta B D^-beta, with D = flops / (6 N)
    return (alpha * A / (beta * B) * (flops / 6) ** beta) ** (1 / (alpha + beta))


def best_size_without_exponents(A, alpha, B, beta, flops):
    return (A / B * (flops / 6) ** beta) ** (1 / (alpha + beta))


def best_size_turned(A, alpha, B, beta, flops):
    return (beta * B / (alpha * A) * (flops / 6) ** beta) ** (1 / (alpha + beta))


def best_size_without_six(A, alpha, B, beta, flops):
    return (alpha * A / (beta * B) * flops**beta) ** (1 / (alpha + beta))


def best_tokens(A, alpha, B, beta, flops):
    return flops / 6 / best_size(A, alpha, B, beta, flops)


def best_size_alpha(A, alpha, B, beta, flops):
    return (alpha * A / (beta * B) * (flops / 6) ** alpha) ** (1 / (alpha + beta))


def best_size_without_root(A, alpha, B, beta, flops):
    return alpha * A / (beta * B) * (flops / 6) ** beta


@check.exercise(4, "The best size for a budget", reference=best_size, mistakes=[
    (best_size_without_exponents, "The derivative of A / N^alpha brings down alpha; the other term brings down beta."),
    (best_size_turned, "Turned over: the more A matters, the larger the model should be."),
    (best_size_without_six, "D is the FLOPs over 6 N."),
    (best_tokens, "That is the best D."),
    (best_size_alpha, "D = C / (6 N) stands in the term with beta, so the budget gets the exponent beta."),
    (best_size_without_root, "Collect the powers of N: they sum to alpha + beta. The root is missing."),
])
def check_best_size(answer):
    return {"equal exponents": float(answer(400.0, 0.5, 100.0, 0.5, 6e10)),
            "a law as large models have": float(answer(400.0, 0.34, 410.0, 0.28, 6e12)),
            "beta larger": float(answer(50.0, 0.3, 700.0, 0.6, 6e9))}


# 5: the best possible accuracy

def best_accuracy(symbols, labels, shots):
    not_seen = (1 - 1 / symbols) ** shots
    return 1 - (1 - 1 / labels) * not_seen


def accuracy_without_guessing(symbols, labels, shots):
    return 1 - (1 - 1 / symbols) ** shots


def accuracy_turned(symbols, labels, shots):
    return 1 - (1 - 1 / symbols) * (1 - 1 / labels) ** shots


def accuracy_in_order(symbols, labels, shots):
    shown = min(1, shots / symbols)
    return shown + (1 - shown) / labels


def accuracy_one_more(symbols, labels, shots):
    return best_accuracy(symbols, labels, shots + 1)


def accuracy_of_unseen(symbols, labels, shots):
    return (1 - 1 / labels) * (1 - 1 / symbols) ** shots


@check.exercise(5, "The best possible accuracy", reference=best_accuracy, mistakes=[
    (accuracy_without_guessing, "A symbol that was not shown can still be guessed right, once in `labels`."),
    (accuracy_turned, "The shots show symbols; the guess is among labels. You have them the other way round."),
    (accuracy_in_order, "The symbols are drawn at random, so a shot may repeat one that was shown before."),
    (accuracy_one_more, "The question is no shot: its label is what is asked."),
    (accuracy_of_unseen, "That is the probability of being wrong."),
])
def check_best_accuracy(answer):
    return [float(answer(4, 8, shots)) for shots in (0, 1, 7)] + [float(answer(10, 2, 5))]


# 6: an induction head

def induce(tokens):
    behind = [None, *tokens[:-1]]  # first look: what stood before
    for place in reversed(range(1, len(tokens))):
        if behind[place] == tokens[-1]:  # second look
            return tokens[place]
    return None


def induce_first(tokens):
    return tokens[tokens.index(tokens[-1]) + 1] if tokens[-1] in tokens[:-1] else None


def induce_itself(tokens):
    return tokens[-1] if tokens[-1] in tokens[:-1] else None


def induce_before(tokens):
    for place in reversed(range(1, len(tokens) - 1)):
        if tokens[place] == tokens[-1]:
            return tokens[place - 1]
    return None


def induce_place(tokens):
    for place in reversed(range(len(tokens) - 1)):
        if tokens[place] == tokens[-1]:
            return place + 1
    return None


def induce_self(tokens):
    place = max(k for k, token in enumerate(tokens) if token == tokens[-1])
    return tokens[place + 1] if place + 1 < len(tokens) else None


@check.exercise(6, "An induction head without weights", reference=induce, mistakes=[
    (induce_first, "You found the first earlier place. Where the token stood several times, take the last."),
    (induce_itself, "Return what followed the token, not the token itself."),
    (induce_before, "Return what followed the token, not what stood before it."),
    (induce_place, "Return the token, not its place."),
    (induce_self, "The final token itself is no earlier place: leave it out of the search."),
])
def check_induce(answer):
    texts = ["c5a2c", "a1b2a3a4a", "aab", "aa", "xyzxyzx"]
    return {text: str(answer(list(text))) for text in texts}
