"""The contrastive loss: by hand, its bounds, what leaves it as it is, what it refuses."""

import math

import pytest
import torch

from tests.closeness import assert_same, draw
from tutorlib.training.contrastive import contrastive_loss


def test_by_hand():
    logits = torch.tensor([[1.0, 2.0], [0.0, 3.0]])
    rows = (math.log(math.e + math.e**2) - 1 + math.log(1 + math.e**3) - 3) / 2
    columns = (math.log(math.e + 1) - 1 + math.log(math.e**2 + math.e**3) - 3) / 2
    assert contrastive_loss(logits).item() == pytest.approx((rows + columns) / 2, rel=1e-6)


def test_images_and_texts_change_places():
    logits = draw(6, 6)
    assert_same(contrastive_loss(logits), contrastive_loss(logits.T))


def test_equal_logits_cost_the_logarithm_of_the_batch():
    assert contrastive_loss(torch.full((7, 7), 3.0)).item() == pytest.approx(math.log(7), rel=1e-6)


def test_cosines_without_a_scale_cannot_cost_less():
    """Best is 1 on the diagonal and -1 elsewhere, which many vectors cannot even reach."""
    logits = 2 * torch.eye(9) - 1
    assert contrastive_loss(logits).item() == pytest.approx(math.log(1 + 8 * math.exp(-2)), rel=1e-6)


def test_one_vector_added_to_all_texts_at_a_right_angle_to_the_images_changes_nothing():
    images, texts = draw(5, 4), draw(5, 4, seed=1)
    images[:, 3] = 0
    moved = texts + torch.tensor([0.0, 0.0, 0.0, 7.0])
    assert_same(contrastive_loss(images @ moved.T), contrastive_loss(images @ texts.T))


@pytest.mark.parametrize("shape", [(2, 3), (4,), (2, 2, 2), (0, 0)])
def test_what_is_not_square_is_refused(shape):
    with pytest.raises(ValueError, match=r"logits must be square, \(B, B\)"):
        contrastive_loss(torch.zeros(shape))
