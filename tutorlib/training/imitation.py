"""Learning to drive from an expert: behavior cloning, and DAgger, which asks the expert about the learner's own drives."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from tutorlib.data.driving import AHEAD, ASIDE, Drive, drive_cars

Driver = Callable[[Tensor], Tensor]


def driver_network(width: int = 64) -> nn.Module:
    """Pictures (N, 8, 9) -> angles (N,), by two hidden layers."""
    return nn.Sequential(nn.Flatten(), nn.Linear(len(AHEAD) * len(ASIDE), width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(),
                         nn.Linear(width, 1), nn.Flatten(0))


def labeled_frames(driven: Drive, number: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """`number` frames of a drive, drawn where the cars were on the road: pictures (number, 8, 9), right angles (number,).

    The same frame is not drawn twice. Raises ValueError where the cars were on the road for fewer frames.
    """
    seen, right = driven.seen[driven.alive], driven.right[driven.alive]  # (M, 8, 9), (M,)
    if not 1 <= number <= len(right):
        raise ValueError(f"number must lie in [1, {len(right)}], the frames on the road, got {number}")
    rows = torch.randperm(len(right), generator=generator)[:number]
    return seen[rows], right[rows]


def clone(pictures: Tensor, angles: Tensor, generator: torch.Generator, *, steps: int = 600, batch_size: int = 128) -> Driver:
    """A driver that answers pictures (N, 8, 9) as the expert did, angles (N,): least squares by AdamW (Pomerleau 1989).

    The first weights come from torch's own random numbers, the order of the frames from `generator`. Raises ValueError where
    there is not one angle for each picture.
    """
    if len(pictures) != len(angles) or not len(angles):
        raise ValueError(f"pictures and angles must be equally many, at least one, got {len(pictures)} and {len(angles)}")
    network = driver_network()
    optimizer = torch.optim.AdamW(network.parameters(), 4e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    for _ in range(steps):
        rows = torch.randint(len(angles), (batch_size,), generator=generator)
        loss = (network(pictures[rows]) - angles[rows]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return torch.no_grad()(network.eval())


def dagger(tracks: Tensor, labels: int, generator: torch.Generator, *, rounds: int = 5, steps: int = 300,
           **world: float) -> Driver:
    """Ask the expert about frames of the learner's own drives, add them to all before, and clone again (Ross et al. 2011).

    The expert drives in the first round. Of `labels` answers in all each round gets an equal part, drawn from `steps` tenths of
    a second on the tracks (N, 300, 2); `world` goes to `drive_cars`. Raises ValueError for fewer labels than rounds.
    """
    if not 1 <= rounds <= labels:
        raise ValueError(f"rounds must lie in [1, labels], got {rounds} with {labels} labels")
    driver, pictures, angles = None, [], []
    for _ in range(rounds):
        driven = drive_cars(tracks, steps, generator, driver, **world)
        seen, right = labeled_frames(driven, labels // rounds, generator)
        pictures.append(seen)
        angles.append(right)
        driver = clone(torch.cat(pictures), torch.cat(angles), generator)
    return driver
