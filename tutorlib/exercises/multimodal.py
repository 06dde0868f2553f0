"""Exercises of the chapter on images and text."""
import torch
import torch.nn.functional as F

from tutorlib.exercises.sheet import ExerciseSheet

check = ExerciseSheet()


# 1: the contrastive loss

def contrastive(images, texts, scale):
    images, texts = (F.normalize(x, dim=-1) for x in (images, texts))
    logits = scale * images @ texts.T  # (B, B)
    truth = torch.arange(len(logits))
    rows, columns = (F.cross_entropy(x, truth) for x in (logits, logits.T))
    return (rows + columns) / 2


def one_way(images, texts, scale):
    logits = scale * F.normalize(images, dim=-1) @ F.normalize(texts, dim=-1).T
    return F.cross_entropy(logits, torch.arange(len(logits)))


def not_of_length_one(images, texts, scale):
    logits = scale * images @ texts.T
    truth = torch.arange(len(logits))
    return (F.cross_entropy(logits, truth) + F.cross_entropy(logits.T, truth)) / 2


def without_scale(images, texts, scale):
    return contrastive(images, texts, 1.0)


def summed(images, texts, scale):
    return 2 * contrastive(images, texts, scale)


@check.exercise(1, "The contrastive loss", reference=contrastive, mistakes=[
    (one_way, "Each image picks its text, and each text its image: take the columns too."),
    (not_of_length_one, "Compare directions: bring every vector to the length 1 first."),
    (without_scale, "Multiply the cosines by the scale before the softmax."),
    (summed, "Take the mean of the two directions, not their sum."),
])
def check_contrastive(answer):
    images, texts = torch.randn(5, 4, requires_grad=True), torch.randn(5, 4)  # (B, E)
    loss = answer(images, texts, 3.0)
    (gradient,) = torch.autograd.grad(loss, images)
    return [loss.detach(), gradient]


# 2: a class from words

def classes_of_words(texts, members):
    vectors = torch.stack([texts[rows].mean(0) for rows in members])  # (C, E)
    return F.normalize(vectors, dim=-1)


def first_member(texts, members):
    return torch.stack([texts[rows[0]] for rows in members])


def mean_of_another_length(texts, members):
    return torch.stack([texts[rows].mean(0) for rows in members])


def mean_of_all(texts, members):
    vectors = torch.stack([texts[rows].mean(0) for rows in members])
    return F.normalize(vectors, dim=0)


@check.exercise(2, "A class from words", reference=classes_of_words, mistakes=[
    (first_member, "Use all captions of a class, not the first."),
    (mean_of_another_length, "A mean of unit vectors is shorter than 1, and by another share in each class."),
    (mean_of_all, "Each class is to have the length 1: normalize along the last dimension."),
])
def check_classes(answer):
    texts = F.normalize(torch.randn(7, 4), dim=-1)  # (N, E)
    return answer(texts, [[0, 3], [1, 2, 5, 6], [4]])


# 3: what a model that is blind to a word would score

def blind(candidates, truths, blind_to):
    total = 0.0
    for truth in truths:
        alike = [c for c in candidates if all(
            c[i] == truth[i] for i in range(len(truth)) if i != blind_to)]
        total += 1 / len(alike)
    return total / len(truths)


def blind_to_the_list(candidates, truths, blind_to):
    return 1 / len({c[blind_to] for c in candidates})


def always_right(candidates, truths, blind_to):
    return 1.0


def counts_all(candidates, truths, blind_to):
    return 1 / len(candidates)


def other_words_ignored(candidates, truths, blind_to):
    return sum(1 / sum(c[blind_to] == t[blind_to] for c in candidates) for t in truths) / len(truths)


@check.exercise(3, "What a blind model would score", reference=blind, mistakes=[
    (blind_to_the_list, "Count the candidates that agree in the other words: the list may hold only one of them."),
    (always_right, "Where several candidates agree in the words that it reads, it must guess among them."),
    (counts_all, "It guesses only among candidates that agree in the words that it does read."),
    (other_words_ignored, "You match the word that it cannot see. Match all the others."),
])
def check_blind(answer):
    everything = [(color, shape, place) for color in range(4) for shape in range(3) for place in range(3)]
    held_out = [words for words in everything if sum(words) % 3 == 0]
    few = [(0, 0, 0), (0, 1, 0), (1, 1, 1), (1, 2, 1), (1, 0, 1)]
    return [float(answer(*case)) for case in ((everything, held_out, 1), (held_out, held_out, 1), (few, few[:4], 1),
                                              (everything, held_out, 2))]


# 4: captions that come twice

def with_twins(logits, captions):
    same = captions[:, None] == captions  # (B, B)
    goal = same / same.sum(1, keepdim=True)  # (B, B): rows of sum 1
    rows, columns = (F.cross_entropy(x, goal) for x in (logits, logits.T))
    return (rows + columns) / 2


def diagonal_only(logits, captions):
    truth = torch.arange(len(logits))
    return (F.cross_entropy(logits, truth) + F.cross_entropy(logits.T, truth)) / 2


def each_counts_whole(logits, captions):
    same = (captions[:, None] == captions).float()
    return (F.cross_entropy(logits, same) + F.cross_entropy(logits.T, same)) / 2


def rows_with_twins(logits, captions):
    same = captions[:, None] == captions
    return F.cross_entropy(logits, same / same.sum(1, keepdim=True))


@check.exercise(4, "Captions that come twice", reference=with_twins, mistakes=[
    (diagonal_only, "A text that says the same as the image's own is no mistake: give all of them a share of the goal."),
    (each_counts_whole, "A row of the goal has the sum 1: divide by the number of texts that are right."),
    (rows_with_twins, "Take the columns too."),
])
def check_twins(answer):
    return answer(2 * torch.randn(6, 6), torch.tensor([4, 1, 4, 0, 1, 4]))
