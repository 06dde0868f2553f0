"""The Vision Transformer by itself: patches, the two forms, what permutations do to it, what it refuses, that it learns."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tests.closeness import assert_same, assert_same_gradients, draw
from tutorlib.models import ViT, ViTConfig
from tutorlib.models.vit import PatchEmbedding, patches

SMALL = ViTConfig(image_size=12, patch_size=4, in_channels=2, num_classes=3, width=8, num_heads=2, num_layers=2)


def small(seed=0, **changes):
    """With positions, class token and head large enough to count."""
    torch.manual_seed(seed)
    model = ViT(ViTConfig(**vars(SMALL) | changes)).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.4)
    return model


def test_patches_by_hand():
    image = torch.arange(32.0).view(1, 2, 4, 4)  # channel 1 is 16 more than channel 0
    cut = patches(image, 2)
    assert cut.shape == (1, 4, 8)
    assert cut[0].tolist() == [[0, 1, 4, 5, 16, 17, 20, 21], [2, 3, 6, 7, 18, 19, 22, 23],
                               [8, 9, 12, 13, 24, 25, 28, 29], [10, 11, 14, 15, 26, 27, 30, 31]]


@given(seed=st.integers(0, 10**6), batch=st.integers(1, 3), channels=st.integers(1, 3), width=st.integers(1, 9),
       size=st.integers(1, 4), rows=st.integers(1, 3), columns=st.integers(1, 3),
       dtype=st.sampled_from([torch.float32, torch.float64]))
def test_the_matrix_product_and_the_convolution_are_equal(seed, batch, channels, width, size, rows, columns, dtype):
    torch.manual_seed(seed)
    embedding = PatchEmbedding(channels, width, size).to(dtype)
    images = torch.randn(batch, channels, rows * size, columns * size, dtype=dtype, requires_grad=True)
    explicit, fused = embedding(images, fused=False), embedding(images)
    assert_same(explicit, fused)
    inputs = [images, *embedding.parameters()]
    assert_same_gradients(explicit, fused, inputs, inputs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_device_and_dtype_follow_the_model(dtype, device):
    model = small().to(device, dtype)
    logits = model(draw(3, 2, 12, 12, dtype=dtype, device=device))
    assert (logits.shape, logits.dtype, logits.device.type) == ((3, 3), dtype, device.type)
    logits.sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_bfloat16_is_float32_rounded():
    model, images = small(), draw(4, 2, 12, 12)
    error = (model.bfloat16()(images.bfloat16()).float() - small()(images)).abs().max()
    assert 0 < error < 0.05 * small()(images).abs().max()


def test_pixels_and_patches_can_be_shuffled_if_the_weights_are():
    """Nothing in the model says which pixels or patches are neighbors: another order is another naming of its weights."""
    model, images = small().double(), draw(2, 2, 12, 12, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    pixel, patch = torch.randperm(32, generator=generator), torch.randperm(9, generator=generator)
    cut = patches(images, 4)[:, patch][:, :, pixel]  # (B, 9, 2 · 16)
    shuffled = cut.view(2, 3, 3, 2, 4, 4).permute(0, 3, 1, 4, 2, 5).reshape(2, 2, 12, 12)
    assert torch.equal(patches(shuffled, 4), cut)
    renamed = small().double()
    with torch.no_grad():
        renamed.patches.projection.weight.copy_(model.patches.projection.weight.flatten(1)[:, pixel].view(8, 2, 4, 4))
        renamed.position.table[1:] = model.position.table[1:][patch]
    assert_same(renamed(shuffled), model(images))
    assert (model(shuffled) - model(images)).abs().max() > 1e-3


def test_without_positions_the_order_of_patches_is_lost():
    model, images = small(), draw(2, 2, 12, 12)
    halves = torch.cat([images[:, :, 8:], images[:, :, :8]], dim=2)  # the last row of patches first
    assert (model(halves) - model(images)).abs().max() > 1e-3
    model.position = nn.Identity()
    assert_same(model(halves), model(images))


def test_number_of_parameters():
    """ViT-Base has 86.6 million with ImageNet's head, as table 1 of the paper says, rounded."""
    with torch.device("meta"):
        assert sum(p.numel() for p in ViT(ViTConfig()).parameters()) == 86_567_656


def test_an_untrained_model_gives_every_class_the_same_logit():
    torch.manual_seed(0)
    assert torch.equal(ViT(SMALL)(draw(2, 2, 12, 12)), torch.zeros(2, 3))


def test_dropout_is_everywhere_that_it_is_said():
    model = ViT(ViTConfig(**vars(SMALL) | {"dropout": 0.3}))
    assert [m.p for m in (model.dropout, model.layers[0].dropout)] == [0.3, 0.3]
    assert model.layers[1].attention.dropout == 0.3 and model.layers[1].feed_forward.dropout.p == 0


@pytest.mark.parametrize("changes, message", [
    ({"patch_size": 5}, "image_size must be a multiple of patch_size=5, got 12"),
    ({"width": 0}, "width must be at least 1, got 0"),
    ({"num_layers": 1.5}, "num_layers must be a whole number, got 1.5"),
    ({"num_heads": 3}, "width must be a positive multiple of num_heads, got width=8, num_heads=3"),
])
def test_a_config_that_cannot_be_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        ViT(ViTConfig(**vars(SMALL) | changes))


@pytest.mark.parametrize("shape", [(2, 12, 12), (1, 2, 16, 16), (1, 1, 12, 12), (1, 2, 12, 8)])
def test_images_of_another_size_are_refused(shape):
    with pytest.raises(ValueError, match=r"images must have the shape \(B, C, H, W\)"):
        small()(torch.zeros(shape))


@pytest.mark.slow
def test_it_learns_a_batch_by_heart(device):
    torch.manual_seed(0)
    model = ViT(SMALL).to(device)
    images, labels = draw(32, 2, 12, 12, device=device), torch.arange(32, device=device) % 3
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(150):
        loss = nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.01 and (model(images).argmax(-1) == labels).all()
