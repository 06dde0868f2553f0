"""Driving in a small closed loop: random closed tracks, a car, a noisy picture of the road ahead, and an expert.

Nothing here is real. A track is a closed line of 300 points, one meter apart, with a road of 3 meters to either side of it.
A car is a kinematic bicycle (its rear axle moves along its heading) at a constant 12 m/s, asked ten times a second
for the angle of its front wheels. What its camera sees is a picture of 8 by 9 pixels of the ground before it, one where
there is road, with noise. The expert sees no picture: it knows the track and steers by pure pursuit (Coulter 1992).
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

POINTS = 300  # of a track, a meter apart
HALF_WIDTH = 3.0  # meters of road to either side of the middle
SPEED, STEP, WHEELBASE = 12.0, 0.1, 2.5  # meters a second, seconds, meters
LARGEST_ANGLE = 0.6  # radians, of the front wheels
AHEAD, ASIDE = range(1, 16, 2), range(-4, 5)  # meters before the car and to its left: the rows and columns of a picture
LOOKAHEAD = 6  # meters, of the expert


class Cars(NamedTuple):
    """Of N cars: position (N, 2) in meters, heading (N,) in radians, and the nearest point (N,) of the car's own track."""

    position: Tensor
    heading: Tensor
    nearest: Tensor


class Drive(NamedTuple):
    """What N cars did in T steps. A car that has left the road stands still, and `alive` is false.

    seen (T, N, 8, 9) pictures, right (T, N) the angles that the expert would have set, done (T, N) those that were, offset
    (T, N) in meters to the left of the middle, alive (T, N) before the step, position (T, N, 2).
    """

    seen: Tensor
    right: Tensor
    done: Tensor
    offset: Tensor
    alive: Tensor
    position: Tensor

    @property
    def crashed(self) -> Tensor:
        """Whether each car ever left the road, (N,)."""
        return ~self.alive[-1] | (self.offset[-1].abs() > HALF_WIDTH)


def draw_tracks(number: int, generator: torch.Generator, *, tightest: float = 9.0) -> Tensor:
    """The middles (number, 300, 2) of closed tracks of 300 meters; the narrowest bend has a radius of 1 to 1.3 `tightest`.

    A circle whose radius waves two to seven times around, drawn until the narrowest bend fits. Raises ValueError for a number
    below 1 and for a radius outside [6, 30].
    """
    if number < 1:
        raise ValueError(f"number must be at least 1, got {number}")
    if not 6 <= tightest <= 30:
        raise ValueError(f"tightest must lie between 6 and 30 meters, got {tightest}")
    found: list[Tensor] = []
    while sum(map(len, found)) < number:
        middles = _waved_circles(256, generator)
        narrow = 1 / _bend(middles).amax(1)  # (256,)
        found.append(middles[(narrow >= tightest) & (narrow <= 1.3 * tightest)])
    return torch.cat(found)[:number]


def _waved_circles(number: int, generator: torch.Generator) -> Tensor:
    """(number, 300, 2), evenly spaced along their length."""
    angle = torch.linspace(0, 2 * math.pi, 2401)[:-1]
    waves = torch.arange(2, 8)  # (6,)
    size = torch.rand(number, 6, generator=generator) * 0.6 / waves * torch.rand(number, 1, generator=generator)
    phase = 2 * math.pi * torch.rand(number, 6, 1, generator=generator)
    radius = 1 + (size[..., None] * torch.cos(waves[:, None] * angle + phase)).sum(1)  # (number, 2400)
    dense = radius[..., None] * torch.stack([angle.cos(), angle.sin()], -1)  # (number, 2400, 2)
    lengths = (dense.roll(-1, 1) - dense).norm(dim=-1)  # (number, 2400)
    along = lengths.cumsum(1) - lengths  # where each point lies
    whole = lengths.sum(1, keepdim=True)
    wanted = torch.arange(POINTS) / POINTS * whole  # (number, 300)
    places = torch.searchsorted(along.contiguous(), wanted.contiguous(), right=True) - 1
    even = dense.gather(1, places[..., None].expand(-1, -1, 2))
    share = (wanted - along.gather(1, places)) / lengths.gather(1, places)
    following = dense.roll(-1, 1).gather(1, places[..., None].expand(-1, -1, 2))
    return (even + share[..., None] * (following - even)) * (POINTS / whole[..., None])


def _bend(middles: Tensor) -> Tensor:
    """The curvature (N, 300), one over the radius, from the turn between pieces two meters long."""
    ahead, behind = middles.roll(-2, 1) - middles, middles - middles.roll(2, 1)
    cross = behind[..., 0] * ahead[..., 1] - behind[..., 1] * ahead[..., 0]
    return torch.atan2(cross, (ahead * behind).sum(-1)).abs() / 2


def start_cars(middles: Tensor, generator: torch.Generator) -> Cars:
    """One car a track, in the middle of the road, anywhere along it, headed along it. middles (N, 300, 2)."""
    if middles.dim() != 3 or middles.shape[1:] != (POINTS, 2):
        raise ValueError(f"middles must be (N, {POINTS}, 2), got {tuple(middles.shape)}")
    nearest = torch.randint(POINTS, (len(middles),), generator=generator)
    along = _points(middles, nearest + 1) - _points(middles, nearest - 1)  # (N, 2)
    return Cars(_points(middles, nearest), torch.atan2(along[:, 1], along[:, 0]), nearest)


