"""Drivers that learned from an expert, asked about its frames and then set at the wheel.

    python experiments/drive_in_loop.py experiments/records/driving.json

Every run draws 20 tracks to learn on from its seed, gets so many answers of the expert, and is judged on the same 100 other
tracks: on frames of the expert's drives, and at the wheel for a minute. A record that exists is gone on with.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from tutorlib.data.driving import ASIDE, HALF_WIDTH, Cars, draw_tracks, drive_cars, expert, look, start_cars
from tutorlib.device import seed_everything
from tutorlib.records import complete, open_record, rounded, surroundings
from tutorlib.training.imitation import clone, dagger, labeled_frames

LEARN, TEST, MINUTE, TAPE = 20, 100, 600, 300  # tracks, tracks, frames of a drive and of a demonstration
CLOSE, ASTRAY = 0.07, 1.0  # radians (four degrees) from the expert's angle; meters from the middle
LABELS, NUDGES, BENDS = (250, 500, 1000, 2000, 4000), (0.05, 0.1, 0.4, 0.8), (7.0, 15.0)
NUDGE, BEND = 0.2, 9.0
SHOWN = range(20, MINUTE + 1, 20)  # frames after which the course is written down
SIDES = (-2.0, -1.0, 0.0, 1.0, 2.0)  # meters to the left


class Run(NamedTuple):
    arm: str
    labels: int = 1000
    nudge: float = 0.0
    tightest: float = BEND
    seed: int = 0


def runs() -> list[Run]:
    """Three seeds of what is compared; one of each dial, and of what learns nothing."""
    cloned, nudged, corrected = Run("clone"), Run("clone", nudge=NUDGE), Run("dagger")
    planned = [Run("expert"), Run("straight")]
    planned += [run._replace(seed=seed) for seed in range(3) for run in (cloned, corrected, nudged, Run("linear"), Run("rule"))]
    planned += [run._replace(labels=labels) for labels in LABELS if labels != 1000 for run in (cloned, nudged, corrected)]
    planned += [Run("clone", nudge=nudge) for nudge in NUDGES]
    return planned + [run._replace(tightest=bend) for bend in BENDS for run in (Run("rule"), cloned, corrected)]


def rule(gain: float, row: int) -> Callable[[Tensor], Tensor]:
    """Steer to the middle of what is bright in one row of the picture."""
    aside = torch.tensor([*ASIDE], dtype=torch.float32)

    def driver(seen: Tensor) -> Tensor:
        bright = (seen[:, row] - 0.5).clamp(min=0)  # (N, 9)
        return gain * (bright * aside).sum(1) / bright.sum(1).clamp(min=0.1)
    return driver


def best_rule(tracks: Tensor) -> Callable[[Tensor], Tensor]:
    """The row and the gain with which fewest leave the road on the tracks to learn on, and then come nearest to the middle."""
    def found(choice: tuple[float, int]) -> tuple[float, float]:
        driven = drive_cars(tracks, TAPE, torch.Generator().manual_seed(5), rule(*choice))
        return driven.crashed.float().mean().item(), driven.offset.square().mean().item()
    return rule(*min(((gain, row) for gain in (0.05, 0.1, 0.15, 0.25) for row in (1, 2, 3, 4)), key=found))


def linear(pictures: Tensor, angles: Tensor, penalty: float = 30.0) -> Callable[[Tensor], Tensor]:
    """A weight a pixel, by least squares with a penalty."""
    def columns(seen: Tensor) -> Tensor:
        return torch.cat([seen.flatten(1), seen.new_ones(len(seen), 1)], 1)
    X = columns(pictures)
    w = torch.linalg.solve(X.mT @ X + penalty * torch.eye(X.size(1)), X.mT @ angles)
    return lambda seen: columns(seen) @ w


def driver_of(run: Run) -> Callable[[Tensor], Tensor] | None:
    """What the run has learned; None for the expert itself."""
    seed_everything(run.seed)
    dice = torch.Generator().manual_seed(run.seed)
    tracks = draw_tracks(LEARN, dice, tightest=run.tightest)
    if run.arm in ("expert", "straight"):
        return None if run.arm == "expert" else lambda seen: seen.new_zeros(len(seen))
    if run.arm == "rule":
        return best_rule(tracks)
    if run.arm == "dagger":
        return dagger(tracks, run.labels, dice)
    driven = drive_cars(tracks, TAPE, dice, nudge=run.nudge)  # nudged hard, the expert itself leaves the road: fewer frames
    shown = labeled_frames(driven, min(run.labels, int(driven.alive.sum())), dice)
    return linear(*shown) if run.arm == "linear" else clone(*shown, dice)


def test_tracks(tightest: float = BEND) -> Tensor:
    return draw_tracks(TEST, torch.Generator().manual_seed(99), tightest=tightest)


def response(driver: Callable[[Tensor], Tensor] | None, tracks: Tensor) -> list[float]:
    """By how much the angle changes, in the mean over tracks, when a car is set so many meters to the left of the middle."""
    cars = start_cars(tracks, torch.Generator().manual_seed(7))
    left = torch.stack([-cars.heading.sin(), cars.heading.cos()], -1)
    moved = [Cars(cars.position + side * left, cars.heading, cars.nearest) for side in SIDES]
    said = torch.stack([expert(one, tracks) if driver is None else driver(look(one, tracks)) for one in moved])  # (5, N)
    return (said - said[len(SIDES) // 2]).mean(1).tolist()


def judged(driver: Callable[[Tensor], Tensor] | None, tightest: float = BEND) -> dict:
    """Near the expert on its own frames, and what happens in a minute at the wheel."""
    tracks = test_tracks(tightest)
    tape = drive_cars(tracks, 100, torch.Generator().manual_seed(8))
    wheel = drive_cars(tracks, MINUTE, torch.Generator().manual_seed(9), driver)
    said = tape.right if driver is None else driver(tape.seen.flatten(0, 1)).view_as(tape.right)
    wrong = (said - tape.right).abs()
    at_wheel = (wheel.done - wheel.right).abs()[wheel.alive]
    astray = (wheel.offset.abs() > ASTRAY) | ~wheel.alive  # (T, N)
    return {"close": (wrong < CLOSE).double().mean().item(), "error": wrong.double().square().mean().sqrt().item(),
            "crashed": int(wheel.crashed.sum()), "close at wheel": (at_wheel < CLOSE).double().mean().item(),
            "astray": [astray[:t].sum(0).double().mean().item() for t in SHOWN],
            "left": [(~wheel.alive[t - 1] | (wheel.offset[t - 1].abs() > HALF_WIDTH)).double().mean().item() for t in SHOWN],
            "response": response(driver, tracks)}


def perform(run: Run) -> dict:
    begun = time.process_time()
    found = rounded(judged(driver_of(run), run.tightest))
    return run._asdict() | found | {"seconds": round(time.process_time() - begun, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("record", type=Path, help="JSON file to write, or to go on with")
    path = parser.parse_args().record
    record = open_record(path, lambda: {
        "settings": {"learn": LEARN, "test": TEST, "frames": MINUTE, "tape": TAPE, "close": CLOSE, "astray": ASTRAY,
                     "shown": [*SHOWN], "sides": SIDES}, **surroundings(), "runs": []})
    complete(path, record, runs(), perform)


if __name__ == "__main__":
    main()
