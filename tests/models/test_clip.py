"""CLIP by itself: vectors of length one, where a text is read, what it refuses, that it learns."""

import math

import pytest
import torch
from torch import nn

from tests.closeness import assert_same, draw
from tutorlib.models import CLIP, CLIPConfig
from tutorlib.training.contrastive import contrastive_loss

SMALL = CLIPConfig(image_size=12, patch_size=4, in_channels=2, image_width=8, image_heads=2, image_layers=2, vocabulary=11,
                   max_length=6, end=2, text_width=12, text_heads=3, text_layers=2, embedding=5)


def small(seed=0, **changes):
    """With weights large enough to count."""
    torch.manual_seed(seed)
    model = CLIP(CLIPConfig(**vars(SMALL) | changes)).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.4)
    return model


def test_logits_are_cosines_times_the_scale():
    model, images, tokens = small(), draw(3, 2, 12, 12), torch.tensor([[1, 4, 2], [1, 5, 2]])
    pictures, words = model.encode_image(images), model.encode_text(tokens)
    assert_same(pictures.norm(dim=1), torch.ones(3))
    assert_same(words.norm(dim=1), torch.ones(2))
    assert_same(model(images, tokens), math.exp(model.logit_scale.item()) * torch.einsum("be,ne->bn", pictures, words))


def test_nothing_behind_the_first_end_counts():
    model = small()
    short, long, other = ([1, 4, 2], [1, 4, 2, 0, 0, 0], [1, 4, 2, 9, 2, 3])
    vectors = model.encode_text(torch.tensor([long, other]))
    assert_same(vectors, model.encode_text(torch.tensor([short])).expand(2, -1))
    assert (vectors[0] - model.encode_text(torch.tensor([[1, 5, 2]]))).abs().max() > 1e-3


def test_the_order_of_words_and_of_patches_counts():
    model, images = small(), draw(2, 2, 12, 12)
    one, two = model.encode_text(torch.tensor([[1, 4, 5, 2], [1, 5, 4, 2]]))
    assert (one - two).abs().max() > 1e-3
    halves = torch.cat([images[:, :, 8:], images[:, :, :8]], dim=2)
    assert (model.encode_image(halves) - model.encode_image(images)).abs().max() > 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_device_and_dtype_follow_the_model(dtype, device):
    model = small().to(device, dtype)
    logits = model(draw(3, 2, 12, 12, dtype=dtype, device=device), torch.tensor([[1, 2]], device=device))
    assert (logits.shape, logits.dtype, logits.device.type) == ((3, 1), dtype, device.type)
    logits.sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_number_of_parameters():
    """ViT-B/32: 87.8 million for images, 63.4 million for texts, and the scale."""
    with torch.device("meta"):
        model = CLIP(CLIPConfig())
    assert sum(p.numel() for p in model.parameters()) == 151_277_313


def test_the_scale_begins_as_in_the_paper():
    assert math.exp(CLIP(SMALL).logit_scale.item()) == pytest.approx(1 / 0.07)


@pytest.mark.parametrize("changes, message", [
    ({"patch_size": 5}, "image_size must be a multiple of patch_size=5, got 12"),
    ({"end": 11}, "end must be below vocabulary=11, got 11"),
    ({"embedding": 0}, "embedding must be at least 1, got 0"),
    ({"text_heads": 5}, "width must be a positive multiple of num_heads, got width=12, num_heads=5"),
])
def test_a_config_that_cannot_be_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        CLIP(CLIPConfig(**vars(SMALL) | changes))


@pytest.mark.parametrize("shape", [(2, 12, 12), (1, 2, 16, 16), (1, 1, 12, 12)])
def test_images_of_another_size_are_refused(shape):
    with pytest.raises(ValueError, match=r"images must have the shape \(B, C, H, W\)"):
        small().encode_image(torch.zeros(shape))


@pytest.mark.parametrize("tokens, message", [
    ([[1, 4, 2], [1, 4, 5]], "tokens must hold the end token 2 in each row, got a row without it"),
    ([[1, 11, 2]], r"tokens must lie in \[0, 11\)"),
    ([[1, 4, 4, 4, 4, 4, 2]], "max_length is 6"),
])
def test_texts_that_it_cannot_read_are_refused(tokens, message):
    with pytest.raises(ValueError, match=message):
        small().encode_text(torch.tensor(tokens))


def test_it_learns_a_batch_by_heart(device):
    torch.manual_seed(0)
    model = CLIP(SMALL).to(device)
    images = draw(8, 2, 12, 12, device=device)
    tokens = torch.tensor([[1, 3 + k, 2] for k in range(8)], device=device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(100):
        loss = contrastive_loss(model(images, tokens))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.05 and (model(images, tokens).argmax(1) == torch.arange(8, device=device)).all()
