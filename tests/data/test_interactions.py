"""The world of planted choices: its draws follow its probabilities, and nobody ranks better than its own best guess."""

from dataclasses import replace

import pytest
import torch

from tutorlib.data.interactions import World, WorldConfig, fill_left

SMALL = WorldConfig(items=12, genres=3, types=4, order=0.5, followers=2)


def world(config=SMALL, seed=0):
    return World(config, torch.Generator().manual_seed(seed))


def brute_best(world, items, times, when):
    """The posterior predictive of one history, type by type and choice by choice, in plain sums."""
    order, predictive = world.config.order, torch.zeros(world.config.items + 1, dtype=torch.float64)

    def chances(kind, last, seen, time):
        chance = [0.0] * (world.config.items + 1)
        for j in range(1, world.config.items + 1):
            age = time - world.born[j].item()
            if j not in seen and age >= 0:
                mixed = (1 - order) * world.taste[kind, j].item() + order * world.follows[last, j].item()
                chance[j] = mixed * torch.exp(torch.tensor(-world.config.fading * age, dtype=torch.float64)).item()
        return [each / sum(chance) for each in chance]

    total = 0.0
    for kind in range(world.config.types):
        likely, last, seen = 1.0, 0, set()
        for item, time in zip(items, times, strict=True):
            likely *= chances(kind, last, seen, time)[item]
            last, seen = item, seen | {item}
        predictive += likely * torch.tensor(chances(kind, last, seen, when), dtype=torch.float64)
        total += likely
    return predictive / total


@pytest.mark.parametrize("fading", [0.0, 0.2])
def test_the_best_guess_is_bayes_rule(fading):
    some = world(replace(SMALL, fading=fading))
    clicks = some.draw(4, 4, torch.Generator().manual_seed(1), start=5.0)
    best = some.best(clicks.items[:, :3], clicks.times[:, :3], clicks.times[:, 3])
    for row in range(4):
        expected = brute_best(some, clicks.items[row, :3].tolist(), clicks.times[row, :3].tolist(), clicks.times[row, 3].item())
        torch.testing.assert_close(best[row], expected, rtol=1e-9, atol=1e-12)


def test_filling_on_the_left_changes_nothing():
    some, dice = world(), torch.Generator().manual_seed(1)
    clicks = some.draw(5, 4, dice)
    filled = torch.nn.functional.pad(clicks.items, (3, 0)), torch.nn.functional.pad(clicks.times, (3, 0))
    when = torch.full((5,), 19.0)
    torch.testing.assert_close(some.best(*filled, when), some.best(clicks.items, clicks.times, when))


def test_choices_come_as_often_as_their_probability():
    some = world(replace(SMALL, types=1))
    clicks = some.draw(20_000, 2, torch.Generator().manual_seed(1))
    weight = torch.ones(1, 13, dtype=torch.float64)
    weight[0, 0] = 0
    first = some.probabilities(torch.tensor([0]), torch.tensor([0]), weight)[0]
    assert (torch.bincount(clicks.items[:, 0], minlength=13) / 20_000 - first).abs().max() < 4 * 0.5 / 20_000**0.5
    start = clicks.items[:, 0].mode().values
    after = clicks.items[clicks.items[:, 0] == start, 1]
    weight[0, start] = 0
    second = some.probabilities(torch.tensor([0]), start[None], weight)[0]
    assert (torch.bincount(after, minlength=13) / len(after) - second).abs().max() < 4 * 0.5 / len(after) ** 0.5


def test_nobody_chooses_twice_or_before_an_item_is_born():
    some = world(replace(SMALL, items=60, fading=0.3))
    clicks = some.draw(50, 10, torch.Generator().manual_seed(1))
    assert all(len(set(row)) == 10 for row in clicks.items.tolist())
    assert (some.born[clicks.items] <= clicks.times).all() and (clicks.times.diff(dim=1) >= 0).all()
    assert clicks.items.min() >= 1 and (some.fresh(torch.tensor([0.0, 20.0]))[:, 0] == 0).all()


def test_no_other_ranking_hits_more_often_than_the_best_guess():
    """On average: against the guess of worlds that differ in one dial."""
    some = world(replace(SMALL, items=60))
    clicks = some.draw(4000, 6, torch.Generator().manual_seed(1))
    def hit(guesser):
        guess = guesser.best(clicks.items[:, :5], clicks.times[:, :5], clicks.times[:, 5])
        return (guess.topk(5).indices == clicks.items[:, 5:]).any(1).double().mean().item()

    others = [world(replace(SMALL, items=60, order=order)) for order in (0.0, 0.1, 1.0)]
    assert hit(some) > max(map(hit, others)) + 0.01


def test_the_dial_turns_taste_into_order():
    """At 0 the last item says nothing beyond what the set says; at 1 the type says nothing."""
    for order, same in ((0.0, False), (1.0, True)):
        some = world(replace(SMALL, order=order))
        weight = torch.ones(2, 13, dtype=torch.float64)
        chance = some.probabilities(torch.tensor([0, 1]), torch.tensor([3, 3]), weight)
        assert torch.allclose(chance[0], chance[1]) == same
        other = some.probabilities(torch.tensor([0, 1]), torch.tensor([3, 4]), weight)
        assert torch.allclose(other[1], chance[1]) != same


@pytest.mark.parametrize("field, value", [("items", 0), ("genres", 20), ("order", 1.5), ("order", -0.1), ("surprise", 2.0),
                                          ("followers", 12), ("weeks", 0.0), ("fading", float("nan")), ("skew", -1.0)])
def test_a_wrong_number_is_refused(field, value):
    with pytest.raises(ValueError, match="items" if field in ("genres", "followers") else field):
        replace(SMALL, **{field: value})


def test_more_choices_than_items_are_refused():
    with pytest.raises(ValueError, match="length must be less than the 12 items"):
        world().draw(2, 12, torch.Generator())


def test_lists_are_filled_on_the_left():
    assert fill_left([[1, 2, 3], [4], []]).tolist() == [[1, 2, 3], [0, 0, 4], [0, 0, 0]]
    assert fill_left([[1, 2, 3], [4]], 2).tolist() == [[2, 3], [0, 4]]
    with pytest.raises(ValueError, match="rows must hold"):
        fill_left([])
