"""Digits learned while they are used: under drift, one half after the other, and with early exits; three seeds each.

    OMP_NUM_THREADS=1 python experiments/learn_in_use.py experiments/records/adaptive.json

Drift and forgetting: digits of 14 by 14 pixels, one hidden layer of 64. A stream shows 3,000 digits in 60 batches; after the
first ten batches they are turned, a little more in each batch. Every batch is answered before its labels are learned from.
Exits: digits of 28 by 28, three convolutions with a classifier behind each, and narrower networks with one exit. The record is
written after every run; a second call goes on where it stopped.
"""

import argparse
import time
from collections import deque
from collections.abc import Iterator
from functools import cache
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tutorlib.data.digits import load_digits, pooled
from tutorlib.models import MLP
from tutorlib.records import complete, open_record, rounded, surroundings
from tutorlib.training.augmentation import turn

SIZES, SEEDS = (196, 64, 10), (0, 1, 2)
KNOWN, BATCHES, BATCH, STILL = 1500, 60, 50, 10  # digits to learn first; batches of the stream; those before the turning
STEPS, RATE, WINDOW = 15, 0.3, 500  # of SGD a batch; labels that a window holds
FIRST_STEPS, FIRST_RATE, OLD = 300, 0.1, 5  # of SGD with momentum on what is learned in one go; digits below 5 come first
CHANNELS, EPOCHS, THRESHOLDS = (8, 16, 32), 8, (0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999)
AFRESH_STEPS = 100  # of SGD with momentum after each batch, for those who study the window at length
WATCHED = (*range(21), 30, 50, 100, 200, 300)  # steps of the second lesson after which it is tested
OFFSETS = [float(k) for k in range(61)]  # numbers taken from the logits of the new digits
NARROW, DIAL = (2, 3, 4, 5, 6, 7, 8), 0.8  # maps of the first convolution, of which there follow twice and four times as many
LAST_ONLY = {"first alone": 0, "second alone": 1, "third alone": 2}  # the exit whose loss alone is trained


class Run(NamedTuple):
    """`kind` drift: who answers, degrees turned at the end, batches until labels come. `kind` forgetting or exits: the arm."""

    kind: str
    seed: int
    arm: str = ""
    turn: int = 0
    delay: int = 0
    memory: int = 0  # digits kept of the old half


def runs() -> list[Run]:
    """Seed by seed, so that what is there at any time is whole comparisons."""
    planned = []
    for seed in SEEDS:
        planned += [Run("drift", seed, arm, turn) for turn in (0, 30, 90) for arm in ANSWERERS]
        planned += [Run("alarm", seed, arm, 90) for arm in ("frozen", "own")]
        planned += [Run("drift", seed, arm, 90, delay) for delay in (5, 20) for arm in ("online", "neighbor", "longer")]
        planned += [Run("forgetting", seed, arm) for arm in ("plain", "frozen", "rows", "restored", "both")]
        planned += [Run("course", seed, arm) for arm in ("plain", "frozen", "rows")]
        planned += [Run("forgetting", seed, arm, memory=memory) for arm in ("replay", "neighbor") for memory in (10, 50, 200)]
        planned += [Run("forgetting", seed, arm, memory=2000) for arm in ("means", "pixel means")]
        planned += [Run("refit", seed, arm) for arm in ("after", "before", "untrained", "pixels")]
        planned += [Run(kind, seed, arm) for kind in ("offset", "sweep") for arm in ("plain", "rows")]
        planned += [Run("exits", seed, turn=turn) for turn in (0, 45)]
        planned += [Run("exits", seed, arm) for arm in LAST_ONLY] + [Run("exits", seed, "second alone", 45)]
        planned += [Run("narrow", seed, str(maps), turn) for turn in (0, 45) for maps in NARROW]
        planned += [Run("leaving", seed, turn=turn) for turn in (0, 15, 30, 45)] + [Run("time", seed)]
    return planned


# -- data and model ----------------------------------------------------------------------------------------------------


def turned(images: Tensor, degrees: float) -> Tensor:
    """Images (N, 1, H, W), all by the same angle; what comes from outside is paper."""
    return turn(images, torch.full((len(images),), float(degrees)))


