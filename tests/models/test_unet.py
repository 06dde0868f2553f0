"""U-Net: the paper's wiring against plain torch modules, any size, conditions, what it learns and refuses."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tests.closeness import assert_same, assert_same_gradients
from tutorlib.models.unet import ConvBlock, UNet, concatenate, unet


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def muted(fine, states):
    """No skip connection, in the same network."""
    return concatenate(torch.zeros_like(fine), states)


class Reference(nn.Module):
    """The same network by recursion, in torch's own modules: a level is block, inner level at half the size, block."""

    def __init__(self, theirs: UNet, level: int, skips: bool):
        super().__init__()
        depth = len(theirs.down)
        self.skips, self.inner = skips, Reference(theirs, level + 1, skips) if level < depth else None
        blocks = [theirs.down[level], theirs.up[depth - 1 - level]] if level < depth else [theirs.middle[0]]
        self.blocks = nn.ModuleList(nn.Sequential(*[part for unit in block for part in self.torchs(unit)]) for block in blocks)
        self.pool, self.twice = nn.MaxPool2d(2), nn.Upsample(scale_factor=2)

    @staticmethod
    def torchs(unit: nn.Module) -> list[nn.Module]:
        norm = nn.BatchNorm2d(len(unit.norm.weight))
        norm.weight, norm.bias = unit.norm.weight, unit.norm.bias
        return [unit.convolution, norm, nn.ReLU()]

    def forward(self, images):
        if self.inner is None:
            return self.blocks[0](images)
        fine = self.blocks[0](images)
        below = self.twice(self.inner(self.pool(fine)))
        return self.blocks[1](torch.cat([fine if self.skips else 0 * fine, below], 1))


@settings(max_examples=12, deadline=None)
@given(st.lists(st.integers(1, 6), min_size=2, max_size=4), st.integers(1, 3), st.booleans(), st.integers(0, 99))
def test_values_and_gradients_are_those_of_plain_modules(widths, channels, skips, seed):
    torch.manual_seed(seed)
    model = unet(3, in_channels=channels, widths=widths, join=concatenate if skips else muted).double()
    reference = nn.Sequential(Reference(model, 0, skips), model.head).double()
    images = torch.randn(2, channels, 16, 24, dtype=torch.float64)
    assert_same(model(images), reference(images))
    weights = list(model.parameters())
    assert_same_gradients(model(images), reference(images), weights, weights)


def test_parameters_are_those_of_the_papers_widths():
    """Two 3 x 3 convolutions a block; with padding or without, the kernels are the paper's."""
    def block(before, after):
        return 9 * before * after + 9 * after * after + 4 * after
    widths = (64, 128, 256, 512, 1024)
    with torch.device("meta"):
        model = unet(2, in_channels=1, widths=widths)
    down = sum(block(before, after) for before, after in zip((1, *widths), widths))
    up = sum(block(fine + coarse, fine) for fine, coarse in pairwise(widths))
    assert parameters(model) == down + up + 64 * 2 + 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_size_device_and_dtype(dtype, device):
    model = unet(5, widths=(2, 4, 4)).to(device, dtype)
    for size in ((4, 4), (7, 13), (10, 6)):
        logits = model(torch.randn(2, 3, *size, device=device, dtype=dtype))
        assert logits.shape == (2, 5, *size) and logits.dtype == dtype and logits.device.type == device.type


def test_a_skip_carries_one_pixel_and_nothing_else_does():
    """Two pixels of one 4 x 4 tile, alike from below: only what was kept at full size can tell them apart."""
    torch.manual_seed(0)
    for join, can in ((concatenate, True), (muted, False)):
        model = unet(3, widths=(4, 4, 4), join=join).eval()
        for block in model.up:  # what is left of each block is the middle of its kernels: no neighbors
            for unit in block:
                unit.convolution.weight.data[:, :, [0, 0, 0, 1, 1, 2, 2, 2], [0, 1, 2, 0, 2, 0, 1, 2]] = 0
        logits = model(torch.rand(1, 3, 16, 16))  # (1, 3, 16, 16)
        tiles = logits.unfold(2, 4, 4).unfold(3, 4, 4)  # (1, 3, 4, 4, 4, 4)
        assert bool(tiles.std((-1, -2)).max() > 1e-3) is can


def test_each_block_is_told_the_condition_and_the_order_of_channels_is_kept_then_below():
    class Told(nn.Module):
        def __init__(self, name):
            super().__init__()
            self.name = name

        def forward(self, states, *condition):
            calls.append((self.name, tuple(states.shape), condition))
            return states + 1

    calls = []
    seen = []
    model = UNet([Told("down 1"), Told("down 2")], [Told("middle 1"), Told("middle 2")], [Told("up 1"), Told("up 2")],
                 nn.Identity(), join=lambda fine, states: seen.append((float(fine.mean()), float(states.mean()))) or states)
    time = torch.tensor([3.0])
    model(torch.zeros(1, 1, 8, 8), time, "a class")
    assert [name for name, _, _ in calls] == ["down 1", "down 2", "middle 1", "middle 2", "up 1", "up 2"]
    assert [shape[-1] for _, shape, _ in calls] == [8, 4, 2, 2, 4, 8]
    assert all(condition == (time, "a class") for _, _, condition in calls)
    assert seen == [(2.0, 4.0), (1.0, 5.0)]  # what the last block down gave is met first
    wide = UNet([nn.Identity()], [nn.Conv2d(1, 2, 1)], [nn.Identity()], nn.Identity())
    images = torch.rand(1, 1, 2, 2)
    assert torch.equal(wide(images)[:, :1], images) and wide(images).shape == (1, 3, 2, 2)


def test_overfits_a_batch():
    torch.manual_seed(0)
    images = torch.rand(2, 3, 16, 16)
    classes = images.argmax(1)  # (2, 16, 16): of each pixel by itself, so that nothing but the finest skip can tell
    model = unet(3, widths=(16, 32, 64))
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(60):
        loss = nn.functional.cross_entropy(model(images), classes)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert torch.equal(model(images).argmax(1), classes)


@pytest.mark.parametrize(("build", "message"), [
    (lambda: UNet([nn.Identity()], [], [], nn.Identity()), "up must have as many blocks as down, 1, got 0"),
    (lambda: unet(3, widths=(8,)), r"widths must be at least two, of a size and its half, got \(8,\)"),
    (lambda: unet(3, widths=(8, 0)), r"widths\[1\] must be at least 1, got 0"),
    (lambda: unet(0), "num_classes must be at least 1, got 0"),
    (lambda: unet(3, in_channels=0), "in_channels must be at least 1, got 0"),
    (lambda: unet(3)(torch.rand(1, 3, 7, 16)), r"sides of at least 8, to be halved 3 times, got \(1, 3, 7, 16\)"),
    (lambda: unet(3)(torch.rand(3, 16, 16)), r"images must have the shape \(B, C, H, W\), got \(3, 16, 16\)"),
])
def test_impossible_sizes_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_a_block_keeps_the_size():
    assert ConvBlock(2, 5)(torch.rand(1, 2, 3, 3)).shape == (1, 5, 3, 3)
