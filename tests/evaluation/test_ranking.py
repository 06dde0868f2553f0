"""Metrics of rankings: against scikit-learn and against counting, on drawn scores; what sampling does; what is refused."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import label_ranking_average_precision_score, ndcg_score, top_k_accuracy_score

from tutorlib.evaluation.comparison import bootstrap_error
from tutorlib.evaluation.ranking import discounted_gains, gini, hits_at, sampled_ranks, target_ranks


def drawn(seed, users=7, items=9):
    dice = torch.Generator().manual_seed(seed)
    scores = torch.rand(users, items + 1, generator=dice)
    return scores, torch.randint(1, items + 1, (users,), generator=dice)


@given(st.integers(0, 10_000), st.integers(1, 9))
def test_metrics_agree_with_scikit_learn(seed, k):
    scores, targets = drawn(seed)
    rank, items = target_ranks(scores, targets), scores[:, 1:].numpy()
    right = np.zeros_like(items)
    right[np.arange(len(right)), targets.numpy() - 1] = 1
    assert discounted_gains(rank, k).mean().item() == pytest.approx(ndcg_score(right, items, k=k))
    assert hits_at(rank, k).mean().item() == pytest.approx(
        top_k_accuracy_score(targets.numpy() - 1, items, k=k, labels=range(9)) if k < 9 else 1.0)
    assert (1 / rank).mean().item() == pytest.approx(label_ranking_average_precision_score(right, items))


@given(st.integers(0, 10_000))
def test_a_rank_is_counted_among_what_is_not_excluded(seed):
    scores, targets = drawn(seed)
    scores = (scores * 4).round()  # many ties
    excluded = torch.stack([(targets + shift - 1) % 9 + 1 for shift in (1, 3)], 1)
    excluded[0, 0] = 0
    for row, rank in enumerate(target_ranks(scores, targets, excluded).tolist()):
        target = targets[row].item()
        others = [scores[row, j].item() for j in range(1, 10) if j != target and j not in excluded[row].tolist()]
        own = scores[row, target].item()
        assert rank == 1 + sum(other > own for other in others) + sum(other == own for other in others) / 2


def test_ranks_know_order_only():
    scores, targets = drawn(3)
    assert torch.equal(target_ranks(scores, targets), target_ranks(scores.exp() * 3, targets))
    assert torch.equal(target_ranks(-scores, targets), 10 - target_ranks(scores, targets))


def test_sampled_ranks_are_full_ranks_where_all_are_drawn():
    scores, targets = drawn(4)
    excluded = (targets % 9 + 1)[:, None]
    full = target_ranks(scores, targets, excluded)
    assert torch.equal(sampled_ranks(scores, targets, excluded, 7, torch.Generator().manual_seed(0)), full)


def test_a_sampled_rank_is_a_scaled_rank_on_average():
    """Of m - 1 better items among n - 1, a sample of s has s (m - 1) / (n - 1): the law behind the shortcut's flattery."""
    scores = torch.arange(101.0, 0, -1).expand(4000, -1)  # item j has the rank j among 100
    targets, none = torch.full((4000,), 34), torch.zeros(4000, 1, dtype=torch.long)
    rank = sampled_ranks(scores, targets, none, 12, torch.Generator().manual_seed(0))
    assert rank.mean().item() == pytest.approx(1 + 12 * 33 / 99, abs=0.1)
    assert rank.min() >= 1 and rank.max() <= 13


def test_the_bootstrap_finds_the_standard_error():
    values = torch.rand(400, generator=torch.Generator().manual_seed(0))
    error = bootstrap_error(values, torch.Generator().manual_seed(1))
    assert error == pytest.approx((values.std() / 20).item(), rel=0.1)


@given(st.lists(st.integers(0, 20), min_size=1, max_size=12).filter(any))
def test_gini_is_half_the_mean_difference_over_the_mean(counts):
    mean = sum(counts) / len(counts)
    difference = sum(abs(a - b) for a in counts for b in counts) / len(counts) ** 2
    assert gini(torch.tensor(counts)) == pytest.approx(difference / (2 * mean), abs=1e-9)


def test_wrong_arguments_are_refused():
    scores, targets = drawn(5)
    dice, none = torch.Generator(), torch.zeros(7, 1, dtype=torch.long)
    for wrong, said in (((scores[0], targets), "scores must be"), ((scores, targets[:3]), "targets"),
                        ((scores, 0 * targets), "from 1 to 9"), ((scores / 0 * 0, targets), "NaN"),
                        ((scores, targets, targets[:, None]), "without the targets"),
                        ((scores, targets, none[:2]), "excluded")):
        with pytest.raises(ValueError, match=said):
            target_ranks(*wrong)
    with pytest.raises(ValueError, match="negatives must be at most"):
        sampled_ranks(scores, targets, none, 9, dice)
    with pytest.raises(ValueError, match="k must be"):
        hits_at(targets, 0)
    with pytest.raises(ValueError, match="B at least 2"):
        bootstrap_error(torch.ones(1), dice)
    for counts in (torch.zeros(3), torch.tensor([1, -1])):
        with pytest.raises(ValueError, match="counts must be"):
            gini(counts)
