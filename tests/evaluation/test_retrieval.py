"""Ranks of the first right passage, and what is made of them."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tutorlib.evaluation.comparison import bootstrap_error
from tutorlib.evaluation.retrieval import first_ranks, mean_reciprocal_rank, recall_at


def test_ranks_by_hand():
    scores = torch.tensor([[0.1, 0.9, 0.5], [0.3, 0.2, 0.1], [1.0, 1.0, 1.0]])
    relevant = torch.tensor([[False, False, True], [True, False, True], [True, False, False]])
    ranks = first_ranks(scores, relevant)
    assert ranks.tolist() == [2, 1, 3]  # a tie counts against it
    assert recall_at(ranks, 1) == pytest.approx(1 / 3) and recall_at(ranks, 2) == pytest.approx(2 / 3)
    assert mean_reciprocal_rank(ranks) == pytest.approx((1 / 2 + 1 + 1 / 3) / 3)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 6), st.integers(2, 9), st.integers(0, 10**6))
def test_the_rank_is_the_place_in_the_sorted_list_and_mrr_that_of_scikit_learn(questions, passages, seed):
    metrics = pytest.importorskip("sklearn.metrics")
    generator = torch.Generator().manual_seed(seed)
    scores = torch.rand(questions, passages, generator=generator)
    relevant = torch.nn.functional.one_hot(torch.randint(passages, (questions,), generator=generator), passages).bool()
    ranks = first_ranks(scores, relevant)
    order = scores.argsort(1, descending=True)
    assert ranks.tolist() == [row.tolist().index(right) + 1
                              for row, right in zip(order, relevant.int().argmax(1).tolist(), strict=True)]
    expected = metrics.label_ranking_average_precision_score(relevant.numpy(), scores.numpy())  # of one right passage: MRR
    assert mean_reciprocal_rank(ranks) == pytest.approx(expected)


def test_the_bootstrap_agrees_with_the_formula_for_a_mean():
    values = torch.rand(200, generator=torch.Generator().manual_seed(3))
    assert bootstrap_error(values, draws=4000) == pytest.approx((values.std() / 200**0.5).item(), rel=0.05)
    assert bootstrap_error(torch.ones(5)) == 0
    assert bootstrap_error(values) == bootstrap_error(values) != bootstrap_error(values, torch.Generator().manual_seed(1))


def test_refusals():
    scores = torch.rand(2, 3)
    with pytest.raises(ValueError, match=r"relevant must hold a right passage for each question, got none for question 1"):
        first_ranks(scores, torch.tensor([[True, False, False], [False] * 3]))
    with pytest.raises(ValueError, match=r"must both have the shape \(Q, N\)"):
        first_ranks(scores, torch.ones(2, 3))
    for wrong in (torch.tensor([]), torch.tensor([0, 1]), torch.ones(2, 2)):
        with pytest.raises(ValueError, match="ranks must have the shape"):
            mean_reciprocal_rank(wrong)
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        recall_at(torch.tensor([1]), 0)
    with pytest.raises(ValueError, match="values must have the shape"):
        bootstrap_error(torch.tensor([]))
