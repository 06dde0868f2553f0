"""Exercises of the chapter on translation and summarization."""
from tutorlib.exercises.sheet import ExerciseSheet

check = ExerciseSheet()


# 1: precision and recall in one number

def f_score(shared, ours, theirs, beta):
    precision, recall = shared / ours, shared / theirs
    return (1 + beta**2) * precision * recall / (beta**2 * precision + recall)


def plain_mean(shared, ours, theirs, beta):
    return (shared / ours + beta * shared / theirs) / (1 + beta)


def turned_round(shared, ours, theirs, beta):
    recall, precision = shared / ours, shared / theirs
    return (1 + beta**2) * precision * recall / (beta**2 * precision + recall)


def without_square(shared, ours, theirs, beta):
    precision, recall = shared / ours, shared / theirs
    return (1 + beta) * precision * recall / (beta * precision + recall)


@check.exercise(1, "Precision and recall in one number", reference=f_score, mistakes=[
    (plain_mean, "A mean forgives an empty precision: the harmonic form does not. One over the other, as in the equation."),
    (turned_round, "Precision is the share of what was written, recall that of the reference."),
    (without_square, "Beta counts squared: recall is beta times as important where both change alike."),
])
def check_f_score(answer):
    return [float(answer(*case)) for case in ((3, 4, 6, 2.0), (3, 6, 4, 2.0), (1, 10, 2, 3.0), (5, 7, 5, 1.0))]


# 2: who said this word

def shares(table, source, word):
    # table[s][t] = P(t | s) so far
    total = sum(table[s][word] for s in source)
    return [table[s][word] / total for s in source]


def not_shared(table, source, word):
    return [table[s][word] for s in source]


def evenly(table, source, word):
    return [1 / len(source) for _ in source]


def the_best_takes_all(table, source, word):
    found = [table[s][word] for s in source]
    return [float(p == max(found)) for p in found]


@check.exercise(2, "Who said this word", reference=shares, mistakes=[
    (not_shared, "A word is counted once, however many words it may come from: the shares sum to one."),
    (evenly, "That is the first round. Later rounds share by what the table says so far."),
    (the_best_takes_all, "Expectation keeps all possibilities, each with its probability: nobody takes all."),
])
def check_shares(answer):
    table = {"the": {"A": 0.2, "B": 0.1}, "dog": {"A": 0.6, "B": 0.1}, "": {"A": 0.2, "B": 0.05}}
    return [list(map(float, answer(table, source, word)))
            for source in (["", "the", "dog"], ["the", "dog"]) for word in ("A", "B")]


# 3: a penalty on length

def ranked(log_probabilities, power):
    # ln p of each token, the end included
    return sum(log_probabilities) / len(log_probabilities) ** power


def always_the_mean(log_probabilities, power):
    return sum(log_probabilities) / len(log_probabilities)


def times_length(log_probabilities, power):
    return sum(log_probabilities) * len(log_probabilities) ** power


def without_the_end(log_probabilities, power):
    return sum(log_probabilities) / (len(log_probabilities) - 1) ** power


@check.exercise(3, "A penalty on length", reference=ranked, mistakes=[
    (always_the_mean, "The power decides: 0 is the sum, 1 the mean."),
    (times_length, "ln p is negative: multiplied by the length, a long text would lose twice."),
    (without_the_end, "The end mark is a token that was paid for: count it."),
])
def check_ranked(answer):
    cases = ([-0.5, -0.25, -1.0], 1.0), ([-0.5, -0.25, -1.0], 0.0), ([-0.1] * 8, 0.6)
    return [float(answer(*case)) for case in cases]


# 4: what both keep in one order

def kept(first, second):
    row = [0] * (len(second) + 1)
    for a in first:
        diagonal = 0
        for j, b in enumerate(second, start=1):
            best = diagonal + 1 if a == b else max(row[j], row[j - 1])
            diagonal, row[j] = row[j], best
    return row[-1]


def without_order(first, second):
    return sum(min(first.count(word), second.count(word)) for word in set(first))


def without_gaps(first, second):
    best = 0
    for i in range(len(first)):
        for j in range(len(second)):
            n = 0
            while i + n < len(first) and j + n < len(second) and first[i + n] == second[j + n]:
                n += 1
            best = max(best, n)
    return best


def one_by_one(first, second):
    place = found = 0
    for word in first:
        if word in second[place:]:
            place = second.index(word, place) + 1
            found += 1
    return found


@check.exercise(4, "What both keep in one order", reference=kept, mistakes=[
    (without_order, "That is ROUGE-1: the words must stand in the same order in both."),
    (without_gaps, "Gaps are allowed: words may stand between."),
    (one_by_one, "Taking the first match at once can jump too far: compare with leaving the word out."),
])
def check_kept(answer):
    pairs = ("the cat sat here", "here the cat sat"), ("a b c d", "a x b y d"), ("d a b c", "a b c d"), ("a a", "b")
    return [int(answer(one.split(), other.split())) for one, other in pairs]
