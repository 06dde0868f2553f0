"""The recordings: counts, types, no recording twice, the sensors in their order, and files that are refused."""

import sys

import pytest
import torch

from tutorlib.data import motions
from tutorlib.data.motions import load_motions, read_recordings


@pytest.fixture(scope="module")
def data():
    return load_motions()


def test_shapes_types_and_counts(data):
    for part in data:
        assert part.inputs.shape == (40, 6, 100) and part.inputs.dtype == torch.float32
        assert part.labels.dtype == torch.int64 and part.labels.bincount().tolist() == [10] * 4


def test_no_recording_is_in_both_sets_or_twice(data):
    assert len(torch.unique(torch.cat([data.train.inputs, data.test.inputs]).flatten(1), dim=0)) == 80


def test_the_labels_are_the_activities(data):
    """Who stands moves the watch least, who runs shakes it most."""
    for part in data:
        shaking = part.inputs[:, :3].std(dim=2).mean(dim=1)  # (N,)
        by_activity = [shaking[part.labels == label].mean() for label in range(4)]
        assert by_activity[0] == min(by_activity) and by_activity[1] == max(by_activity)


def test_the_first_reading(data):
    assert data.train.inputs[0, 0, :3].tolist() == pytest.approx([0.079106, 0.079106, -0.903497])


def test_the_package_is_read_and_not_imported(data):
    assert "aeon" not in sys.modules


def test_a_file_of_another_form_is_refused(tmp_path, monkeypatch):
    empty = tmp_path / "empty.ts"
    empty.write_text("@problemName none\n")
    with pytest.raises(ValueError, match="path: empty.ts must have lines behind the line @data, got none"):
        read_recordings(empty)
    row = ",".join(["0"] * 100)
    for sensors, activity in ((5, "Running"), (6, "Swimming")):
        short = tmp_path / "short.ts"
        short.write_text("@data\n" + ":".join([row] * sensors + [activity]))
        with pytest.raises(ValueError, match=rf"path: a line of short.ts must have 6 rows of 100 readings .* got {sensors} of"):
            read_recordings(short)
    monkeypatch.setattr(motions, "SHA256", {"TRAIN": "0" * 64})
    with pytest.raises(ValueError, match="has sha256 .*; expected 0000"):
        load_motions()
