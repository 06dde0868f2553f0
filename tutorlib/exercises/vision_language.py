"""Exercises of the chapter on a model that answers about a picture."""
from collections import Counter

import torch

from tutorlib.exercises.sheet import ExerciseSheet

check = ExerciseSheet()


# 1: one row of picture and words

def one_row(grid, matrix, words, places):
    picture = grid.flatten(2).mT @ matrix  # (B, N, D)
    row = torch.cat([picture, words], dim=1)  # (B, N + T, D)
    return row + places[:row.size(1)]


def words_first(grid, matrix, words, places):
    row = torch.cat([words, grid.flatten(2).mT @ matrix], dim=1)
    return row + places[:row.size(1)]


def cut_anew(grid, matrix, words, places):
    picture = grid.reshape(len(grid), -1, grid.size(1)) @ matrix
    row = torch.cat([picture, words], dim=1)
    return row + places[:row.size(1)]


def places_of_words_from_zero(grid, matrix, words, places):
    picture = grid.flatten(2).mT @ matrix
    return torch.cat([picture + places[:picture.size(1)], words + places[:words.size(1)]], dim=1)


def column_by_column(grid, matrix, words, places):
    return one_row(grid.mT, matrix, words, places)


@check.exercise(1, "One row of picture and words", reference=one_row, mistakes=[
    (words_first, "The picture stands before the words, so that every word may see it."),
    (cut_anew, "A reshape mixes places: bring the E numbers of one place together, by a transpose."),
    (places_of_words_from_zero, "The first word stands behind the picture: its place is number N."),
    (column_by_column, "Read the grid row by row."),
])
def check_row(answer):
    grid, matrix = torch.randn(2, 5, 3, 4), torch.randn(5, 6)  # (B, E, h, w), (E, D)
    return answer(grid, matrix, torch.randn(2, 4, 6), torch.randn(20, 6))


# 2: what counting gets

def counted(questions, answers, new_questions, new_answers):
    seen = {}
    for question, answer in zip(questions, answers, strict=True):
        seen.setdefault(question, []).append(answer)
    usual = {question: max(given, key=given.count)
             for question, given in seen.items()}
    right = [usual[question] == answer
             for question, answer in zip(new_questions, new_answers, strict=True)]
    return sum(right) / len(right)


def one_for_all(questions, answers, new_questions, new_answers):
    usual = Counter(answers).most_common(1)[0][0]
    return sum(answer == usual for answer in new_answers) / len(new_answers)


def counted_on_the_test(questions, answers, new_questions, new_answers):
    return counted(new_questions, new_answers, new_questions, new_answers)


def drawn_as_often(questions, answers, new_questions, new_answers):
    seen = {}
    for question, answer in zip(questions, answers, strict=True):
        seen.setdefault(question, Counter())[answer] += 1
    return sum(seen[question][answer] / seen[question].total()
               for question, answer in zip(new_questions, new_answers, strict=True)) / len(new_questions)


def last_seen(questions, answers, new_questions, new_answers):
    seen = dict(zip(questions, answers, strict=True))
    return sum(seen[q] == a for q, a in zip(new_questions, new_answers, strict=True)) / len(new_questions)


@check.exercise(2, "What counting gets", reference=counted, mistakes=[
    (one_for_all, "Count for each question by itself; one answer for all is a weaker baseline."),
    (counted_on_the_test, "Count the answers of the training part: those of the test are not yours to see."),
    (drawn_as_often, "Give the most frequent answer always: to draw it as often as it came is worse."),
    (last_seen, "Of several answers to one question take the most frequent, not the last."),
])
def check_counted(answer):
    old = (["a"] * 6 + ["b"] * 5 + ["c"] * 3,
           ["yes", "yes", "yes", "yes", "no", "no", "no", "no", "no", "yes", "yes", "red", "red", "blue"])
    new = ["a"] * 5 + ["b"] * 3 + ["c"], ["yes", "yes", "no", "no", "no", "no", "no", "yes", "red"]
    return answer(*old, *new)


# 3: what an answer costs when it may be withheld

def risk_at(probabilities, truth, threshold):
    sure, chosen = probabilities.max(-1)
    answered = sure >= threshold
    wrong = (chosen != truth) & answered
    risk = wrong.sum() / answered.sum().clamp(min=1)
    return answered.float().mean().item(), risk.item()


def of_all(probabilities, truth, threshold):
    sure, chosen = probabilities.max(-1)
    answered = sure >= threshold
    return answered.float().mean().item(), ((chosen != truth) & answered).float().mean().item()


def by_the_truth(probabilities, truth, threshold):
    sure = probabilities[torch.arange(len(truth)), truth]
    answered = sure >= threshold
    return answered.float().mean().item(), (probabilities.argmax(-1) != truth)[answered].float().mean().item()


def share_right(probabilities, truth, threshold):
    coverage, risk = risk_at(probabilities, truth, threshold)
    return coverage, 1 - risk


def withheld(probabilities, truth, threshold):
    coverage, risk = risk_at(probabilities, truth, threshold)
    return 1 - coverage, risk


@check.exercise(3, "Coverage and risk", reference=risk_at, mistakes=[
    (of_all, "The risk is the share wrong of what is answered, not of all questions."),
    (by_the_truth, "Whether to answer is decided by the largest probability: the truth is not known then."),
    (share_right, "The risk is the share that is wrong."),
    (withheld, "The coverage is the share that is answered."),
])
def check_risk(answer):
    probabilities = (3 * torch.randn(40, 5)).softmax(-1)
    truth = torch.where(torch.rand(40) < 0.6, probabilities.argmax(-1), torch.randint(5, (40,)))
    return [float(number) for threshold in (0.0, 0.7, 0.9) for number in answer(probabilities, truth, threshold)]
