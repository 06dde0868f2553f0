"""The segmenter: equal to torch's own layers, each pixel from its own patch's vector, what it learns and refuses."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tests.closeness import assert_same, assert_same_gradients
from tutorlib.models.segmenter import PatchHead, PixelHead, Segmenter
from tutorlib.pretrained import from_torch


def segmenter(patch=4, classes=3, head=PixelHead, **sizes) -> Segmenter:
    sizes = dict(image_size=8, width=8, num_heads=2, num_layers=2) | sizes
    return Segmenter(head(sizes["width"], classes, patch), patch=patch, **sizes)


@settings(max_examples=10, deadline=None)
@given(patch=st.sampled_from([1, 2, 4]), heads=st.integers(1, 3), layers=st.integers(1, 3), classes=st.integers(1, 4),
       paper=st.booleans(), seed=st.integers(0, 99))
def test_values_and_gradients_are_those_of_torchs_layers(patch, heads, layers, classes, paper, seed):
    """Patches cut by unfold, nn.TransformerEncoder, and for the pixels a transposed convolution of stride P."""
    torch.manual_seed(seed)
    model = segmenter(patch, classes, PatchHead if paper else PixelHead, width=4 * heads, num_heads=heads,
                      num_layers=layers).double()
    layer = nn.TransformerEncoderLayer(4 * heads, heads, 16 * heads, dropout=0.0, activation="gelu", batch_first=True,
                                       norm_first=True)
    encoder = nn.TransformerEncoder(layer, layers, nn.LayerNorm(4 * heads), enable_nested_tensor=False).double()
    for parameter in encoder.parameters():
        nn.init.normal_(parameter, std=0.4)
    copy = from_torch(encoder)
    model.layers.load_state_dict(copy.layers.state_dict())
    model.norm.load_state_dict(copy.final_norm.state_dict())
    images = torch.randn(2, 3, 8, 8, dtype=torch.float64, requires_grad=True)
    patches = F.unfold(images, patch, stride=patch).mT  # (B, T, 3 P P)
    states = encoder(F.linear(patches, model.embedding.weight.flatten(1), model.embedding.bias) + model.position.table)
    weight, bias, side = model.head.output.weight, model.head.output.bias, 8 // patch
    grid = states.mT.unflatten(2, (side, side))  # (B, D, h, w)
    if paper:
        expected = F.interpolate(F.conv2d(grid, weight[..., None, None], bias), (8, 8), mode="bilinear")
    else:
        kernel = weight.T.reshape(4 * heads, classes, patch, patch)  # (D, C, P, P)
        expected = F.conv_transpose2d(grid, kernel, stride=patch) + F.pixel_shuffle(
            bias.view(1, -1, 1, 1).expand(1, -1, side, side), patch)
    assert_same(model(images), expected)
    assert_same_gradients(model(images), expected, [images, weight], [images, weight])


def test_a_patchs_pixels_come_from_its_vector_alone():
    """Between patches only attention speaks: with its output at zero, a patch cannot see its neighbor."""
    torch.manual_seed(0)
    model = segmenter(patch=4).eval()
    images, other = torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 8)
    other[..., :4, :4] = images[..., :4, :4]
    assert not torch.allclose(model(images)[..., :4, :4], model(other)[..., :4, :4], atol=1e-4)
    for layer in model.layers:
        nn.init.zeros_(layer.attention.output.weight)
    assert_same(model(images)[..., :4, :4], model(other)[..., :4, :4])


def test_without_positions_patches_that_move_take_their_pixels_along():
    model = segmenter(patch=4).eval()
    nn.init.zeros_(model.position.table)
    images = torch.rand(1, 3, 8, 8)
    assert_same(model(images.roll(4, -1)), model(images).roll(4, -1))


@pytest.mark.parametrize("head", [PixelHead, PatchHead])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_device_and_dtype_follow(head, dtype, device):
    model = segmenter(head=head).to(device, dtype)
    logits = model(torch.rand(2, 3, 8, 8, device=device, dtype=dtype))
    assert logits.shape == (2, 3, 8, 8) and logits.dtype == dtype and logits.device.type == device.type


def test_overfits_a_batch():
    torch.manual_seed(0)
    images = torch.rand(2, 3, 8, 8)
    classes = images.argmax(1)  # (2, 8, 8)
    model = segmenter(patch=4, width=32, num_heads=4)
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    for _ in range(150):
        loss = F.cross_entropy(model(images), classes)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert torch.equal(model(images).argmax(1), classes)


@pytest.mark.parametrize(("build", "message"), [
    (lambda: segmenter(patch=3), "image_size must be a multiple of patch=3, got 8"),
    (lambda: segmenter(num_layers=0), "num_layers must be at least 1, got 0"),
    (lambda: segmenter(width=9), "width must be a positive multiple of num_heads"),
    (lambda: segmenter()(torch.rand(1, 3, 8, 12)), r"images must be 8 x 8 pixels, got \(1, 3, 8, 12\)"),
    (lambda: segmenter()(torch.rand(3, 8, 8)), r"images must have the shape \(B, C, H, W\), got \(3, 8, 8\)"),
])
def test_refusals(build, message):
    with pytest.raises(ValueError, match=message):
        build()
