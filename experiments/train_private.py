"""Digits learned by a federation, with differential privacy, and under attack: four sets of runs, three seeds each.

    OMP_NUM_THREADS=1 python experiments/train_private.py experiments/records/private.json

The model is the same everywhere: digits of 14 by 14 pixels, one hidden layer of 64. A federation has ten clients. A private
run is DP-SGD on so many digits; of the kind homes are federations in which each client adds the noise itself. An attack
trains 32 models, each on a random half of 600 digits, of which 60 bear a wrong label, and lets two attackers bet, for each
model and digit, on whether it was in. Often is a federation that averages after every single step. The record is written
after every run; a second call goes on where it stopped.
"""

import argparse
import math
import time
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from tutorlib.data.digits import load_digits, pooled
from tutorlib.evaluation.attacks import confidence, membership_ratio
from tutorlib.evaluation.classification import accuracy
from tutorlib.models import MLP
from tutorlib.records import complete, open_record, rounded, surroundings, write_record
from tutorlib.training.federated import Client, average, deal, federate, local_update
from tutorlib.training.privacy import epsilon, noise_for, per_sample_gradients, private_gradient, train_privately

SIZES, SEEDS = (196, 64, 10), (0, 1, 2)
CLIENTS, ROUNDS, LOST_FROM = 10, 30, 10  # a client that is lost answers no more from that round on
BATCHES = {300: 100, 600: 100, 1000: 250, 4000: 512}  # expected size of a private batch, by the number of digits
OFTEN = 390  # rounds of one step of 32: as many steps at home as in 30 passes over 400 digits
STEPS, CLIP, RATE, DELTA = 150, 0.5, 2.0, 1e-4
POOL, ODD, MODELS = 600, 60, 32  # digits that may be in, those of them with a wrong label, models
PLAIN_STEPS, STOPPED, PLAIN_RATE = 300, 30, 0.1  # of SGD with momentum .9 and batches of 100
CUT_STOPPED = 60  # private steps without noise, for the arm that is cut and stopped


class Run(NamedTuple):
    """`kind` federation: labels of a client, local epochs, pull, is a client lost. `kind` private, homes or attack: arm."""

    kind: str
    seed: int
    each: int | None = None
    epochs: int = 1
    proximal: float = 0.0
    lost: bool = False
    digits: int = 4000
    arm: str = ""  # "plain", "stopped", "clipped" (no noise), "clipped, stopped", or epsilon


def runs() -> list[Run]:
    """Seed by seed, so that what is there at any time is whole comparisons."""
    planned = []
    for seed in SEEDS:
        planned += [Run("federation", seed, each, epochs) for each in (None, 2, 1) for epochs in (1, 5)]
        planned += [Run("federation", seed, each, 5, proximal) for each in (2, 1) for proximal in (0.01, 0.1, 1.0)]
        planned += [Run("federation", seed, each, lost=True) for each in (None, 2, 1)]
        planned += [Run("central", seed), Run("alone", seed), Run("alone", seed, 2)]
        planned += [Run("private", seed, digits=digits, arm=arm) for digits in (300, 1000, 4000)
                    for arm in ("plain", "clipped", "8", "3", "1")]
        planned += [Run("attack", seed, digits=POOL, arm=arm) for arm in ("plain", "stopped", "clipped", "30", "8", "1")]
        planned += [Run("attack", seed, digits=POOL, arm="clipped, stopped")]
        planned += [Run("homes", seed, 2, arm=arm) for arm in ("clipped", "8", "1")]
        planned += [Run("often", seed, each) for each in (None, 2, 1)]
    return planned


# -- data and model ----------------------------------------------------------------------------------------------------


@cache
def digits() -> tuple[Client, Client]:
    """To train on and to test on: images (N, 196), each number the mean of two by two pixels, and labels."""
    return tuple(Client(pooled(part.images), part.labels) for part in load_digits())


def new_model(seed: int) -> MLP:
    torch.manual_seed(seed)
    return MLP(SIZES)


def right(model: nn.Module) -> float:
    """The share of test digits."""
    return accuracy(model, *digits()[1])


