"""Residual networks (He et al. 2016): each block adds a correction to what it is given."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from tutorlib.layers.convolution import ConvNorm

REDUCTION = 4  # a bottleneck's inner width is a quarter of its outer one


class ResidualBlock(nn.Module):
    """relu(shortcut(x) + f(x)), where f is two 3 x 3 convolutions, or a bottleneck: 1 x 1, 3 x 3, 1 x 1.

    The shortcut is x itself, or a 1 x 1 convolution where shapes differ. In a bottleneck the 3 x 3 convolution has the stride;
    the paper gives it to the first 1 x 1, which then never sees three pixels of four. `residual=False` leaves the shortcut out:
    a plain network's block, for comparison. Raises ValueError for a bottleneck whose inner width would be zero.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, *, bottleneck: bool = False,
                 residual: bool = True):
        super().__init__()
        if bottleneck and out_channels < REDUCTION:
            raise ValueError(f"out_channels must be at least {REDUCTION} with a bottleneck, got {out_channels}")
        inner = out_channels // REDUCTION
        self.correction = nn.Sequential(
            ConvNorm(in_channels, inner, 1),
            ConvNorm(inner, inner, 3, stride=stride),
            ConvNorm(inner, out_channels, 1, activation=None),
        ) if bottleneck else nn.Sequential(
            ConvNorm(in_channels, out_channels, 3, stride=stride),
            ConvNorm(out_channels, out_channels, 3, activation=None),
        )
        self.residual = residual
        same = in_channels == out_channels and stride == 1
        self.shortcut = None if same or not residual else ConvNorm(in_channels, out_channels, 1, stride=stride, activation=None)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, O, H / stride, W / stride)."""
        correction = self.correction(images)
        if not self.residual:
            return F.relu(correction)
        return F.relu((images if self.shortcut is None else self.shortcut(images)) + correction)


class ResNet(nn.Module):
    """Stem, stages of residual blocks, mean over the pixels, linear layer. The default is ResNet-18.

    `depths` are the blocks of each stage and `widths` its channels; every stage but the first halves the image. ResNet-50 is
    `ResNet((3, 4, 6, 3), (256, 512, 1024, 2048), bottleneck=True)`. The stem is a 7 x 7 convolution and a 3 x 3 max pooling,
    both of stride 2; with `small_images` it is one 3 x 3 convolution, as in section 4.2 of the paper. `residual=False` makes a
    plain network.
    Raises ValueError where depths and widths disagree.
    """

    def __init__(self, depths: Sequence[int] = (2, 2, 2, 2), widths: Sequence[int] = (64, 128, 256, 512), *,
                 num_classes: int = 1000, in_channels: int = 3, stem_width: int = 64, bottleneck: bool = False,
                 small_images: bool = False, residual: bool = True):
        super().__init__()
        if len(depths) != len(widths) or not depths or min(depths) < 1 or min(widths) < 1:
            raise ValueError(f"depths and widths must be one positive number a stage, got {tuple(depths)} and {tuple(widths)}")
        self.small_images = small_images
        self.stem = ConvNorm(in_channels, stem_width, 3) if small_images else ConvNorm(in_channels, stem_width, 7, stride=2)
        blocks, channels = [], stem_width
        for stage, (depth, width) in enumerate(zip(depths, widths, strict=True)):
            for block in range(depth):
                stride = 2 if stage > 0 and block == 0 else 1
                blocks.append(ResidualBlock(channels, width, stride, bottleneck=bottleneck, residual=residual))
                channels = width
        self.blocks = nn.Sequential(*blocks)
        self.output = nn.Linear(channels, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> logits (B, num_classes)."""
        states = self.stem(images)  # (B, stem, H/2, W/2)
        if not self.small_images:
            states = F.max_pool2d(states, 3, stride=2, padding=1)  # (B, stem, H/4, W/4)
        states = self.blocks(states)  # (B, D, H/32, W/32) with four stages
        return self.output(states.mean((-2, -1)))  # (B, num_classes)
