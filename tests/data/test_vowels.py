"""The utterances: counts, padding, types, no utterance twice, and files that are refused."""

import sys

import pytest
import torch

from tutorlib.data import vowels
from tutorlib.data.vowels import load_vowels, read_utterances


@pytest.fixture(scope="module")
def data():
    return load_vowels()


def test_shapes_types_and_counts(data):
    for part, count in zip(data, (270, 370), strict=True):
        assert part.inputs.shape == (count, 29, 12) and part.inputs.dtype == torch.float32
        assert part.lengths.shape == part.labels.shape == (count,)
        assert part.lengths.dtype == part.labels.dtype == torch.int64
    assert data.train.labels.bincount().tolist() == [30] * 9
    assert data.test.labels.bincount().tolist() == [31, 35, 88, 44, 29, 24, 40, 50, 29]
    assert (data.train.lengths.min(), data.train.lengths.max()) == (7, 26)
    assert (data.test.lengths.min(), data.test.lengths.max()) == (7, 29)


def test_behind_its_end_an_utterance_is_zero_and_before_it_not(data):
    for part in data:
        real = torch.arange(29) < part.lengths[:, None]  # (N, 29)
        assert (part.inputs[~real] == 0).all() and (part.inputs[real] != 0).any(dim=-1).all()


def test_no_utterance_is_in_both_sets_or_twice(data):
    rows = torch.cat([data.train.inputs, data.test.inputs]).flatten(1)
    assert len(torch.unique(rows, dim=0)) == 640


def test_the_labels_are_the_speakers(data):
    """The mean vector of an utterance, compared with the speakers' means of the training set, finds most of them."""
    means = [part.inputs.sum(dim=1) / part.lengths[:, None] for part in data]  # (N, 12)
    speakers = torch.stack([means[0][data.train.labels == speaker].mean(0) for speaker in range(9)])  # (9, 12)
    found = torch.cdist(means[1], speakers).argmin(dim=1)
    assert (found == data.test.labels).float().mean() > 0.8


def test_the_package_is_read_and_not_imported(data):
    assert "aeon" not in sys.modules


def test_a_file_is_read_as_it_says(tmp_path):
    path = tmp_path / "small.ts"
    coefficients = ":".join(f"{k},{k}.5" for k in range(12))
    path.write_text(f"#a comment\n@problemName Small\n@data\n{coefficients}:9\n{coefficients.replace(',', ',1,')}:1\n")
    small = read_utterances(path)
    assert small.lengths.tolist() == [2, 3] and small.labels.tolist() == [8, 0]
    assert torch.equal(small.inputs[0, :2], torch.arange(12) + torch.tensor([[0.0], [0.5]]))
    assert (small.inputs[1, 1] == 1).all() and (small.inputs[0, 2:] == 0).all()


@pytest.mark.parametrize("line, found", [
    (":".join(["1,2"] * 11) + ":3", r"11 of the lengths \[2\] and 3"),
    (":".join(["1,2"] * 11 + ["1"]) + ":3", r"12 of the lengths \[1, 2\] and 3"),
    (":".join([",".join("0" * 30)] * 12) + ":3", r"12 of the lengths \[30\] and 3"),
    (":".join(["1,2"] * 12) + ":10", r"12 of the lengths \[2\] and 10"),
    (":".join(["1,2"] * 12) + ":0", r"12 of the lengths \[2\] and 0")])
def test_a_line_of_another_form_is_refused(tmp_path, line, found):
    path = tmp_path / "odd.ts"
    path.write_text(f"@data\n{line}\n")
    with pytest.raises(ValueError, match=f"path: a line of odd.ts must have 12 coefficients .* from 1 to 9, got {found}"):
        read_utterances(path)


def test_a_file_without_data_is_refused(tmp_path):
    path = tmp_path / "empty.ts"
    path.write_text("@problemName Empty\n")
    with pytest.raises(ValueError, match="path: empty.ts must have lines behind the line @data, got none"):
        read_utterances(path)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(vowels, "PACKAGE", "aeon_that_is_not_there")
    with pytest.raises(ModuleNotFoundError, match="Japanese vowels.*'aeon_that_is_not_there'.*pip install --no-deps"):
        load_vowels()


@pytest.mark.parametrize("part", ["TRAIN", "TEST"])
def test_a_changed_file_is_refused(monkeypatch, tmp_path, part):
    """A package that keeps the real file and one with a digit changed."""
    for name, sha256 in vowels.SHA256.items():
        real = vowels.installed_file(vowels.PACKAGE, vowels.FILE.format(name), sha256).read_bytes()
        path = tmp_path / "aeon_with_a_changed_file" / vowels.FILE.format(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(real.replace(b"1.", b"2.", 1) if name == part else real)
    (tmp_path / "aeon_with_a_changed_file" / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(vowels, "PACKAGE", "aeon_with_a_changed_file")
    with pytest.raises(ValueError, match=f"path: JapaneseVowels_{part}.ts has sha256 .*; expected {vowels.SHA256[part]}"):
        load_vowels()