def fit_plainly(model: MLP, own: Client, steps: int, seed: int) -> None:
    """SGD with momentum, batches with replacement."""
    optimizer, dice = torch.optim.SGD(model.parameters(), lr=PLAIN_RATE, momentum=0.9), torch.Generator().manual_seed(seed)
    for _ in range(steps):
        rows = torch.randint(len(own.targets), (100,), generator=dice)
        optimizer.zero_grad()
        F.cross_entropy(model(own.inputs[rows]), own.targets[rows]).backward()
        optimizer.step()


# -- a federation ------------------------------------------------------------------------------------------------------


def clients_of(run: Run) -> list[Client]:
    train = digits()[0]
    if run.kind == "central":
        return [train]
    owned = deal(train.targets, CLIENTS, run.each, torch.Generator().manual_seed(run.seed))
    return [Client(train.inputs[rows], train.targets[rows]) for rows in owned]


def federation(run: Run, rounds: int = ROUNDS) -> dict:
    """The share right and the bytes after each round; client 0 is the one that may be lost."""
    clients = clients_of(run)
    present = {"alone": lambda turn: [0], "central": None}.get(
        run.kind, lambda turn: range(int(run.lost and turn >= LOST_FROM), len(clients)))
    found = federate(new_model(run.seed), clients, rounds=rounds, rate=0.1, epochs=run.epochs, proximal=run.proximal,
                     seed=run.seed, present=present, score=right)
    return {"right": found.scores, "bytes": found.bytes}


def often(run: Run, rounds: int = OFTEN) -> dict:
    """A federation whose homes take one step of 32 a round, so that nothing drifts before it is averaged."""
    model, clients, dice = new_model(run.seed), clients_of(run), torch.Generator().manual_seed(run.seed)
    weights = parameters_to_vector(model.parameters()).detach()
    for _ in range(rounds):
        drawn = [torch.randperm(len(own.targets), generator=dice)[:32] for own in clients]
        sent = [local_update(model, weights, Client(own.inputs[rows], own.targets[rows]), rate=0.1, epochs=1, batch_size=32,
                             generator=dice) for own, rows in zip(clients, drawn)]
        weights = average(sent, [len(own.targets) for own in clients])
    vector_to_parameters(weights, model.parameters())
    return {"right": right(model)}


# -- with differential privacy -----------------------------------------------------------------------------------------


def noise_of(arm: str, count: int) -> float:
    return 0.0 if arm.startswith("clipped") else noise_for(float(arm), BATCHES[count] / count, STEPS, DELTA)


def fit(run: Run, model: MLP, own: Client, seed: int, noise: float | None = None, steps: int = STEPS) -> None:
    """As the arm says; `run.digits` is the number that is public, from which the rate of sampling comes."""
    if run.arm in ("plain", "stopped"):
        return fit_plainly(model, own, STOPPED if run.arm == "stopped" else PLAIN_STEPS, seed)
    return train_privately(model, own.inputs, own.targets, steps=steps, sample_rate=BATCHES[run.digits] / run.digits,
                           clip_norm=CLIP, noise=noise_of(run.arm, run.digits) if noise is None else noise, rate=RATE,
                           generator=torch.Generator().manual_seed(seed))


def private(run: Run) -> dict:
    train = digits()[0]
    rows = torch.randperm(len(train.targets), generator=torch.Generator().manual_seed(run.seed))[:run.digits]
    model = new_model(run.seed)
    fit(run, model, Client(train.inputs[rows], train.targets[rows]), run.seed)
    found = {"right": right(model)}
    if run.arm not in ("plain", "clipped"):
        noise, sample_rate = noise_of(run.arm, run.digits), BATCHES[run.digits] / run.digits
        found |= {"noise": noise, "epsilon": epsilon(sample_rate, noise, STEPS, DELTA)}
    return found


def homes(run: Run, steps: int = STEPS) -> dict:
    """A federation whose server may see nothing either: in each round every home sends its own private gradient."""
    model, clients = new_model(run.seed), clients_of(run)
    noise, sample_rate = noise_of(run.arm, run.digits), BATCHES[run.digits] / run.digits
    dice = torch.Generator().manual_seed(run.seed)
    for _ in range(steps):
        sent = []
        for own in clients:
            drawn = torch.rand(len(own.targets), generator=dice) < sample_rate
            rows = per_sample_gradients(model, own.inputs[drawn], own.targets[drawn])
            sent.append(private_gradient(rows, CLIP, noise, sample_rate * len(own.targets), dice))
        weights = parameters_to_vector(model.parameters()).detach()
        vector_to_parameters(weights - RATE * average(sent, [len(own.targets) for own in clients]), model.parameters())
    return {"right": right(model), "noise": noise}


