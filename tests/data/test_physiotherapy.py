"""The shoulder exercises: what the package holds, read without unpickling."""

import pickle

import pytest
import torch

from tutorlib.data.physiotherapy import EXERCISES, Recordings, cut_windows, load_physiotherapy, read_physiotherapy


@pytest.fixture(scope="module")
def recordings():
    return load_physiotherapy()


def test_each_person_did_each_exercise_with_each_arm_once(recordings):
    rows = torch.stack(recordings[1:], 1)  # label, person, arm
    assert len(rows) == 140 == len(rows.unique(dim=0))
    assert recordings.people.bincount().tolist() == [14] * 10 and recordings.labels.max() == len(EXERCISES) - 1
    assert recordings.people.tolist() == sorted(recordings.people.tolist())


def test_readings_are_those_of_the_package(recordings):
    """The first of the file, and sums over all, as the package's own loader gave them."""
    assert sum(map(len, recordings.series)) == 244102
    means = torch.cat(recordings.series).mean(0)
    expected = torch.tensor([-0.00763, 0.37938, -0.14701, 0.02534, -0.00155, 0.01177])
    torch.testing.assert_close(means, expected, atol=1e-4, rtol=0)
    spread = torch.cat(recordings.series).std(0)
    torch.testing.assert_close(spread[:3], torch.tensor([0.90330, 0.49357, 0.53811]), atol=1e-4, rtol=0)


def test_windows_are_pieces_of_one_recording():
    series = [torch.arange(12.0)[:, None].expand(-1, 6), torch.zeros(3, 6), 100 + torch.arange(5.0)[:, None].expand(-1, 6)]
    made = cut_windows(Recordings(series, torch.tensor([4, 5, 6]), torch.tensor([0, 1, 2]), torch.tensor([1, 0, 1])), 4, 2)
    assert made.inputs.shape == (6, 6, 4)
    assert made.inputs[1, 0].tolist() == [2, 3, 4, 5] and made.inputs[5, 3].tolist() == [100, 101, 102, 103]
    assert made.labels.tolist() == [4] * 5 + [6] and made.people.tolist() == [0] * 5 + [2]
    assert made.starts.tolist() == pytest.approx([0, 0.04, 0.08, 0.12, 0.16, 0])


def test_nothing_is_unpickled(tmp_path):
    class Harm:
        def __reduce__(self):
            return (tmp_path / "made").mkdir, ()

    path = tmp_path / "harm.npy"
    path.write_bytes(bytes(128) + pickle.dumps(Harm()))
    with pytest.raises(ValueError, match="expected 140 recordings of 6 sensors and three lists, got"):
        read_physiotherapy(path)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("length, step, message", [
    (1, 1, "length and step must be at least 2 and 1, got 1 and 1"), (4, 0, "got 4 and 0"),
    (50, 1, "length must be at most that of the longest recording, got 50")])
def test_refusals(length, step, message):
    one = Recordings([torch.zeros(9, 6)], *(torch.zeros(1).long() for _ in range(3)))
    with pytest.raises(ValueError) as error:
        cut_windows(one, length, step)
    assert message in str(error.value)
