"""Dynamic time warping: the recursion cell by cell, stretched sounds, and a template found in a stream."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tutorlib.baselines.warping import sketch, spot_template, warped_distances


def slow(one, other):
    cost = {}
    for i in range(len(other)):
        for j in range(len(one)):
            here = (other[i] - one[j]).norm().item()
            ways = [cost[i - 1, j] + here] if i else []
            ways += [cost[i, j - 1] + here] if j else []
            ways += [cost[i - 1, j - 1] + 2 * here] if i and j else []
            cost[i, j] = min(ways, default=here)
    return cost[len(other) - 1, len(one) - 1] / (len(one) + len(other))


@given(frames=st.integers(1, 6), lengths=st.lists(st.integers(1, 7), min_size=1, max_size=4), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_distances_are_the_recursion_s(frames, lengths, seed):
    dice = torch.Generator().manual_seed(seed)
    one = torch.randn(frames, 3, generator=dice)
    templates = [torch.randn(length, 3, generator=dice) for length in lengths]
    expected = [slow(one, template) for template in templates]
    assert warped_distances(one, templates).tolist() == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_a_stretched_sound_is_no_farther():
    sound = torch.randn(8, 4)
    assert warped_distances(sound.repeat_interleave(2, 0), [sound, torch.randn(8, 4)]).argmin() == 0
    assert warped_distances(sound.repeat_interleave(2, 0), [sound])[0] < 1e-2


def test_a_template_is_found_where_it_ends():
    template, stream = torch.randn(5, 4), torch.randn(60, 4)
    stream[20:30] = template.repeat_interleave(2, 0)
    scores = spot_template(stream, template)
    assert scores.argmax() in (28, 29) and scores[29].abs() < 1e-2


def test_streams_lie_side_by_side():
    template, streams = torch.randn(5, 4), torch.randn(3, 20, 4)
    found = torch.stack([spot_template(each, template) for each in streams])
    assert torch.allclose(spot_template(streams, template), found, atol=1e-5)


def test_a_sketch_is_halved_and_without_tint():
    mel = torch.randn(9, 4)
    assert torch.allclose(sketch(mel), sketch(mel + torch.tensor([1.0, 2, 3, 4])), atol=1e-5) and len(sketch(mel)) == 4
    with pytest.raises(ValueError, match="templates must be at least one, got none"):
        warped_distances(mel, [])