# -- under attack ------------------------------------------------------------------------------------------------------


def pool_of(seed: int) -> tuple[Client, Tensor, Tensor]:
    """600 digits, which of them bear a wrong label (N,), and who is in which model (K, N), by coins."""
    train, dice = digits()[0], torch.Generator().manual_seed(seed)
    rows = torch.randperm(len(train.targets), generator=dice)[:POOL]
    labels, odd = train.targets[rows].clone(), torch.arange(POOL) < ODD
    labels[odd] = (labels[odd] + torch.randint(1, 10, (ODD,), generator=dice)) % 10
    return Client(train.inputs[rows], labels), odd, torch.rand(MODELS, POOL, generator=dice) < 0.5


def bets(scores: Tensor, member: Tensor) -> dict[str, Tensor]:
    """Which bets are won (K, N): by the median of a model's own scores, and by the ratio that the other models give."""
    others = [torch.arange(len(scores)) != k for k in range(len(scores))]
    ratios = torch.stack([membership_ratio(scores[k], scores[o], member[o]) for k, o in enumerate(others)])
    return {"median": (scores > scores.median(1, keepdim=True).values) == member, "ratio": (ratios > 0) == member}


def attack(run: Run, models: int = MODELS) -> dict:
    pool, odd, member = pool_of(run.seed)
    noise, scores, tested = None, [], []
    if run.arm not in ("plain", "stopped"):
        noise = noise_of(run.arm, run.digits // 2)  # about half of the pool is in
    for number in range(models):
        model, chosen = new_model(1000 * run.seed + number), member[number]
        fit(run._replace(digits=POOL // 2), model, Client(pool.inputs[chosen], pool.targets[chosen]), number, noise,
            CUT_STOPPED if run.arm == "clipped, stopped" else STEPS)
        with torch.no_grad():
            scores.append(confidence(model(pool.inputs), pool.targets))
        tested.append(right(model))
    won = bets(torch.stack(scores), member[:models])
    return {"right": sum(tested) / models} | {
        f"{name}, {whose}": won[name][:, mask].double().mean().item() for name in won
        for whose, mask in {"usual": ~odd, "odd": odd}.items()}


def worst_case(target: float, draws: int = 20_000) -> float:
    """Even bets won, of drawn ones, by an attacker who sees every noised step and knows the example, whose gradient always has
    the full norm in a direction of its own. Nobody who sees less can do better."""
    rate, dice = BATCHES[POOL // 2] / (POOL // 2), torch.Generator().manual_seed(0)
    noise = noise_for(target, rate, STEPS, DELTA)
    member = torch.rand(draws, generator=dice) < 0.5
    taken = member[:, None] & (torch.rand(draws, STEPS, generator=dice) < rate)
    seen = taken + noise * torch.randn(draws, STEPS, generator=dice)
    ratio = torch.logaddexp(torch.tensor(math.log(1 - rate)), math.log(rate) + (2 * seen - 1) / (2 * noise**2)).sum(1)
    return ((ratio > 0) == member).double().mean().item()


PERFORM = {"federation": federation, "central": federation, "alone": federation, "private": private, "homes": homes,
           "often": often, "attack": attack}


def perform(run: Run) -> dict:
    start = time.process_time()
    found = rounded(PERFORM[run.kind](run))
    return run._asdict() | found | {"seconds": round(time.process_time() - start, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("record", type=Path, help="JSON file to write, or to go on with")
    path = parser.parse_args().record
    settings = {"sizes": SIZES, "clients": CLIENTS, "rounds": ROUNDS, "lost_from": LOST_FROM, "steps": STEPS, "clip": CLIP,
                "rate": RATE, "delta": DELTA, "batches": BATCHES, "pool": POOL, "odd": ODD, "models": MODELS,
                "cut_stopped": CUT_STOPPED, "often": OFTEN}
    record = open_record(path, lambda: {"settings": settings, **surroundings(), "runs": []})
    record["settings"] = settings
    complete(path, record, runs(), perform)
    if "worst" not in record:
        record["worst"] = {target: round(worst_case(float(target)), 4) for target in ("30", "8", "1")}
        write_record(path, record)


if __name__ == "__main__":
    main()
