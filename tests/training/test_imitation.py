"""Cloning and DAgger: they ask for what they may, learn from it, and do at the wheel what the chapter says."""

import pytest
import torch

from tutorlib.data.driving import draw_tracks, drive_cars
from tutorlib.training import imitation
from tutorlib.training.imitation import clone, dagger, driver_network, labeled_frames


def dice(seed=0):
    return torch.Generator().manual_seed(seed)


def test_frames_come_once_and_from_the_road_only():
    driven = drive_cars(draw_tracks(4, dice()), 100, dice(), lambda seen: seen.new_zeros(len(seen)))
    on_the_road = int(driven.alive.sum())
    seen, right = labeled_frames(driven, on_the_road, dice())
    assert on_the_road < 400 and len(right.unique()) > 0.9 * on_the_road
    torch.testing.assert_close(right.sort().values, driven.right[driven.alive].sort().values)
    pairs = {picture.sum().item(): angle.item() for picture, angle in zip(seen, right, strict=True)}
    again = {picture.sum().item(): angle.item() for picture, angle in
             zip(driven.seen[driven.alive], driven.right[driven.alive], strict=True)}
    assert pairs == again
    with pytest.raises(ValueError, match=f"number must lie in .1, {on_the_road}., the frames on the road, got"):
        labeled_frames(driven, on_the_road + 1, dice())


def test_a_clone_answers_as_it_was_shown():
    torch.manual_seed(0)
    pictures = torch.randn(64, 8, 9)
    angles = 0.1 * pictures[:, 2, 3]
    driver = clone(pictures, angles, dice())
    assert (driver(pictures) - angles).square().mean() < 0.05 * angles.var()
    assert not driver(pictures).requires_grad
    with pytest.raises(ValueError, match="pictures and angles must be equally many, at least one, got 64 and 3"):
        clone(pictures, angles[:3], dice())


def test_dagger_asks_equally_in_each_round_and_drives_itself_from_the_second(monkeypatch):
    drivers, asked, learned = [], [], []

    def watched(tracks, steps, generator, driver=None, **world):
        drivers.append(driver)
        return drive_cars(tracks, steps, generator, driver, **world)

    monkeypatch.setattr(imitation, "drive_cars", watched)
    monkeypatch.setattr(imitation, "labeled_frames",
                        lambda driven, number, g: asked.append(number) or labeled_frames(driven, number, g))
    monkeypatch.setattr(imitation, "clone", lambda x, y, g: learned.append(len(y)) or clone(x, y, g, steps=5))
    dagger(draw_tracks(3, dice()), 60, dice(), rounds=3, steps=30)
    assert drivers[0] is None and None not in drivers[1:]
    assert asked == [20, 20, 20] and learned == [20, 40, 60]
    with pytest.raises(ValueError, match="rounds must lie in .1, labels., got 5 with 2 labels"):
        dagger(draw_tracks(3, dice()), 2, dice())


def test_the_network_reads_pictures():
    assert driver_network()(torch.zeros(3, 8, 9)).shape == (3,)


@pytest.mark.slow
def test_the_clone_leaves_the_road_and_the_corrected_one_stays():
    torch.manual_seed(0)
    tracks, test = draw_tracks(20, dice()), draw_tracks(50, dice(99))
    cloned = clone(*labeled_frames(drive_cars(tracks, 300, dice()), 1000, dice()), dice())
    corrected = dagger(tracks, 1000, dice())
    left = [drive_cars(test, 600, dice(9), driver).crashed.double().mean().item() for driver in (cloned, corrected)]
    assert left[0] > left[1] + 0.25
