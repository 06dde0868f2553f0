"""Planted images: what the labels say is what stands there, and a given shape changes nothing else."""

import pytest
import torch

from tutorlib.data.planted import CELL, GLYPHS, SIDE, planted


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def shapes_in(images, cells):
    """The shape and the sign that stand in each of the cells (B, N) of images without noise."""
    rows = images.unfold(2, CELL, CELL).unfold(3, CELL, CELL)[:, 0].flatten(1, 2)  # (B, 16, 7, 7)
    picked = rows[torch.arange(len(images))[:, None], cells]  # (B, N, 7, 7)
    places = [(top, left) for top in range(3) for left in range(3)]
    fits = [[(picked[..., top:top + 5, left:left + 5].abs() != glyph).sum((-1, -2)) for top, left in places]
            for glyph in GLYPHS]
    scores = torch.stack([torch.stack(each).amin(0) for each in fits])  # (4, B, N): 0 where the shape fits
    assert (scores.amin(0) == 0).all()
    return scores.argmin(0), picked.sum((-1, -2)).sign()


@pytest.mark.parametrize("copies", [1, 2, 3])
def test_the_label_is_the_bright_shape(copies):
    drawn = planted(60, seeded(), copies=copies, noise=0.0)
    shape, sign = shapes_in(drawn.images, drawn.bright)
    assert torch.equal(shape, drawn.labels[:, None].expand(-1, copies)) and (sign == 1).all()
    shape, sign = shapes_in(drawn.images, drawn.dark)
    assert torch.equal(shape, drawn.dark_shapes) and (sign == -1).all()
    used = torch.cat([drawn.bright, drawn.dark], 1)
    assert all(len(set(row)) == copies + 3 and max(row) < SIDE**2 for row in used.tolist())


def test_a_rival_has_another_class():
    drawn = planted(60, seeded(), copies=2, rival=True, noise=0.0)
    shape, sign = shapes_in(drawn.images, drawn.bright)
    assert torch.equal(shape[:, 0], drawn.labels) and (shape[:, 1] != drawn.labels).all() and (sign == 1).all()


def test_given_shapes_change_their_cells_only():
    one = planted(20, seeded(3))
    bright = planted(20, seeded(3), labels=(one.labels + 1) % 4)
    dark = planted(20, seeded(3), dark_shapes=(one.dark_shapes + 1) % 4)
    changed = torch.nn.functional.max_pool2d((bright.images - one.images).abs(), CELL).flatten(1) > 0  # (B, 16)
    assert torch.equal(changed, torch.zeros(20, 16, dtype=torch.bool).scatter(1, one.bright, True))
    changed = torch.nn.functional.max_pool2d((dark.images - one.images).abs(), CELL).flatten(1) > 0
    assert torch.equal(changed, torch.zeros(20, 16, dtype=torch.bool).scatter(1, one.dark, True))


@pytest.mark.parametrize("count, options, message", [
    (0, {}, "count must be at least 1, got 0"),
    (2, {"copies": 14}, r"copies \+ dark must be at most 16 cells, got 14 \+ 3"),
    (2, {"rival": True}, "copies must be at least 2 with a rival, got 1"),
    (2, {"labels": torch.zeros(3, dtype=torch.long)}, r"labels must be \(2,\), got \(3,\)"),
    (2, {"dark_shapes": torch.zeros(2, dtype=torch.long)}, r"dark_shapes must be \(2, 3\), got \(2,\)"),
])
def test_refused(count, options, message):
    with pytest.raises(ValueError, match=message):
        planted(count, seeded(), **options)
