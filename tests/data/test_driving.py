"""The driving simulator: its geometry by hand, its expert on the road, its noise where it is said to be."""

import math

import pytest
import torch

from tutorlib.data.driving import (
    HALF_WIDTH,
    LARGEST_ANGLE,
    POINTS,
    SPEED,
    STEP,
    WHEELBASE,
    Cars,
    draw_tracks,
    drive_cars,
    expert,
    look,
    move,
    offset,
    start_cars,
)


def dice(seed=0):
    return torch.Generator().manual_seed(seed)


def circle():
    """A track of 300 meters, counterclockwise."""
    angle = torch.arange(POINTS) / POINTS * 2 * math.pi
    return POINTS / (2 * math.pi) * torch.stack([angle.cos(), angle.sin()], -1)[None]


def at(meters_left, turned=0.0):
    """A car at the circle's east, headed north."""
    return Cars(torch.tensor([[POINTS / (2 * math.pi) - meters_left, 0.0]]), torch.tensor([math.pi / 2 + turned]),
                torch.tensor([0]))


@pytest.mark.parametrize("tightest", [7.0, 12.0])
def test_tracks_are_closed_even_and_as_tight_as_asked(tightest):
    tracks = draw_tracks(5, dice(), tightest=tightest)
    pieces = (tracks.roll(-1, 1) - tracks).norm(dim=-1)
    assert tracks.shape == (5, POINTS, 2) and pieces.min() > 0.97 and pieces.max() < 1.01
    a, b, c = tracks.roll(3, 1), tracks, tracks.roll(-3, 1)  # the radius of the circle through three points
    sides = [(a - b).norm(dim=-1), (b - c).norm(dim=-1), (a - c).norm(dim=-1)]
    area = ((b - a)[..., 0] * (c - a)[..., 1] - (b - a)[..., 1] * (c - a)[..., 0]).abs() / 2
    radius = (sides[0] * sides[1] * sides[2] / (4 * area)).amin(1)
    assert (radius > 0.85 * tightest).all() and (radius < 1.7 * tightest).all()
    assert torch.equal(tracks, draw_tracks(5, dice(), tightest=tightest))


def test_a_car_turns_as_a_bicycle_does():
    cars = at(0.0)
    moved = move(cars, torch.tensor([0.2]), circle())
    assert moved.heading.item() - cars.heading.item() == pytest.approx(SPEED * STEP / WHEELBASE * math.tan(0.2), rel=1e-5)
    assert (moved.position - cars.position).norm().item() == pytest.approx(SPEED * STEP, rel=1e-5)
    assert moved.nearest.item() == 1


def test_the_offset_is_positive_to_the_left():
    assert offset(at(1.5), circle()).item() == pytest.approx(1.5, abs=1e-4)
    assert offset(at(-0.5), circle()).item() == pytest.approx(-0.5, abs=1e-4)


def test_the_expert_steers_back_and_holds_a_circle():
    assert expert(at(1.0), circle()) < expert(at(0.0), circle()) < expert(at(-1.0), circle())
    held = math.atan(WHEELBASE * 2 * math.pi / POINTS)
    assert expert(at(0.0), circle()).item() == pytest.approx(held, rel=0.02)
    assert expert(at(0.0, turned=-1.5), circle()).item() == pytest.approx(LARGEST_ANGLE)


def test_a_picture_shows_road_where_road_is():
    middle, left = look(at(0.0), circle())[0], look(at(2.5), circle())[0]
    assert middle.shape == (8, 9) and middle[0, 4] == 1 and middle[0, 0] == 0 and middle[0, 8] == 0
    assert left[0, 5:].sum() < middle[0, 5:].sum() and left[0, :4].sum() > middle[0, :4].sum()
    bent = look(at(0.0), circle())[0, -1]
    assert bent[5:].sum() > bent[:4].sum()  # the road bends to the left, the last column


def test_the_expert_stays_and_nobody_who_goes_straight_does():
    tracks = draw_tracks(20, dice())
    assert not drive_cars(tracks, 300, dice()).crashed.any()
    straight = drive_cars(tracks, 300, dice(), lambda seen: seen.new_zeros(len(seen)))
    assert straight.crashed.all()


def test_a_car_that_left_stands_still_and_is_not_alive():
    driven = drive_cars(draw_tracks(20, dice()), 300, dice(), lambda seen: seen.new_zeros(len(seen)))
    assert (driven.alive[1:] <= driven.alive[:-1]).all()
    assert (driven.offset[driven.alive].abs() <= HALF_WIDTH).all()
    first = (~driven.alive).int().argmax(0)
    for car, t in enumerate(first.tolist()):
        assert torch.equal(driven.position[t, car], driven.position[-1, car])


def test_a_nudge_moves_the_car_and_not_the_answer():
    tracks = draw_tracks(20, dice())
    calm, pushed = (drive_cars(tracks, 100, dice(), nudge=nudge) for nudge in (0.0, 0.2))
    assert pushed.offset.std() > 2 * calm.offset.std()
    assert torch.equal(pushed.right, pushed.done)


@pytest.mark.parametrize("what, spread", [("blur", 0.5), ("sun", 0.2)])
def test_noise_is_of_the_picture_alone(what, spread):
    tracks = draw_tracks(30, dice())
    clear = {"blur": 0.0, "sun": 0.0, "wind": 0.0}
    one, other = drive_cars(tracks, 30, dice(), **clear), drive_cars(tracks, 30, dice(), **clear | {what: spread})
    torch.testing.assert_close(one.position, other.position)
    difference = (other.seen - one.seen)[..., -1]  # four meters to the left
    assert difference.std().item() == pytest.approx(spread * (4 if what == "sun" else 1), rel=0.35)
    constant = (difference[0] - difference[-1]).abs().max() < 1e-6
    assert constant == (what == "sun")


def test_the_driver_is_asked_and_heeded():
    driven = drive_cars(draw_tracks(3, dice()), 4, dice(), lambda seen: seen.new_full((len(seen),), 2.0))
    assert (driven.done == LARGEST_ANGLE).all()


@pytest.mark.parametrize("call, message", [
    (lambda: draw_tracks(0, dice()), "number must be at least 1, got 0"),
    (lambda: draw_tracks(1, dice(), tightest=3), "tightest must lie between 6 and 30 meters, got 3"),
    (lambda: start_cars(torch.zeros(2, 5, 2), dice()), "middles must be (N, 300, 2), got (2, 5, 2)"),
    (lambda: drive_cars(circle(), 0, dice()), "steps must be at least 1, got 0"),
    (lambda: drive_cars(circle(), 1, dice(), blur=-1), "blur must be at least 0, got -1"),
])
def test_refusals(call, message):
    with pytest.raises(ValueError) as error:
        call()
    assert message in str(error.value)
