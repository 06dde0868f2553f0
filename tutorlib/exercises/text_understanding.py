"""Exercises of the chapter on understanding text."""
import torch

from tutorlib.exercises.sheet import ExerciseSheet, Wrong

check = ExerciseSheet()


# 1: the probability of an answer

def answer_score(steps, length, answer):
    # steps (T, V): logits, at place t for token t + 1
    logs = steps.log_softmax(-1)[length - 1:]
    return sum(logs[k, token] for k, token in enumerate(answer))


def one_place_late(steps, length, answer):
    logs = torch.cat([steps, steps[:1]]).log_softmax(-1)[length:]
    return sum(logs[k, token] for k, token in enumerate(answer))


def logits_summed(steps, length, answer):
    return sum(steps[length - 1 + k, token] for k, token in enumerate(answer))


def mean_a_token(steps, length, answer):
    return answer_score(steps, length, answer) / len(answer)


def first_place_only(steps, length, answer):
    return steps.log_softmax(-1)[length - 1, answer].sum()


@check.exercise(1, "The probability of an answer", reference=answer_score, mistakes=[
    (one_place_late, "The answer's first token is predicted at the question's last place, number length - 1."),
    (logits_summed, "Logits are no logarithms of probabilities yet: take their log_softmax over the vocabulary."),
    (mean_a_token, "ln p of the answer is the sum over its tokens; the mean would favor long answers."),
    (first_place_only, "Each token of the answer is read one place further than the one before it."),
])
def check_answer(answer):
    return [float(answer(torch.randn(9, 12), 5, tokens)) for tokens in ([3], [1, 7], [2, 2, 11, 0])]


# 2: cut without labels

def cut_scores(scores, praise):
    return scores > scores.quantile(1 - praise)


def above_zero(scores, praise):
    return scores > 0


def above_median(scores, praise):
    return scores > scores.median()


def wrong_end(scores, praise):
    return scores > scores.quantile(praise)


def below(scores, praise):
    return scores < scores.quantile(praise)


@check.exercise(2, "Cut without labels", reference=cut_scores, mistakes=[
    (above_zero, "Nothing says that the model's zero is in the right place: cut where the share of praise lies above."),
    (above_median, "The median leaves half above; here the share is `praise`."),
    (wrong_end, "The share above the quantile q is 1 - q."),
    (below, "Praise has the high scores."),
])
def check_cut(answer):
    found = [answer(torch.randn(40) + shift, praise) for shift, praise in ((2.0, 0.3), (-1.0, 0.75), (0.5, 0.5))]
    if any(not isinstance(each, torch.Tensor) or each.dtype != torch.bool for each in found):
        raise Wrong("Return a tensor of booleans, one for each score.")
    return found


# 3: tags to spans

def to_spans(tags):
    spans, start = [], None
    for place, tag in enumerate([*tags, "O"]):
        if start is not None and tag != "I":
            spans.append((start, place))
            start = None
        if start is None and tag != "O":
            start = place
    return spans


def last_one_lost(tags):
    return [span for span in to_spans(tags) if span[1] < len(tags)]


def neighbors_joined(tags):
    return to_spans(["O" if tag == "O" else "I" for tag in tags])


def end_included(tags):
    return [(start, end - 1) for start, end in to_spans(tags)]


def needs_a_beginning(tags):
    return [span for span in to_spans(tags) if tags[span[0]] == "B"]


@check.exercise(3, "Tags to spans", reference=to_spans, mistakes=[
    (last_one_lost, "A name may be the text's last word: end it there."),
    (neighbors_joined, "A B ends the name before it and begins another."),
    (end_included, "The end is the place behind the last word, so that end - start is the number of words."),
    (needs_a_beginning, "An I with no name before it begins one."),
])
def check_spans(answer):
    return [[tuple(span) for span in answer(list(tags))] for tags in ("OBIOB", "BBIOO", "IIOBI", "OOO", "OIB")]


# 4: what may be answered

def coverage(sure, right, wanted):
    hits = right[sure.argsort(descending=True)].double().cumsum(0)
    share = hits / torch.arange(1, len(right) + 1)
    fit = (share >= wanted).nonzero()
    return (int(fit[-1]) + 1) / len(right) if len(fit) else 0.0


def stops_at_the_first_error(sure, right, wanted):
    hits = right[sure.argsort(descending=True)].double().cumsum(0)
    share = hits / torch.arange(1, len(right) + 1)
    low = (share < wanted).nonzero()
    return (int(low[0]) if len(low) else len(right)) / len(right)


def least_sure_first(sure, right, wanted):
    return coverage(-sure, right, wanted)


def share_right(sure, right, wanted):
    return right.double().mean().item()


@check.exercise(4, "What may be answered", reference=coverage, mistakes=[
    (stops_at_the_first_error, "An early error may be made good by later answers: take the largest number that fits."),
    (least_sure_first, "Answer where the judge is surest; sort from the largest."),
    (share_right, "Not what is right of all, but how many of the surest may be answered."),
])
def check_coverage(answer):
    right = torch.tensor([True, False, True, True, True, True, False, True, False, False])
    sure = torch.tensor([9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0, 0.5])
    order = torch.randperm(10)
    return [float(answer(sure[order], right[order], wanted)) for wanted in (0.8, 0.75, 1.0, 0.5)] + [
        float(answer(sure, ~right & (sure < 8), 0.9))]
