"""The chapter on images and text: its loss is that of the package, its blind score that of the captions."""
import torch
import torch.nn.functional as F

from tutorlib.data.captions import CAPTIONS, UNSEEN, numbers_of_caption
from tutorlib.exercises.multimodal import blind, contrastive, diagonal_only, with_twins
from tutorlib.training.contrastive import contrastive_loss


def test_the_loss_is_that_of_the_package():
    images, texts = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0))
    logits = 2.0 * F.normalize(images, dim=1) @ F.normalize(texts, dim=1).T
    torch.testing.assert_close(contrastive(images, texts, 2.0), contrastive_loss(logits))


def test_blind_to_the_shape_a_third_of_all_captions_is_right_and_every_unseen_one():
    everything = [numbers_of_caption(number) for number in range(len(CAPTIONS))]
    unseen = [words for words, new in zip(everything, UNSEEN.tolist(), strict=True) if new]
    assert abs(blind(everything, unseen, 1) - 1 / 3) < 1e-9 and blind(unseen, unseen, 1) == 1


def test_without_twins_nothing_changes():
    logits = torch.randn(5, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(with_twins(logits, torch.arange(5)), diagonal_only(logits, torch.arange(5)))
