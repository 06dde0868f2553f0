"""Six recommenders in a world of planted taste and order: what each can use, what each split says of it, what its use does.

    OMP_NUM_THREADS=1 python experiments/recommend.py experiments/records/recommend.json

Every method has at most four settings to try, chosen by the hit rate on 500 development users of seed 0, once for each value of
the dial; the test users are others. The seed of a run draws its world, its users and its weights. The record is written after
every run; a second call goes on where it stopped.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tutorlib.baselines.recommenders import Factorization, Neighbors, Popularity, Transitions
from tutorlib.data.batches import ShuffledBatches
from tutorlib.data.interactions import Clicks, World, WorldConfig, fill_left
from tutorlib.evaluation.comparison import bootstrap_error
from tutorlib.evaluation.ranking import discounted_gains, gini, hits_at, sampled_ranks, target_ranks
from tutorlib.models import SASRec, SASRecConfig
from tutorlib.records import missing, open_record, rounded, surroundings, write_record
from tutorlib.training import train, warmup_cosine

ITEMS, LENGTH = 200, 20  # I, and the clicks of a user
USERS, DEVELOPMENT, TEST = 2000, 500, 1000
ORDERS = (0.0, 0.25, 0.5, 1.0)
NETS = (0.25, 0.5, 1.0)  # where the network was tuned
SEEDS = (0, 1, 2)
WORLDS = (0, 1, 2, 3, 4)  # where no network is trained
STEPS, BATCH = 400, 128  # of SASRec
SHRINK = 5.0
METHODS: dict[str, list[dict]] = {  # the settings that each tries
    "popularity": [{}],
    "neighbors": [{"window": window} for window in (None, 4, 2, 1)],
    "factors": [{"factors": factors, "penalty": penalty} for factors in (8, 24) for penalty in (1.0, 10.0)],
    "transitions": [{"prior": prior} for prior in (1.0, 10.0, 30.0, 100.0)],
    "both": [{"prior": prior} for prior in (100.0, 300.0, 1000.0, 3000.0)],
    "sasrec": [{"layers": 1, "dropout": 0.2}, {"layers": 1, "dropout": 0.4}, {"layers": 2, "dropout": 0.2},
               {"layers": 1, "dropout": 0.2, "rate": 1e-2}],
}
TODAY, BEFORE, WEEKS, CLICKS, CATALOG = 16.0, 12.0, 20.0, 24, 600  # of the world in which time counts
FADING = 0.15
THOUSANDS = 20.0  # of users that a long training of SASRec learns from
LONG, EVERY = 3200, 400  # its steps, half as many in every other form, and how often it is judged
FORMS = {"curve": {}, "heads": {"heads": 2}, "layers": {"layers": 2}, "dry": {"dropout": 0.0},
         "deep": {"layers": 2, "dropout": 0.0}}  # of SASRec there; else one layer, one head and a dropout of .2
PRIORS = (1000.0, 3000.0, 10_000.0, 30_000.0)  # of both counts there: ten times the clicks, ten times the prior
LOOKS = (1, 19)  # the clicks of a test user that it is shown
ROUNDS, SHOWN, EXPLORE, LOOP_USERS = 15, 10, (0.0, 0.1, 0.3, 1.0), 500
Recommender = Callable[[Tensor], Tensor]


class Run(NamedTuple):
    """`kind` dial, net, split, more, loop or one of FORMS; `order` the share of habit; `value` the fading, or the share
    explored, or the thousands of users.

    dial judges what counts and factors, net SASRec alone on the same clicks, in one world, curve SASRec over a longer training
    beside what counts, and other FORMS of it. more is the split by time with as many clicks more as the leak has, but from
    before the cut, of other users.
    """

    kind: str
    seed: int
    order: float = 0.5
    value: float = 0.0
    control: bool = False  # a loop whose clicks do not come from what was shown


def runs() -> list[Run]:
    """In the order of need, so that what is there at any time can be read."""
    planned = [Run("dial", seed, order) for seed in SEEDS for order in ORDERS]
    planned += [Run("split", seed, order, fading) for order, fading in ((0.5, FADING), (0.0, 0.0)) for seed in WORLDS]
    for seed in WORLDS:
        planned += [Run("loop", seed, 0.0, share) for share in EXPLORE] + [Run("loop", seed, 0.0, 0.0, True)]
    planned += [Run("net", 0, order) for order in NETS]
    planned += [Run("more", seed, 0.5, FADING) for seed in WORLDS]
    return planned + [Run(kind, 0, 0.5, THOUSANDS) for kind in FORMS]


# -- methods -------------------------------------------------------------------------------------------------------------


def next_item_loss(model: nn.Module, batch: tuple[Tensor]) -> Tensor:
    """Cross-entropy of the next item among all: each row is its own target, one place further."""
    rows, = batch
    return F.cross_entropy(model(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten(), ignore_index=0)


def sasrec(rows: Tensor, items: int, seed: int, *, layers: int = 1, dropout: float = 0.2, rate: float = 3e-3, width: int = 64,
           heads: int = 1, steps: int = STEPS, until: int = STEPS,
           evaluate: Callable[[nn.Module], dict] | None = None) -> tuple[SASRec, list]:
    """A SASRec trained on histories (U, T), and its losses, or what `evaluate` found; its rate is 0 after `until` steps."""
    torch.manual_seed(seed)
    model = SASRec(SASRecConfig(items, max_length=rows.size(1) - 1, width=width, num_heads=heads, num_layers=layers,
                                dropout=dropout))
    optimizer = torch.optim.Adam(model.parameters(), rate, betas=(0.9, 0.98))
    history = train(model, ShuffledBatches(rows, batch_size=BATCH, seed=seed), next_item_loss, optimizer, steps=steps,
                    schedule=warmup_cosine(40, until), progress=False, evaluate=evaluate,
                    evaluate_every=EVERY if evaluate else None)
    return model, history.evaluations if evaluate else history.losses


def make(method: str, setting: dict, rows: Tensor, items: int, seed: int, steps: int = STEPS) -> Recommender:
    """The recommender that a method makes of histories (U, T)."""
    if method == "sasrec":
        return sasrec(rows, items, seed, steps=steps, **setting)[0].next_scores
    if method == "factors":
        return Factorization(rows, items, weight=5.0, generator=torch.Generator().manual_seed(seed), **setting)
    if method == "both":
        return Transitions(rows, items, back_off=Neighbors(rows, items, shrink=SHRINK), **setting)
    if method == "neighbors":
        return Neighbors(rows, items, shrink=SHRINK, **setting)
    return (Popularity if method == "popularity" else Transitions)(rows, items, **setting)


def judged(scores: Tensor, targets: Tensor, histories: Tensor, seed: int, known: Tensor | None = None) -> dict[str, float]:
    """HR@10 and its error over users, NDCG@10 and MRR among all items, and HR@10 and NDCG@10 among 100 sampled ones.

    Where `known` items are given no other is ranked: a target that is none of them is a miss.
    """
    dice, excluded = torch.Generator().manual_seed(9000 + seed), histories
    if known is not None:
        others = torch.ones(scores.size(1), dtype=torch.bool).index_fill(0, known, False)  # (I + 1,)
        scores = scores.masked_fill(others, -torch.inf)
        absent = others.nonzero().T.expand(len(targets), -1)  # (B, items that are not known)
        excluded = torch.cat([histories, absent.where(absent != targets[:, None], 0)], 1)
    full, sampled = target_ranks(scores, targets, excluded), sampled_ranks(scores, targets, excluded, 100, dice)
    return {"hr": hits_at(full, 10).mean().item(), "error": bootstrap_error(hits_at(full, 10), dice, 1000),
            "ndcg": discounted_gains(full, 10).mean().item(), "mrr": (1 / full).mean().item(),
            "sampled": hits_at(sampled, 10).mean().item(), "sampled ndcg": discounted_gains(sampled, 10).mean().item()}


def chosen(record: dict, order: float, method: str) -> dict:
    """The setting that did best on the development users of seed 0."""
    kind = "net" if method == "sasrec" else "dial"
    found = next(run for run in record["runs"] if (run["kind"], run["seed"], run["order"]) == (kind, 0, order))
    return METHODS[method][found["chosen"][method]]


def names_of(run: Run) -> list[str]:
    """The methods that a run is about."""
    return ["sasrec"] if run.kind == "net" else [name for name in METHODS if name != "sasrec"]


# -- taste or order ------------------------------------------------------------------------------------------------------


def world_of(run: Run) -> tuple[World, torch.Generator]:
    dice = torch.Generator().manual_seed(100 * run.seed)
    config = WorldConfig(items=ITEMS, order=run.order, weeks=WEEKS)
    if run.kind in ("split", "more"):
        config = replace(config, items=CATALOG, fading=run.value)
    return World(config, dice), dice


def cold(methods: dict[str, Recommender], world: World, clicks: Clicks) -> dict[str, list[float]]:
    """HR@10 of test users of whom only the last 0, 1, 2, 4, 8 or all clicks are known (the rest is excluded all the same)."""
    histories, targets = clicks.items[:, :-1], clicks.items[:, -1]
    found = {name: [] for name in [*methods, "ceiling"]}
    for known in (0, 1, 2, 4, 8, LENGTH - 1):
        rows = histories.clone()
        rows[:, :LENGTH - 1 - known] = 0
        for name, method in methods.items():
            found[name].append(hits_at(target_ranks(method(rows), targets, histories), 10).mean().item())
        best = world.best(rows, clicks.times[:, :-1], clicks.times[:, -1])
        found["ceiling"].append(hits_at(target_ranks(best, targets, histories), 10).mean().item())
    return found


def dialed(run: Run, record: dict, steps: int = STEPS) -> dict:
    """Each method at one value of the dial: settings tried on development users, scores on test users."""
    world, dice = world_of(run)
    rows = world.draw(USERS, LENGTH, dice).items
    development, test = world.draw(DEVELOPMENT, LENGTH, dice), world.draw(TEST, LENGTH, dice)
    methods, trials, picked = {}, {}, {}
    for name in names_of(run):
        settings = METHODS[name]
        if run.seed:
            methods[name] = make(name, chosen(record, run.order, name), rows, ITEMS, run.seed, steps)
            continue
        made = [make(name, setting, rows, ITEMS, run.seed, steps) for setting in settings]
        histories, targets = development.items[:, :-1], development.items[:, -1]
        trials[name] = [hits_at(target_ranks(each(histories), targets, histories), 10).mean().item() for each in made]
        picked[name] = max(range(len(made)), key=trials[name].__getitem__)
        methods[name] = made[picked[name]]
    histories, targets = test.items[:, :-1], test.items[:, -1]
    scores = {name: judged(each(histories), targets, histories, run.seed) for name, each in methods.items()}
    best = world.best(histories, test.times[:, :-1], test.times[:, -1])
    scores["ceiling"] = judged(best, targets, histories, run.seed)
    return {"scores": scores, "cold": cold(methods, world, test)} | ({"trials": trials, "chosen": picked} if trials else {})


def curve_of(run: Run) -> tuple[Tensor, Tensor, Tensor]:
    """Clicks (U, T) to learn from, to choose by, to be judged by; the first 2,000 users and the rest are those of `dialed`."""
    world, dice = world_of(run)
    rows = world.draw(USERS, LENGTH, dice).items
    development, test = world.draw(DEVELOPMENT, LENGTH, dice).items, world.draw(TEST, LENGTH, dice).items
    return torch.cat([rows, world.draw(round(1000 * run.value) - USERS, LENGTH, dice).items]), development, test


def hit_rate(scores: Tensor, rows: Tensor) -> float:
    """HR@10 of the last item of rows (B, T), where all before it is known."""
    return hits_at(target_ranks(scores, rows[:, -1], rows[:, :-1]), 10).mean().item()


def curve_counts(run: Run) -> dict:
    """What counts on the clicks of a curve: transitions, and both counts with the prior that is best on development users."""
    rows, development, test = curve_of(run)
    made = {prior: make("both", {"prior": prior}, rows, ITEMS, run.seed) for prior in PRIORS}
    tried = {prior: hit_rate(each(development[:, :-1]), development) for prior, each in made.items()}
    prior = max(tried, key=tried.__getitem__)
    transitions = make("transitions", METHODS["transitions"][0], rows, ITEMS, run.seed)
    return {"both": hit_rate(made[prior](test[:, :-1]), test), "prior": prior, "tried": tried,
            "transitions": hit_rate(transitions(test[:, :-1]), test)}


def curved(run: Run) -> dict:
    """SASRec at every 400 steps of a long training: hits on test users shown one click or all, the lists that differ, the loss.

    Beside the plain form what counts, on the same clicks.
    """
    rows, development, test = curve_of(run)
    histories = test[:, :-1]

    def first_ten(scores: Tensor) -> Tensor:
        scores = scores.scatter(1, histories, -torch.inf)
        scores[:, 0] = -torch.inf
        return scores.topk(10).indices.sort(1).values  # (B, 10)

    def look(model: nn.Module) -> dict:
        short = histories.clone()
        short[:, :-LOOKS[0]] = 0
        few, full = model.next_scores(short), model.next_scores(histories)
        changed = (first_ten(few) != first_ten(full)).any(1).double().mean().item()
        return {"one": hit_rate(few, test), "all": hit_rate(full, test), "changed": changed,
                "loss": next_item_loss(model, (test,)).item(),
                "development": hit_rate(model.next_scores(development[:, :-1]), development)}

    form = FORMS[run.kind]
    steps = LONG // 2 if form else LONG
    course = sasrec(rows, ITEMS, run.seed, steps=steps, until=steps, evaluate=look, **form)[1]
    return ({} if form else {"counts": curve_counts(run)}) | {"course": [found for _, found in course]}


# -- splits --------------------------------------------------------------------------------------------------------------


class Split(NamedTuple):
    """What is trained on, and for each tested user the history, the item to be found, and when."""

    rows: Tensor  # (U, T)
    histories: Tensor  # (B, T)
    times: Tensor  # (B, T)
    targets: Tensor  # (B,)
    when: Tensor  # (B,)


def split(clicks: Clicks, kind: str, dice: torch.Generator) -> Split:
    """What is known at the week TODAY, split in one of four ways; or, as `truth`, all of it and the first click afterward.

    random: any click but a user's first is the target, what came before it is the history, all else is trained on.
    last: the last click is the target. time: what came before the week BEFORE is trained on, the next click is the target.
    leak: the targets and histories of `time`, but all else that is known is trained on, too.
    """
    rows, tested = [], []
    for items, times in zip(clicks.items.tolist(), clicks.times.tolist(), strict=True):
        known, early = (sum(moment < week for moment in times) for week in (TODAY, BEFORE))
        at = {"random": int(torch.randint(1, max(known, 2), (1,), generator=dice)), "last": max(known - 1, 0),
              "truth": known}.get(kind, early)
        rows.append(items[:at] + (items[at + 1:known] if kind in ("random", "leak") else []))
        if 1 <= at < (len(items) if kind == "truth" else known):
            tested.append((items[:at], times[:at], items[at], times[at]))
    histories, moments, targets, when = zip(*tested, strict=True)
    filled = torch.zeros(len(tested), CLICKS, dtype=torch.float64)
    for row, some in zip(filled, moments, strict=True):
        row[CLICKS - len(some):] = torch.tensor(some)
    return Split(fill_left(rows, CLICKS), fill_left(list(histories), CLICKS), filled, torch.tensor(targets),
                 torch.tensor(when, dtype=torch.float64))


def splits(run: Run, record: dict, steps: int = STEPS) -> dict:
    """Each method judged by each split, on the same clicks; and how many of the targets the training has not."""
    world, dice = world_of(run)
    clicks = world.draw(USERS, CLICKS, dice)
    names = names_of(run)
    found = {}
    for kind in ("random", "last", "time", "leak", "truth"):
        part = split(clicks, kind, dice)
        known = part.rows.unique()
        known = known[known > 0]

        def score(guess: Tensor, part: Split = part, known: Tensor = known) -> dict[str, float]:
            return judged(guess, part.targets, part.histories, run.seed, known)

        scores = {name: score(make(name, chosen(record, run.order, name), part.rows, CATALOG, run.seed, steps)(part.histories))
                  for name in names}
        best = world.best(part.histories, part.times, part.when)
        scores["ceiling"] = judged(best, part.targets, part.histories, run.seed)
        new = (~torch.isin(part.targets, known)).double().mean().item()
        found[kind] = {"users": len(part.targets), "new": new, "scores": scores}
    return found


def more_clicks(part: Split, leaky: Split, others: Tensor) -> Split:
    """`part` with as many clicks to learn from as `leaky` has, those that it lacks from rows (U, T) of other users."""
    lacking = int((leaky.rows > 0).sum() - (part.rows > 0).sum())
    enough = int(((others > 0).sum(1).cumsum(0) < lacking).sum()) + 1
    return part._replace(rows=torch.cat([part.rows, others[:enough]]))


def with_more(run: Run, record: dict) -> dict:
    """Each method judged by the split by time, with the clicks before the cut of more users."""
    world, dice = world_of(run)
    clicks = world.draw(USERS, CLICKS, dice)
    part, leaky = (split(clicks, kind, dice) for kind in ("time", "leak"))
    others = split(world.draw(USERS, CLICKS, dice), "time", dice).rows
    part = more_clicks(part, leaky, others)
    known = part.rows.unique()
    known = known[known > 0]
    return {"users": len(part.rows), "scores": {name: judged(
        make(name, chosen(record, run.order, name), part.rows, CATALOG, run.seed)(part.histories), part.targets,
        part.histories, run.seed, known) for name in names_of(run)}}


# -- the loop ------------------------------------------------------------------------------------------------------------


def looped(run: Run) -> dict:
    """Rounds in which ten items are shown to each user, one is taken, and the log of all rounds is learned from.

    Each place of the ten is, with the share explored, any unseen item. A user takes one of the ten by taste. In the control the
    same ten are judged, but the click is a free choice among all. For each round: what the log says (the share of clicks on the
    model's first ten), the truth (the probability that a free choice is among the ten shown; and among the model's own ten),
    and how equal what is shown is.
    """
    world, dice = world_of(run)
    start = world.draw(LOOP_USERS, 3, dice)
    log, course = start.items, []
    weight = torch.ones(LOOP_USERS, ITEMS + 1, dtype=torch.float64)
    weight[:, 0] = 0
    for _ in range(ROUNDS):
        model = Factorization(log, ITEMS, factors=8, weight=5.0, penalty=1.0, generator=dice)
        unseen = weight.scatter(1, log, 0.0)
        free = world.probabilities(start.types, log[:, -1], unseen)  # (U, I + 1)
        own = model(log).masked_fill(unseen == 0, -torch.inf).topk(SHOWN).indices  # (U, 10)
        others = unseen.scatter(1, own, 0.0).multinomial(SHOWN, generator=dice)
        shown = torch.where(torch.rand(own.shape, generator=dice) < run.value, others, own)
        offered = free.gather(1, shown)  # (U, 10)
        taken = shown.gather(1, (offered + 1e-12).multinomial(1, generator=dice))
        click = free.multinomial(1, generator=dice) if run.control else taken  # (U, 1)
        course.append({"log": (own == click).any(1).double().mean().item(), "shown": offered.sum(1).mean().item(),
                       "model": free.gather(1, own).sum(1).mean().item(), "best": free.topk(SHOWN).values.sum(1).mean().item(),
                       "gini": gini(torch.bincount(shown.flatten(), minlength=ITEMS + 1)[1:])})
        log = torch.cat([log, click], 1)
    return {"course": course}


# ------------------------------------------------------------------------------------------------------------------------


def perform(run: Run, record: dict) -> dict:
    if run.kind == "loop":
        return looped(run)
    if run.kind in FORMS:
        return curved(run)
    if run.kind == "more":
        return with_more(run, record)
    return (splits if run.kind == "split" else dialed)(run, record)


def first_losses(steps: int = 5) -> list[float]:
    """The first losses of SASRec at one half, world 0, by which a repetition is known."""
    world, dice = world_of(Run("net", 0, 0.5))
    return sasrec(world.draw(USERS, LENGTH, dice).items, ITEMS, 0, steps=steps)[1]


def begin() -> dict:
    settings = {"items": ITEMS, "length": LENGTH, "users": USERS, "test": TEST, "steps": STEPS, "methods": METHODS}
    return {"settings": settings, **surroundings(), "first": rounded(first_losses()), "runs": []}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("record", type=Path, help="JSON file to write, or to go on with")
    path = parser.parse_args().record
    record = open_record(path, begin)
    for run in missing(runs(), record):
        began = time.process_time()
        found = rounded(perform(run, record))
        record["runs"].append(run._asdict() | found | {"seconds": round(time.process_time() - began, 1)})
        write_record(path, record)
        print(run, record["runs"][-1]["seconds"], flush=True)


if __name__ == "__main__":
    main()
