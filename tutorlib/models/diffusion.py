"""The denoiser of diffusion and flow models: a U-Net (Ho et al. 2020) that is told the time and, here, what to draw."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tutorlib.arguments import check_counts
from tutorlib.layers.arguments import check_images
from tutorlib.models.unet import UNet

GROUPS = 8  # of channels, each normalized over an image


def time_features(time: Tensor, width: int) -> Tensor:
    """time (B,), from 0 to 1 -> (B, width): sines and cosines of 1000 t, from fast to slow as those of positions are.

    They are computed in float32. Raises ValueError for an odd width.
    """
    if width < 2 or width % 2:
        raise ValueError(f"width must be even and at least 2, one sine and one cosine a frequency, got {width}")
    exponent = torch.arange(0, width, 2, device=time.device) / width  # (width/2,)
    angle = 1000 * time.float()[:, None] * 10000.0**-exponent  # (B, width/2)
    return torch.cat([angle.sin(), angle.cos()], dim=1)  # (B, width)


class ModulatedBlock(nn.Module):
    """A residual block of two 3 x 3 convolutions in which the condition scales and shifts every channel.

    It begins as its shortcut: the last convolution is zero. `D` is the width of the condition.
    """

    def __init__(self, in_channels: int, out_channels: int, condition_width: int):
        super().__init__()
        self.norm1 = nn.GroupNorm(GROUPS, in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.modulation = nn.Linear(condition_width, 2 * out_channels)
        self.norm2 = nn.GroupNorm(GROUPS, out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.shortcut = nn.Identity() if in_channels == out_channels else nn.Conv2d(in_channels, out_channels, 1)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)

    def forward(self, states: Tensor, condition: Tensor) -> Tensor:
        """states (B, C, H, W), condition (B, D) -> (B, O, H, W)."""
        scale, shift = self.modulation(condition)[..., None, None].chunk(2, dim=1)  # (B, O, 1, 1) each
        change = self.conv1(F.silu(self.norm1(states)))  # (B, O, H, W)
        change = self.norm2(change) * (1 + scale) + shift  # (B, O, H, W)
        return self.shortcut(states) + self.conv2(F.silu(change))  # (B, O, H, W)


class Denoiser(nn.Module):
    """A U-Net of modulated blocks on small patches of the image; what it predicts, its training decides.

    Patches of 2 x 2 pixels become channels, which makes a step four times as cheap. Labels run from 0 to num_classes - 1, and
    num_classes, `unlabeled`, means that none is given. By default 28 x 28 pixels and 404,804 parameters; a new network gives
    zeros. Raises ValueError for widths that are no multiples of 8, and fewer than two.
    """

    def __init__(self, num_classes: int = 10, *, in_channels: int = 1, widths: Sequence[int] = (32, 64), patch: int = 2,
                 condition_width: int = 128):
        super().__init__()
        check_counts(num_classes=num_classes, in_channels=in_channels, patch=patch, condition_width=condition_width)
        if len(widths) < 2 or any(width < GROUPS or width % GROUPS for width in widths):
            raise ValueError(f"widths must be at least two multiples of {GROUPS}, got {tuple(widths)}")
        self.unlabeled, self.patch, self.frequencies = num_classes, patch, 2 * widths[0]
        self.time = nn.Sequential(nn.Linear(self.frequencies, condition_width), nn.SiLU(),
                                  nn.Linear(condition_width, condition_width))
        self.label = nn.Embedding(num_classes + 1, condition_width)
        self.stem = nn.Conv2d(in_channels * patch**2, widths[0], 3, padding=1)
        self.unet = _modulated_unet(widths, condition_width, in_channels * patch**2)

    def forward(self, noisy: Tensor, time: Tensor, labels: Tensor | None = None) -> Tensor:
        """noisy (B, C, H, W), time (B,), labels (B,) or None for all unlabeled -> (B, C, H, W)."""
        check_images(noisy)
        if any(side % self.patch for side in noisy.shape[-2:]):
            raise ValueError(f"noisy must have sides that are multiples of patch = {self.patch}, got {tuple(noisy.shape)}")
        if labels is None:
            labels = torch.full((len(noisy),), self.unlabeled, device=noisy.device)  # (B,)
        told = self.time(time_features(time, self.frequencies).to(noisy.dtype)) + self.label(labels)  # (B, D)
        states = self.stem(F.pixel_unshuffle(noisy, self.patch))  # (B, O, H/2, W/2)
        return F.pixel_shuffle(self.unet(states, F.silu(told)), self.patch)  # (B, C, H, W)


def _modulated_unet(widths: Sequence[int], condition_width: int, out_channels: int) -> UNet:
    def block(before: int, after: int) -> ModulatedBlock:
        return ModulatedBlock(before, after, condition_width)

    before = [widths[0], *widths[:-1]]  # what enters each block on the way down
    below = [*widths[1:], widths[-1]]  # what comes up to each block on the way up
    head = nn.Sequential(nn.GroupNorm(GROUPS, widths[0]), nn.SiLU(), nn.Conv2d(widths[0], out_channels, 3, padding=1))
    nn.init.zeros_(head[-1].weight)
    nn.init.zeros_(head[-1].bias)
    return UNet([block(*pair) for pair in zip(before, widths)], [block(widths[-1], widths[-1])],
                [block(width + deep, width) for width, deep in reversed(list(zip(widths, below)))], head)