@cache
def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """To train on and to test on: images (N, 1, 28, 28) and labels (N,)."""
    train, test = load_digits()
    return train.images, train.labels, test.images, test.labels


def new_model(seed: int) -> MLP:
    torch.manual_seed(seed)
    return MLP(SIZES)


def fit(model: nn.Module, x: Tensor, y: Tensor, seed: int, steps: int = FIRST_STEPS, weights=None, after_step=None) -> None:
    """SGD with momentum on batches of 100, drawn with replacement, by `weights` (N,) where they are given.

    `after_step` is called with the number of steps taken, from 0 on.
    """
    dice = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD([w for w in model.parameters() if w.requires_grad], lr=FIRST_RATE, momentum=0.9)
    weights = torch.ones(len(y)) if weights is None else weights
    for step in range(steps + 1):
        if after_step:
            after_step(step)
        if step < steps:
            rows = torch.multinomial(weights, 100, replacement=True, generator=dice)
            optimizer.zero_grad()
            F.cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()


def learn(model: nn.Module, x: Tensor, y: Tensor, steps: int = STEPS, rate: float = RATE) -> None:
    """Some steps of SGD on all of one batch."""
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()


# -- drift -------------------------------------------------------------------------------------------------------------


def start(seed: int) -> tuple[MLP, Tensor, Tensor, Tensor, Tensor]:
    """A model that knows 1,500 upright digits, these (N, 196) with labels, and 3,000 others (M, 1, 28, 28) with theirs."""
    images, labels, more, their = digits()
    images, labels = torch.cat([images, more]), torch.cat([labels, their])
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    first, then = order[:KNOWN], order[KNOWN:KNOWN + BATCHES * BATCH]
    model = new_model(seed)
    fit(model, pooled(images[first]), labels[first], seed)
    return model, pooled(images[first]), labels[first], images[then], labels[then]


def angle(t: int, turn: float) -> float:
    """Degrees in batch t: none in the first ten, `turn` in the last."""
    return turn * max(0, t - STILL + 1) / (BATCHES - STILL)


class Frozen:
    """Answers, and learns nothing."""

    def __init__(self, model: nn.Module, x: Tensor, y: Tensor):
        self.model, self.x, self.y = model, x[-WINDOW:], y[-WINDOW:]

    @torch.no_grad()
    def answer(self, x: Tensor) -> Tensor:
        return self.model(x).argmax(-1)

    def learn(self, x: Tensor, y: Tensor) -> None:
        pass


class Online(Frozen):
    """A few steps on each batch."""

    rate = RATE

    def learn(self, x: Tensor, y: Tensor) -> None:
        learn(self.model, x, y, rate=self.rate)


class OnlineTenth(Online):
    """The same number of steps, smaller ones."""

    rate = 0.1


class OnlineThirtieth(Online):
    """Smaller still."""

    rate = 0.03


class Own(Online):
    """The same steps, on its own answers; the labels are not looked at."""

    def learn(self, x: Tensor, y: Tensor) -> None:
        learn(self.model, x, self.answer(x))


