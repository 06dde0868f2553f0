"""Exercises of the chapter on learning while a model is used."""
import torch

from tutorlib.exercises.sheet import ExerciseSheet

check = ExerciseSheet()


# 1: how old the labels are

def mean_lag(degrees, delay, window, batch):
    # the labels of a window are delay + 1, delay + 2, ... batches old
    batches = window // batch
    return degrees * (delay + (batches + 1) / 2)


def no_label_is_of_today(degrees, delay, window, batch):
    return degrees * (delay + (window // batch - 1) / 2)


def newest_only(degrees, delay, window, batch):
    return degrees * (delay + 1)


def in_digits(degrees, delay, window, batch):
    return degrees * (delay + (window + 1) / 2)


@check.exercise(1, "How old the labels are", reference=mean_lag, mistakes=[
    (no_label_is_of_today, "A batch is answered before its own labels come: with no delay the newest label is one batch old."),
    (newest_only, "That is the newest label; the mean over the window is asked."),
    (in_digits, "The window is counted in digits, the age in batches."),
])
def check_lag(answer):
    return [float(answer(1.8, 0, 500, 50)), float(answer(1.8, 5, 500, 50)), float(answer(0.5, 3, 200, 100))]


# 2: a memory of a stream

def reservoir(items, size, draws):
    memory = list(items[:size])
    for i in range(size, len(items)):
        place = int(draws[i] * (i + 1))  # one of the i + 1 items seen so far
        if place < size:
            memory[place] = items[i]
    return memory


def always_in(items, size, draws):
    memory = list(items[:size])
    for i in range(size, len(items)):
        memory[int(draws[i] * size)] = items[i]
    return memory


def first_ones(items, size, draws):
    return list(items[:size])


def last_ones(items, size, draws):
    return list(items[-size:])


def one_too_few(items, size, draws):
    memory = list(items[:size])
    for i in range(size, len(items)):
        place = int(draws[i] * i)
        if place < size:
            memory[place] = items[i]
    return memory


@check.exercise(2, "A memory of a stream", reference=reservoir, mistakes=[
    (always_in, "If every new item gets in, the old ones die out: item i must get in with the probability size / (i + 1)."),
    (first_ones, "These are the first items only; the last item must be as likely as the first."),
    (last_ones, "This is a window: it forgets all that is older."),
    (one_too_few, "When item i comes, i + 1 have been seen, itself among them."),
])
def check_reservoir(answer):
    found = []
    for size in (3, 60):
        draws = torch.rand(200).tolist()
        found.append([int(item) for item in answer(list(range(200)), size, draws)])
    return found


# 3: what an exit saves

def mean_cost(probabilities, cost, threshold):
    # probabilities (E, N, 10) of E exits, cost (E,)
    sure = probabilities.amax(-1) >= threshold  # (E, N)
    sure[-1] = True  # whoever comes to the last exit leaves there
    return cost[sure.int().argmax(0)].mean()


def last_exit_waits(probabilities, cost, threshold):
    sure = probabilities.amax(-1) >= threshold
    return cost[sure.int().argmax(0)].mean()


def pays_for_the_best(probabilities, cost, threshold):
    return cost[probabilities.amax(-1).argmax(0)].mean()


def every_exit_again(probabilities, cost, threshold):
    sure = probabilities.amax(-1) >= threshold
    sure[-1] = True
    return cost.cumsum(0)[sure.int().argmax(0)].mean()


@check.exercise(3, "What an exit saves", reference=mean_cost, mistakes=[
    (last_exit_waits, "A digit of which no exit is sure must leave at the last one, and pay for it."),
    (pays_for_the_best, "It leaves at the first exit that is sure enough; it cannot know how sure a later one would be."),
    (every_exit_again, "The costs are already counted from the image on; do not add them up again."),
])
def check_cost(answer):
    probabilities = (3 * torch.randn(3, 40, 10)).softmax(-1)
    return answer(probabilities, torch.tensor([57.0, 284.0, 513.0]), 0.9)
