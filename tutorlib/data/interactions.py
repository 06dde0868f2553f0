"""Who chose what, and when: a world of planted tastes and habits, and the best guess that can be made in it.

In the world a choice comes from two sources. With the weight `1 - order` a user follows taste: one of `types` of users, each a
mixture of genres, inside a genre the popular items first. With the weight `order` the user follows habit: what comes after the
item chosen last, the same for everybody. Nobody chooses an item twice. Items are numbered from 1; 0 fills a row on its left.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from tutorlib.arguments import check_whole


@dataclass(frozen=True)
class WorldConfig:
    """The numbers that a world is drawn from."""

    items: int = 300  # I
    genres: int = 10  # an item belongs to one; equally many items each, within one
    types: int = 24  # kinds of users
    mixture: float = 0.15  # Dirichlet parameter of a type's shares of the genres: small is choosy
    skew: float = 0.8  # within a genre, the item of rank r has the weight r ** -skew
    order: float = 0.5  # the share of habit: 0 is taste alone, 1 is order alone
    followers: int = 4  # items that come after an item, each half as likely as the one before
    surprise: float = 0.1  # the share of habit that goes to any item
    weeks: float = 20.0  # how long the world is watched
    fading: float = 0.0  # an item's weight falls by exp(-fading) a week since it came out; 0: all are there from the start

    def __post_init__(self) -> None:
        for name in ("items", "genres", "types", "followers"):
            check_whole(name, getattr(self, name))
        if not self.genres <= self.items or not self.followers < self.items:
            raise ValueError(f"items must be at least genres={self.genres} and more than followers={self.followers}, "
                             f"got {self.items}")
        for name in ("order", "surprise"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {getattr(self, name)}")
        for name, least in (("mixture", 0.001), ("weeks", 0.001), ("skew", 0.0), ("fading", 0.0)):
            if not least <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be a finite number of at least {least}, got {getattr(self, name)}")


class Clicks(NamedTuple):
    """What U users chose, oldest first, a row each, filled with 0 on the left."""

    items: Tensor  # (U, T) from 1 to I
    times: Tensor  # (U, T) in weeks, rising along a row
    types: Tensor  # (U,) what kind of user it is: nobody but the generator knows


class World:
    """Tastes, habits and dates of birth, drawn once; then any number of users.

    The probability of item j, for a user of type z whose last item is i, is proportional to::

        fresh_j * unseen_j * ((1 - order) * taste[z, j] + order * follows[i, j])

    `taste` (types, I + 1) and `follows` (I + 1, I + 1) have rows of sum 1 and nothing in column 0; `follows[0]`, of those who
    have chosen nothing yet, is the mean taste. `fresh` is exp(-fading * age), and 0 before the item is born.
    """

    def __init__(self, config: WorldConfig, generator: torch.Generator):
        self.config, size = config, config.items + 1
        self.genre = torch.randint(config.genres, (size,), generator=generator)  # (I + 1,)
        self.genre[1:] = torch.arange(config.items) % config.genres
        self.genre[0] = -1
        rank = torch.arange(config.items).div(config.genres, rounding_mode="floor") + 1.0  # (I,) within the genre
        weight = torch.zeros(size, dtype=torch.float64)
        weight[1:] = rank.double() ** -config.skew
        inside = torch.stack([(self.genre == g) * weight for g in range(config.genres)])  # (genres, I + 1)
        self.shares = _dirichlet(config.mixture, config.types, config.genres, generator)  # (types, genres)
        self.taste = self.shares @ (inside / inside.sum(1, keepdim=True))  # (types, I + 1)
        self.follows = _followers(config, generator)  # (I + 1, I + 1)
        self.follows[0] = self.taste.mean(0)
        born = torch.rand(size, generator=generator, dtype=torch.float64) * 2 - 1  # half are there before the first week
        self.born = born * config.weeks if config.fading else torch.full_like(born, -config.weeks)  # (I + 1,)

    def fresh(self, when: Tensor) -> Tensor:
        """How much each item counts at times (B,) in weeks -> (B, I + 1); nothing in column 0."""
        age = when.double()[:, None] - self.born  # (B, I + 1)
        weight = (age >= 0) * (-self.config.fading * age.clamp(min=0)).exp()
        weight[:, 0] = 0
        return weight

    def probabilities(self, types: Tensor, last: Tensor, weight: Tensor) -> Tensor:
        """What users choose next: types (B,), last items (B,), weight (B, I + 1), fresh and unseen -> (B, I + 1), sums 1."""
        order = self.config.order
        chance = weight * ((1 - order) * self.taste[types] + order * self.follows[last])
        return chance / chance.sum(1, keepdim=True)

    def draw(self, users: int, length: int, generator: torch.Generator, *, start: float = 0.0,
             end: float | None = None) -> Clicks:
        """`length` choices of each of `users` new users, at times drawn evenly from `start` to `end` (the last week).

        Raises ValueError where there are no users, or more choices than items that are born by then.
        """
        check_whole("users", users)
        check_whole("length", length)
        end = self.config.weeks if end is None else end
        available = int((self.born[1:] <= start).sum())
        if not length < available:
            raise ValueError(f"length must be less than the {available} items that there are at week {start}, got {length}")
        types = torch.randint(self.config.types, (users,), generator=generator)
        times = (start + (end - start) * torch.rand(users, length, generator=generator, dtype=torch.float64)).sort(1).values
        items = torch.zeros(users, length, dtype=torch.long)
        last, unseen = torch.zeros(users, dtype=torch.long), torch.ones(users, self.config.items + 1, dtype=torch.float64)
        for step in range(length):
            chance = self.probabilities(types, last, self.fresh(times[:, step]) * unseen)
            last = chance.multinomial(1, generator=generator)[:, 0]  # (U,)
            unseen.scatter_(1, last[:, None], 0.0)
            items[:, step] = last
        return Clicks(items, times, types)

    def best(self, items: Tensor, times: Tensor, when: Tensor) -> Tensor:
        """The probability of every next item for one who knows the world, but of a user only the history: (B, I + 1).

        items and times (B, T), filled with 0 on the left; `when` (B,) is the time of the choice. By Bayes' rule over the types.
        No recommender that sees the same history can expect a higher hit rate or NDCG than the ranking by these numbers.
        """
        belief, last, unseen = self._believed(items, times)
        weight = self.fresh(when) * unseen
        order, habit = self.config.order, self.follows[last]
        share = belief / self._totals(weight, habit)  # (B, types): a type's belief over its normalizer
        return weight * ((1 - order) * share @ self.taste + order * habit * share.sum(1, keepdim=True))

    def _totals(self, weight: Tensor, habit: Tensor) -> Tensor:
        """What each type's weights sum to: (B, types)."""
        order = self.config.order
        return (1 - order) * weight @ self.taste.T + order * (weight * habit).sum(1, keepdim=True)

    def _believed(self, items: Tensor, times: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The posterior over types (B, types), the last item (B,), and what is unseen (B, I + 1)."""
        users, order = len(items), self.config.order
        belief = torch.full((users, self.config.types), 1 / self.config.types, dtype=torch.float64)
        last, unseen = torch.zeros(users, dtype=torch.long), torch.ones(users, self.config.items + 1, dtype=torch.float64)
        for step in range(items.size(1)):
            item = items[:, step]  # (B,)
            real, habit = item > 0, self.follows[last]
            likely = (1 - order) * self.taste[:, item].T + order * habit.gather(1, item[:, None])  # (B, types)
            likely = likely / self._totals(self.fresh(times[:, step]) * unseen, habit)
            belief = torch.where(real[:, None], belief * likely, belief)
            belief = belief / belief.sum(1, keepdim=True)
            last = torch.where(real, item, last)
            unseen = unseen.scatter(1, item[:, None], 0.0)
        return belief, last, unseen


def _dirichlet(parameter: float, rows: int, columns: int, generator: torch.Generator) -> Tensor:
    """Rows of positive numbers with sum 1 (rows, columns), float64."""
    parameters = torch.full((rows, columns), parameter, dtype=torch.float64)
    return torch._sample_dirichlet(parameters, generator=generator)


def _followers(config: WorldConfig, generator: torch.Generator) -> Tensor:
    """What comes after each item (I + 1, I + 1): a few of any genre, each half as likely as the one before, and chance."""
    size = config.items + 1
    table = torch.zeros(size, size, dtype=torch.float64)
    table[:, 1:] = config.surprise / config.items
    halves = 0.5 ** torch.arange(config.followers, dtype=torch.float64)
    dice = torch.rand(size, config.items, generator=generator)
    dice[torch.arange(1, size), torch.arange(config.items)] = -1  # an item does not follow itself
    places = dice.topk(config.followers, dim=1).indices + 1  # (I + 1, followers)
    return table.scatter_add(1, places, ((1 - config.surprise) * halves / halves.sum()).expand(size, -1))


def fill_left(rows: list[list[int]], length: int | None = None) -> Tensor:
    """Lists of items -> (rows, T), each at the right end of its row, filled with 0 on the left; the last `length` where given.

    Raises ValueError where there is no row.
    """
    if not rows:
        raise ValueError("rows must hold at least one list of items, got none")
    length = max(1, *map(len, rows)) if length is None else length
    kept = [row[-length:] for row in rows]
    return torch.tensor([[0] * (length - len(row)) + list(row) for row in kept], dtype=torch.long)