class Window(Frozen):
    """Keeps the last 500 labeled digits; after each batch, as many steps on these."""

    def learn(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y = torch.cat([self.x, x])[-WINDOW:], torch.cat([self.y, y])[-WINDOW:]
        self.study()

    def study(self) -> None:
        learn(self.model, self.x, self.y, STEPS)


class Longer(Window):
    """The same window; a hundred steps on it after each batch, from where the weights are."""

    def study(self) -> None:
        fit(self.model, self.x, self.y, seed=0, steps=AFRESH_STEPS)


class Afresh(Longer):
    """The same hundred steps, from new weights each time."""

    def study(self) -> None:
        self.model = new_model(0)
        super().study()


class Neighbor(Window):
    """No network: the label of the nearest of the last 500."""

    def answer(self, x: Tensor) -> Tensor:
        return self.y[torch.cdist(x, self.x).argmin(1)]

    def study(self) -> None:
        pass


class Mean(Neighbor):
    """No network: the nearest mean of the last 500, a mean for each digit."""

    def answer(self, x: Tensor) -> Tensor:
        return nearest_mean(x, self.x, self.y)


ANSWERERS = {"frozen": Frozen, "online": Online, "own": Own, "window": Window, "neighbor": Neighbor, "mean": Mean,
             "online .1": OnlineTenth, "online .03": OnlineThirtieth, "longer": Longer, "afresh": Afresh}


def nearest_mean(x: Tensor, known: Tensor, labels: Tensor) -> Tensor:
    """The label (N,) of the nearest of the means of `known` (M, n), one for each label that occurs."""
    kinds = labels.unique()
    means = torch.stack([known[labels == kind].mean(0) for kind in kinds])  # (K, n)
    return kinds[torch.cdist(x, means).argmin(1)]


def drift(run: Run) -> dict:
    """Of each batch, before it is learned: the share right, and a network's mean largest probability. Labels come later.

    Of an alarm: the share whose largest probability reaches the threshold, too.
    """
    model, x, y, images, labels = start(run.seed)
    who, waiting, right, sure, above = ANSWERERS[run.arm](model, x, y), deque(), [], [], []
    for t, rows in enumerate(torch.arange(len(labels)).split(BATCH)):
        seen = pooled(turned(images[rows], angle(t, run.turn)))
        right.append((who.answer(seen) == labels[rows]).float().mean().item())
        with torch.no_grad():
            largest = who.model(seen).softmax(-1).amax(-1)  # (50,)
        sure.append(largest.mean().item())
        above.append((largest >= DIAL).float().mean().item())
        waiting.append((seen, labels[rows]))
        if len(waiting) > run.delay:
            who.learn(*waiting.popleft())
    if run.kind == "alarm":
        return {"above": above}
    return {"right": right} | ({} if run.arm in ("neighbor", "mean") else {"sure": sure})


# -- forgetting --------------------------------------------------------------------------------------------------------


def halves() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Digits (N, 196) and labels to train on, the same to test on."""
    images, labels, test, their = digits()
    return pooled(images), labels, pooled(test), their


@cache
def first_half(seed: int) -> dict[str, Tensor]:
    """What a model has learned from the digits 0 to 4."""
    x, y, _, _ = halves()
    model = new_model(seed)
    fit(model, x[y < OLD], y[y < OLD], seed)
    return model.state_dict()


def knows_first_half(seed: int) -> MLP:
    model = new_model(seed)
    model.load_state_dict(first_half(seed))
    return model


def features(model: MLP, x: Tensor) -> Tensor:
    """(N, 196) -> (N, 64): what the last layer gets."""
    with torch.no_grad():
        return model.activation(model.layers[0](x))


def judge(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Right on old and new digits, of ten and, told which half it is, of five."""
    old, ten = labels < OLD, logits.argmax(-1)
    five = torch.where(old, logits[:, :OLD].argmax(-1), OLD + logits[:, OLD:].argmax(-1))
    return {f"{half}, {name}": (said == labels)[mask].float().mean().item()
            for half, mask in {"old": old, "new": ~old}.items() for name, said in {"ten": ten, "five": five}.items()}


def judge_answers(said: Tensor, labels: Tensor) -> dict[str, float]:
    """Right on old and new digits, of answers (N,)."""
    return {f"{half}, ten": (said == labels)[mask].float().mean().item()
            for half, mask in {"old": labels < OLD, "new": labels >= OLD}.items()}


def kept(seed: int, memory: int, start: int = 0) -> Tensor:
    """Rows of the digits from `start` to `start + 4` that are remembered, as many of each."""
    _, y, _, _ = halves()
    rows = [torch.nonzero(y == kind).flatten() for kind in range(start, start + OLD)]
    dice = torch.Generator().manual_seed(seed)
    return torch.cat([own[torch.randperm(len(own), generator=dice)[:memory // OLD]] for own in rows])


def second_half(run: Run, after_step=None) -> MLP:
    """Then the digits 5 to 9: alone, or with a memory from which half of each batch is drawn.

    `after_step` is called with the number of steps taken and the model.
    """
    x, y, _, _ = halves()
    model, new = knows_first_half(run.seed), torch.nonzero(y >= OLD).flatten()
    watch = None if after_step is None else lambda step: after_step(step, model)
    before = [w.detach()[:OLD].clone() for w in model.layers[-1].parameters()]
    if run.arm in ("frozen", "rows"):
        model.layers[0].requires_grad_(False)
    if run.arm == "rows":  # the old rows of the last layer stay as well
        for w in model.layers[-1].parameters():
            w.register_hook(lambda gradient: torch.cat([torch.zeros_like(gradient[:OLD]), gradient[OLD:]]))
    rows, weights = new, None
    if run.arm == "replay":
        memory = kept(run.seed, run.memory)
        rows = torch.cat([new, memory])
        weights = torch.cat([torch.full((len(new),), 1 / len(new)), torch.full((len(memory),), 1 / len(memory))])
    if run.arm == "both":
        rows = torch.arange(len(y))
    fit(model, x[rows], y[rows], run.seed + 100, weights=weights, after_step=watch)
    if run.arm == "restored":  # the old rows of the last layer as they were, on the new features
        with torch.no_grad():
            for w, old in zip(model.layers[-1].parameters(), before, strict=True):
                w[:OLD] = old
    return model


def forgetting(run: Run) -> dict:
    x, y, test, their = halves()
    if run.arm == "neighbor":  # as many new digits are kept as old ones
        rows = torch.cat([kept(run.seed, run.memory), kept(run.seed, run.memory, OLD)])
        return judge_answers(y[rows][torch.cdist(test, x[rows]).argmin(1)], their)
    if run.arm == "pixel means":
        return judge_answers(nearest_mean(test, x, y), their)
    if run.arm == "means":  # in the features that the first half left
        model = knows_first_half(run.seed)
        return judge_answers(nearest_mean(features(model, test), features(model, x), y), their)
    model = second_half(run)
    with torch.no_grad():
        return judge(model(test), their)


def course(run: Run) -> dict:
    """The second lesson step by step; and what the old digits would be worth with one half of the rows as it was."""
    _, _, test, their = halves()
    first = knows_first_half(run.seed)
    found = []

    @torch.no_grad()
    def look(step: int, model: MLP) -> None:
        if step not in WATCHED:
            return
        state, logits = features(model, test), model(test)
        as_it_was = first.layers[-1](state)  # the old last layer, on the features of now
        no_claim = torch.cat([logits[:, :OLD], as_it_was[:, OLD:]], 1)
        old_back = torch.cat([as_it_was[:, :OLD], logits[:, OLD:]], 1)
        found.append({"step": step} | judge(logits, their) | {
            "old, ten, new rows back": judge(no_claim, their)["old, ten"],
            "old, ten, old rows back": judge(old_back, their)["old, ten"],
            "old, five, old rows back": judge(old_back, their)["old, five"]})

    second_half(run, look)
    return {"course": found}


def few_of_each(seed: int) -> Tensor:
    """Rows of ten of each digit."""
    return torch.cat([kept(seed, 50), kept(seed, 50, OLD)])


def shifted(logits: Tensor, offset: float) -> Tensor:
    """The logits (N, 10) with one number taken from those of the new digits."""
    return torch.cat([logits[:, :OLD], logits[:, OLD:] - offset], 1)


def offset(run: Run) -> dict:
    """One number more, the best of 400 on ten of each digit: how much the new digits' logits are too high."""
    x, y, test, their = halves()
    model, rows = second_half(run), few_of_each(run.seed)
    with torch.no_grad():
        few, all_test = model(x[rows]), model(test)
    tried = torch.arange(400) * 0.1
    right = torch.stack([(shifted(few, o).argmax(-1) == y[rows]).float().mean() for o in tried])
    return judge(shifted(all_test, tried[right.argmax()]), their) | {"offset": tried[right.argmax()].item()}


def sweep(run: Run) -> dict:
    """Right on old and on new digits, of ten, for each number taken from the new digits' logits."""
    _, _, test, their = halves()
    logits = second_half(run)(test).detach()
    judged = [judge(shifted(logits, number), their) for number in OFFSETS]
    return {half: [each[half] for each in judged] for half in ("old, ten", "new, ten")}


def refit(run: Run) -> dict:
    """A new last layer, fitted on ten of each digit, on the features of one network or another."""
    x, y, test, their = halves()
    rows = few_of_each(run.seed)
    body = {"after": lambda: second_half(Run("forgetting", run.seed, "plain")), "before": lambda: knows_first_half(run.seed),
            "untrained": lambda: new_model(run.seed), "pixels": lambda: None}[run.arm]()
    few, all_test = (inputs if body is None else features(body, inputs) for inputs in (x[rows], test))
    torch.manual_seed(run.seed)
    last = nn.Linear(few.shape[1], 10)
    fit(last, few, y[rows], run.seed)
    with torch.no_grad():
        return judge(last(all_test), their)


# -- early exits -------------------------------------------------------------------------------------------------------


class Exits(nn.Module):
    """Three convolutions, each with pooling, and a linear classifier behind each."""

    def __init__(self, channels: tuple[int, ...] = CHANNELS):
        super().__init__()
        self.convolutions = nn.ModuleList(
            nn.Conv2d(n, m, 3, padding=1) for n, m in zip((1, *channels), channels, strict=False))
        self.heads = nn.ModuleList(nn.Linear(m * 9, 10) for m in channels)

    def walk(self, images: Tensor) -> Iterator[tuple[Tensor, nn.Linear]]:
        """The states behind each convolution, (B, m, side / 2, side / 2), and the head there; computed when asked for."""
        states = images
        for convolution, head in zip(self.convolutions, self.heads, strict=True):
            states = F.max_pool2d(F.relu(convolution(states)), 2)
            yield states, head

    @staticmethod
    def read(states: Tensor, head: nn.Linear) -> Tensor:
        """(B, m, side, side) -> logits (B, 10)."""
        return head(F.adaptive_avg_pool2d(states, 3).flatten(1))

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 1, 28, 28) -> the logits (B, 10) of each exit."""
        return [self.read(states, head) for states, head in self.walk(images)]

    def first_sure(self, images: Tensor, threshold: float) -> Tensor:
        """(1, 1, 28, 28) -> the answer (1,) of the first exit that is sure; what lies behind it is not computed."""
        for states, head in self.walk(images):
            sure, answer = self.read(states, head).softmax(-1).max(-1)
            if sure >= threshold:
                break
        return answer

    def last(self, images: Tensor, layers: int | None = None) -> Tensor:
        """(B, 1, 28, 28) -> the answers (B,) behind so many layers, or behind all; no other exit is computed."""
        *_, (states, head) = islice(self.walk(images), layers)
        return self.read(states, head).argmax(-1)


def multiplications(channels: tuple[int, ...] = CHANNELS, side: int = 28) -> list[int]:
    """Multiply-adds of one image until it has left at exit 1, 2, 3; exits that it passes are paid for."""
    spent, found = 0, []
    for n, m in zip((1, *channels), channels, strict=False):
        spent += side * side * 9 * n * m + m * 9 * 10
        side //= 2
        found.append(spent)
    return found


def multiplications_alone(channels: tuple[int, ...] = CHANNELS) -> int:
    """Multiply-adds of a network that has the last exit only."""
    return multiplications(channels)[-1] - sum(90 * m for m in channels[:-1])


def widths(maps: int) -> tuple[int, ...]:
    """In the proportion of the whole network, 1 : 2 : 4."""
    return maps, 2 * maps, 4 * maps


@cache
def exits_trained(seed: int, only: int | None = None, channels: tuple[int, ...] = CHANNELS) -> Exits:
    """Trained by the sum of the three losses, or by that of one exit."""
    images, labels, _, _ = digits()
    torch.manual_seed(seed)
    model, dice = Exits(channels), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(labels), generator=dice).split(50):
            optimizer.zero_grad()
            losses = [F.cross_entropy(logits, labels[rows]) for logits in model(images[rows])]
            (sum(losses) if only is None else losses[only]).backward()
            optimizer.step()
    return model


def leave(logits: list[Tensor], threshold: float) -> Tensor:
    """The exit (N,) where each image leaves: the first whose largest probability reaches the threshold, or the last."""
    sure = torch.stack([each.softmax(-1).amax(-1) >= threshold for each in logits])  # (3, N)
    sure[-1] = True
    return sure.int().argmax(0)


def exits(run: Run) -> dict:
    """For each threshold: right, cost, who left where, early and rightly; the same with exits drawn at the same rates."""
    _, _, test, labels = digits()
    model = exits_trained(run.seed, LAST_ONLY.get(run.arm))
    with torch.no_grad():
        logits = model(turned(test, run.turn))
    if run.arm:
        return {"right": (logits[LAST_ONLY[run.arm]].argmax(-1) == labels).float().mean().item()}
    right = torch.stack([each.argmax(-1) == labels for each in logits]).double()  # (3, N)
    cost = torch.tensor(multiplications()).double()
    found = {"single": right.mean(1).tolist(), "dial": []}
    for threshold in THRESHOLDS:
        out = leave(logits, threshold)
        share = torch.stack([(out == k).double().mean() for k in range(len(logits))])
        found["dial"].append({"right": right.gather(0, out[None]).mean().item(), "share": share.tolist(),
                              "cost": (share @ cost / cost[-1]).item(), "random": (share @ right.mean(1)).item(),
                              "early": (right.gather(0, out[None])[0] * (out < 2)).mean().item()})
    return found


def narrow(run: Run) -> dict:
    """Three convolutions with fewer maps and one exit, at the end: right, and its share of the whole network's work."""
    _, _, test, labels = digits()
    channels = widths(int(run.arm))
    model = exits_trained(run.seed, 2, channels)
    with torch.no_grad():
        said = model.last(turned(test, run.turn))
    return {"right": (said == labels).float().mean().item(), "cost": multiplications_alone(channels) / multiplications()[-1]}


def leaving(run: Run) -> dict:
    """The share that leaves before the last exit, in each batch of 50 test digits."""
    _, _, test, _ = digits()
    model = exits_trained(run.seed)
    with torch.no_grad():
        out = leave(model(turned(test, run.turn)), DIAL)
    return {"early": (out < 2).float().view(-1, BATCH).mean(1).tolist()}


def timed(run: Run, looked_at: int = 200, times: int = 7) -> dict:
    """Milliseconds for one digit at a time: the mean over digits of the shortest of some tries, taken in turns."""
    test = digits()[2][:looked_at].split(1)
    dialed, shorter = exits_trained(run.seed), exits_trained(run.seed, 1)
    ways = {"whole": exits_trained(run.seed, 2).last, "exits": lambda image: dialed.first_sure(image, DIAL),
            "two": lambda image: shorter.last(image, 2)}
    ways |= {f"narrow {maps}": exits_trained(run.seed, 2, widths(maps)).last for maps in (4, 5)}
    shortest = {name: [float("inf")] * looked_at for name in ways}
    for _ in range(times):
        for k, image in enumerate(test):
            for name, way in ways.items():
                with torch.no_grad():
                    begun = time.perf_counter()
                    way(image)
                    shortest[name][k] = min(shortest[name][k], time.perf_counter() - begun)
    return {name: 1000 * sum(each) / looked_at for name, each in shortest.items()}


PERFORM = {"drift": drift, "alarm": drift, "forgetting": forgetting, "course": course, "refit": refit, "offset": offset,
           "sweep": sweep, "exits": exits, "narrow": narrow, "leaving": leaving, "time": timed}


def perform(run: Run) -> dict:
    begun = time.process_time()
    return run._asdict() | rounded(PERFORM[run.kind](run)) | {"seconds": round(time.process_time() - begun, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("record", type=Path, help="JSON file to write, or to go on with")
    path = parser.parse_args().record
    record = open_record(path, lambda: {
        "settings": {"sizes": SIZES, "known": KNOWN, "batches": BATCHES, "batch": BATCH, "still": STILL, "steps": STEPS,
                     "rate": RATE, "window": WINDOW, "channels": CHANNELS, "epochs": EPOCHS, "thresholds": THRESHOLDS,
                     "afresh_steps": AFRESH_STEPS, "offsets": OFFSETS, "dial": DIAL},
        **surroundings(), "runs": []})
    complete(path, record, runs(), perform)


if __name__ == "__main__":
    main()
