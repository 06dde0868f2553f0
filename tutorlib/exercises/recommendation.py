"""Exercises of the chapter on recommendation."""
import math

import torch

from tutorlib.exercises.sheet import ExerciseSheet

check = ExerciseSheet()


# 1: the gain of a rank

def gain(rank, k):
    return 1 / math.log2(1 + rank) if rank <= k else 0.0


def gain_of_everything(rank, k):
    return 1 / math.log2(1 + rank)


def gain_from_zero(rank, k):
    return 1 / math.log2(2 + rank) if rank <= k else 0.0


def reciprocal(rank, k):
    return 1 / rank if rank <= k else 0.0


@check.exercise(1, "The gain of a rank", reference=gain, mistakes=[
    (gain_of_everything, "Behind the first k places nobody looks: there the gain is 0."),
    (gain_from_zero, "The best rank is 1, and its gain is 1: look at the number in the logarithm."),
    (reciprocal, "This is the reciprocal rank. NDCG falls more slowly: with the logarithm of the rank."),
])
def check_gain(answer):
    return [float(answer(rank, 10)) for rank in (1, 2, 3, 10, 11)]


# 2: a rank among the items that are left

def rank_among_unseen(scores, target, seen):
    # scores (I,), numbers from 0; seen: a list of items
    left = scores.clone()
    left[seen] = -math.inf
    return 1 + int((left > scores[target]).sum())


def rank_among_all(scores, target, seen):
    return 1 + int((scores > scores[target]).sum())


def rank_from_zero(scores, target, seen):
    return rank_among_unseen(scores, target, seen) - 1


def rank_from_behind(scores, target, seen):
    left = scores.clone()
    left[seen] = math.inf
    return 1 + int((left < scores[target]).sum())


@check.exercise(2, "A rank among what is left", reference=rank_among_unseen, mistakes=[
    (rank_among_all, "What the user has had already is not offered again: leave it out before you count."),
    (rank_from_zero, "The best rank is 1."),
    (rank_from_behind, "Rank 1 has the highest score: count the items that score more."),
])
def check_rank(answer):
    scores = torch.randperm(12).float()
    return [int(answer(scores.clone(), 5, [0, 1, 2])), int(answer(scores.clone(), 3, [7, 8, 11])),
            int(answer(torch.arange(6.0), 2, [4]))]


# 3: what a sample makes of a rank

def sampled_rank(rank, items, negatives):
    # of the items - 1 others, rank - 1 are better; a sample holds its share of them
    return 1 + negatives * (rank - 1) / (items - 1)


def rank_scaled(rank, items, negatives):
    return rank * negatives / items


def without_itself(rank, items, negatives):
    return negatives * (rank - 1) / (items - 1)


def not_the_best(rank, items, negatives):
    return 1 + negatives * rank / (items - 1)


@check.exercise(3, "What a sample makes of a rank", reference=sampled_rank, mistakes=[
    (rank_scaled, "Rank 1 stays rank 1 in every sample: scale the number of better items, not the rank."),
    (without_itself, "You counted the better items; the rank is one more."),
    (not_the_best, "Of rank m only m - 1 items are better."),
])
def check_sampled(answer):
    return [float(answer(1, 1000, 100)), float(answer(91, 901, 100)), float(answer(400, 1000, 50))]


# 4: neighbors

def cosines(chosen):
    # chosen (U, I) of 0 and 1
    both = chosen.T @ chosen  # (I, I) users of both
    norm = both.diagonal().sqrt()  # (I,)
    found = both / (norm[:, None] * norm)
    return found.fill_diagonal_(0.0)


def counted_only(chosen):
    return (chosen.T @ chosen).fill_diagonal_(0.0)


def of_users(chosen):
    return cosines(chosen.T)


def with_itself(chosen):
    both = chosen.T @ chosen
    norm = both.diagonal().sqrt()
    return both / (norm[:, None] * norm)


def without_root(chosen):
    both = chosen.T @ chosen
    count = both.diagonal().clone()
    return (both / (count[:, None] * count)).fill_diagonal_(0.0)


@check.exercise(4, "Neighbors", reference=cosines, mistakes=[
    (counted_only, "A popular item has many users in common with every other: divide by both lengths."),
    (of_users, "These are cosines of users; compare the columns, which are items."),
    (with_itself, "An item is its own best neighbor, and is no recommendation: set the diagonal to 0."),
    (without_root, "The length of a column of zeros and ones is the root of its sum."),
])
def check_cosines(answer):
    chosen = torch.cat([(torch.rand(9, 5) < 0.5).float(), torch.ones(1, 5)])
    return answer(chosen)


# 5: the split

def split_by_time(clicks, cut):
    # clicks: (user, item, time), in any order
    train = [click for click in clicks if click[2] < cut]
    tests = {}
    for user, item, time in sorted(clicks, key=lambda click: click[2]):
        if time >= cut:
            tests.setdefault(user, item)  # the first one only
    return len(train), tests


def last_of_each_user(clicks, cut):
    tests = {user: item for user, item, _ in sorted(clicks, key=lambda click: click[2])}
    return len(clicks) - len(tests), tests


def last_after_the_cut(clicks, cut):
    tests = {user: item for user, item, time in sorted(clicks, key=lambda click: click[2]) if time >= cut}
    return sum(click[2] < cut for click in clicks), tests


def trained_on_the_rest(clicks, cut):
    tests = split_by_time(clicks, cut)[1]
    return len(clicks) - len(tests), tests


@check.exercise(5, "A split by time", reference=split_by_time, mistakes=[
    (last_of_each_user, "Each user's last click lies at another time; the cut is one for all."),
    (last_after_the_cut, "The next click is the first one at or after the cut, not the last."),
    (trained_on_the_rest, "What comes after the tested click is the future, too: train on what lies before the cut."),
])
def check_split(answer):
    clicks = [("b", 3, 7.0), ("a", 1, 1.0), ("a", 2, 5.0), ("a", 4, 6.0), ("b", 5, 2.0), ("c", 6, 3.0), ("b", 7, 9.0)]
    count, tests = answer(list(clicks), 5.0)
    return [int(count), {str(user): int(item) for user, item in tests.items()}]
