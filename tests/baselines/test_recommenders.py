"""Recommenders that count, and the factorization: against scikit-learn, plain loops, and the gradient of what is minimized."""

import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.metrics.pairwise import cosine_similarity

from tutorlib.baselines.recommenders import Factorization, Neighbors, Popularity, Transitions, indicators, least_squares

HISTORIES = torch.tensor([[0, 1, 2, 3], [1, 2, 4, 3], [0, 0, 2, 1], [5, 2, 3, 1]])
ITEMS = 5


def dice(seed=0):
    return torch.Generator().manual_seed(seed)


def test_popularity_counts():
    assert Popularity(HISTORIES, ITEMS)(HISTORIES[:2]).tolist() == [[0, 4, 4, 3, 1, 1]] * 2


def test_neighbors_are_cosines_of_columns():
    chosen = indicators(HISTORIES, ITEMS)
    model = Neighbors(HISTORIES, ITEMS)
    expected = torch.from_numpy(cosine_similarity(chosen.T[1:]))
    torch.testing.assert_close(model.cosine[1:, 1:], expected.float().fill_diagonal_(0))
    rows = torch.tensor([[0, 3, 4]])
    torch.testing.assert_close(model(rows)[0], model.cosine[3] + model.cosine[4])
    torch.testing.assert_close(Neighbors(HISTORIES, ITEMS, window=1)(rows)[0], model.cosine[4])


def test_shrinking_damps_what_few_say():
    plain, shrunk = Neighbors(HISTORIES, ITEMS).cosine, Neighbors(HISTORIES, ITEMS, shrink=2.0).cosine
    assert shrunk[1, 2] / plain[1, 2] > shrunk[2, 4] / plain[2, 4] > 0
    assert shrunk[1, 2].item() == pytest.approx(4 / (4 + 2))


def test_transitions_count_what_came_next():
    model = Transitions(HISTORIES, ITEMS, prior=2.0)
    share = torch.tensor([0, 4, 4, 3, 1, 1]) / 13
    expected = (torch.tensor([0, 1.0, 0, 2, 1, 0]) + 2 * share) / (4 + 2)  # after 2 came 3, 4, 1, 3
    torch.testing.assert_close(model(torch.tensor([[1, 2]]))[0], expected)
    torch.testing.assert_close(model(torch.tensor([[0, 0]]))[0], share)
    assert model(HISTORIES).sum(1).tolist() == pytest.approx([1.0] * 4)


def test_transitions_fall_back_on_another_recommender():
    neighbors, rows = Neighbors(HISTORIES, ITEMS), torch.tensor([[1, 4]])
    share = neighbors(rows) / neighbors(rows).sum()
    expected = (torch.tensor([[0, 0, 0, 1.0, 0, 0]]) + 3 * share) / 4
    torch.testing.assert_close(Transitions(HISTORIES, ITEMS, prior=3.0, back_off=neighbors)(rows), expected)


def test_the_closed_form_is_weighted_ridge_regression():
    chosen, fixed = (torch.rand(6, 9, generator=dice()) < 0.4).double(), torch.randn(9, 3, generator=dice(1)).double()
    found = least_squares(chosen, fixed, weight=4.0, penalty=0.7)
    for row, x in zip(chosen, found, strict=True):
        ridge = Ridge(alpha=0.7, fit_intercept=False).fit(fixed, row, sample_weight=1 + 4 * row)
        torch.testing.assert_close(x, torch.from_numpy(ridge.coef_), rtol=1e-8, atol=1e-10)


def test_each_sweep_lowers_what_is_minimized():
    chosen = indicators(HISTORIES, ITEMS).double()

    def cost(model):
        items, users = model.items.double(), model.embed(HISTORIES).double()
        error = (1 + 10 * chosen) * (chosen - users @ items.T) ** 2
        return (error.sum() + users.square().sum() + items.square().sum()).item()

    costs = [cost(Factorization(HISTORIES, ITEMS, factors=2, sweeps=sweeps, generator=dice())) for sweeps in (1, 2, 4, 8)]
    assert costs == sorted(costs, reverse=True) and costs[-1] < 0.9 * costs[0]


def test_factors_find_groups_of_people():
    """Two halves of the catalog, two kinds of users: the missing item of one's own half comes first."""
    halves = [torch.arange(1, 7), torch.arange(7, 13)]
    rows = torch.stack([halves[u % 2][torch.randperm(6, generator=dice(u))[:4]] for u in range(60)])
    model = Factorization(rows, 12, factors=2, generator=dice())
    best = model(torch.tensor([[1, 2, 3, 4, 5]])).scatter(1, torch.tensor([[0, 1, 2, 3, 4, 5]]), -9.0).argmax()
    assert best == 6


def test_a_filled_row_and_a_repeated_item_change_nothing():
    rows = torch.tensor([[0, 0, 2, 3]])
    for model in (Popularity(HISTORIES, ITEMS), Neighbors(HISTORIES, ITEMS), Transitions(HISTORIES, ITEMS),
                  Factorization(HISTORIES, ITEMS, factors=2, generator=dice())):
        torch.testing.assert_close(model(rows), model(rows[:, 2:]))
        assert model(rows).shape == (1, ITEMS + 1)


@pytest.mark.parametrize("make, said", [
    (lambda: Popularity(HISTORIES, 4), "items from 1 to 4"),
    (lambda: Popularity(HISTORIES.float(), 5), "integers"),
    (lambda: Popularity(HISTORIES, 0), "items must be"),
    (lambda: Neighbors(HISTORIES, 5, shrink=-1.0), "shrink must be"),
    (lambda: Neighbors(HISTORIES, 5, window=0), "window must be"),
    (lambda: Transitions(HISTORIES, 5, prior=0.0), "prior must be"),
    (lambda: Factorization(HISTORIES, 5, factors=0, generator=dice()), "factors must be"),
    (lambda: Factorization(HISTORIES, 5, penalty=0.0, generator=dice()), "penalty must be"),
    (lambda: Factorization(HISTORIES, 5, weight=-1.0, generator=dice()), "weight must be"),
])
def test_wrong_arguments_are_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()