def move(cars: Cars, angle: Tensor, middles: Tensor, push: Tensor | float = 0.0) -> Cars:
    """The cars one step later, their front wheels at `angle` (N,) radians; `push` (N,) radians is added to the heading."""
    heading = cars.heading + SPEED * STEP / WHEELBASE * torch.tan(angle) + push
    position = cars.position + SPEED * STEP * torch.stack([heading.cos(), heading.sin()], -1)
    near = cars.nearest[:, None] + torch.arange(-3, 6)  # (N, 9): no car gets farther in a step
    distance = (_points(middles, near) - position[:, None]).norm(dim=-1)
    nearest = near.gather(1, distance.argmin(1, keepdim=True))[:, 0]
    return Cars(position, heading, nearest % POINTS)


def offset(cars: Cars, middles: Tensor) -> Tensor:
    """Meters (N,) from the middle of the road, positive to the left."""
    along = _points(middles, cars.nearest + 1) - _points(middles, cars.nearest - 1)
    away = cars.position - _points(middles, cars.nearest)
    return (along[:, 0] * away[:, 1] - along[:, 1] * away[:, 0]) / along.norm(dim=-1)


def look(cars: Cars, middles: Tensor) -> Tensor:
    """The pictures (N, 8, 9) of the ground before the cars, nearest row first, left column last: 1 road, 0 none."""
    rows, columns = (torch.tensor([*each], dtype=torch.float32) for each in (AHEAD, ASIDE))
    grid = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), -1)  # (8, 9, 2): ahead, left
    cos, sin = cars.heading.cos()[:, None, None], cars.heading.sin()[:, None, None]
    spots = torch.stack([cos * grid[..., 0] - sin * grid[..., 1], sin * grid[..., 0] + cos * grid[..., 1]], -1)
    spots = (spots + cars.position[:, None, None]).flatten(1, 2)  # (N, 72, 2)
    near = _points(middles, cars.nearest[:, None] + torch.arange(-4, 24))  # (N, 28, 2)
    distance = torch.cdist(spots, near).amin(-1)  # (N, 72)
    return (HALF_WIDTH + 0.5 - distance).clamp(0, 1).view(-1, len(rows), len(columns))


def expert(cars: Cars, middles: Tensor) -> Tensor:
    """The angle (N,) that leads on a circle to the middle of the road six meters on: pure pursuit with the true state."""
    ahead = _points(middles, cars.nearest + LOOKAHEAD) - cars.position  # (N, 2)
    forward = ahead[:, 0] * cars.heading.cos() + ahead[:, 1] * cars.heading.sin()
    left = ahead[:, 1] * cars.heading.cos() - ahead[:, 0] * cars.heading.sin()
    curvature = 2 * left / (forward**2 + left**2)
    return torch.atan(WHEELBASE * curvature).clamp(-LARGEST_ANGLE, LARGEST_ANGLE)


def drive_cars(middles: Tensor, steps: int, generator: torch.Generator, driver: Callable[[Tensor], Tensor] | None = None, *,
               blur: float = 0.3, sun: float = 0.1, wind: float = 0.005, nudge: float = 0.0) -> Drive:
    """Let N cars go round their tracks (N, 300, 2) for so many tenths of a second, and ask the expert at every step.

    `driver` maps pictures (N, 8, 9) to angles (N,); None is the expert itself. `blur` is the spread of the noise on a pixel,
    `sun` that of a slope of brightness from one side to the other, a column, which a car keeps; `wind` that of the heading in a
    step, in radians; `nudge` that of a disturbance of the steering, in radians, which lasts half a second each time and which
    the expert is not told of. Raises ValueError for fewer than one step and negative spreads.
    """
    for name, value, least in (("steps", steps, 1), ("blur", blur, 0), ("sun", sun, 0), ("wind", wind, 0), ("nudge", nudge, 0)):
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")
    cars, kept = start_cars(middles, generator), []
    alive = torch.ones(len(middles), dtype=torch.bool)
    shove = torch.zeros(len(middles))
    slope = sun * torch.randn(len(middles), 1, 1, generator=generator)
    light = slope * torch.tensor([*ASIDE])  # (N, 1, 9): brighter on one side
    for step in range(steps):
        clean = look(cars, middles)
        seen = clean + light + blur * torch.randn(clean.shape, generator=generator)
        right, aside = expert(cars, middles), offset(cars, middles)
        if step % 5 == 0:
            shove = nudge * torch.randn(len(middles), generator=generator)
        done = right if driver is None else driver(seen).clamp(-LARGEST_ANGLE, LARGEST_ANGLE)
        alive = alive & (aside.abs() <= HALF_WIDTH)
        kept.append((seen, right, done, aside, alive, cars.position))
        push = wind * torch.randn(len(middles), generator=generator)
        moved = move(cars, (done + shove).clamp(-LARGEST_ANGLE, LARGEST_ANGLE), middles, push)
        cars = Cars(*(torch.where(alive.view(-1, *[1] * (new.dim() - 1)), new, old)
                      for new, old in zip(moved, cars, strict=True)))
    return Drive(*(torch.stack(part) for part in zip(*kept, strict=True)))


def _points(middles: Tensor, places: Tensor) -> Tensor:
    """The points (N, ..., 2) of each car's track at the places (N, ...), counted around."""
    own = torch.arange(len(middles)).view(-1, *[1] * (places.dim() - 1))
    return middles[own, places % POINTS]
