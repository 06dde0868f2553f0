"""MobileNetV2 (Sandler et al. 2018): a network for telephones, of separable convolutions and inverted bottlenecks."""

from torch import Tensor, nn

from tutorlib.layers.convolution import ConvNorm

# The paper's table 2: expansion of the width, channels, blocks, stride of the first block.
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


class InvertedBottleneck(nn.Module):
    """Widen (1 x 1), filter each channel by itself (3 x 3), narrow without an activation (1 x 1); add the input where it fits.

    A residual block's bottleneck is narrow inside; this one is wide inside, and the shortcut joins the narrow ends.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, expansion: int):
        super().__init__()
        inner = in_channels * expansion
        widen = [ConvNorm(in_channels, inner, 1, activation="relu6")] if expansion > 1 else []
        self.correction = nn.Sequential(
            *widen,
            ConvNorm(inner, inner, 3, stride=stride, groups=inner, activation="relu6"),
            ConvNorm(inner, out_channels, 1, activation=None),
        )
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, O, H / stride, W / stride)."""
        return images + self.correction(images) if self.residual else self.correction(images)


class MobileNetV2(nn.Module):
    """The network of the paper's table 2 at width 1: 3.5 million parameters for 1,000 classes."""

    def __init__(self, num_classes: int = 1000, *, dropout: float = 0.2):
        super().__init__()
        blocks, channels = [ConvNorm(3, 32, 3, stride=2, activation="relu6")], 32
        for expansion, width, depth, first_stride in STAGES:
            for block in range(depth):
                blocks.append(InvertedBottleneck(channels, width, first_stride if block == 0 else 1, expansion))
                channels = width
        self.blocks = nn.Sequential(*blocks, ConvNorm(channels, 1280, 1, activation="relu6"))
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(1280, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> logits (B, num_classes); trained for 224 x 224 pixels."""
        states = self.blocks(images)  # (B, 1280, H/32, W/32)
        return self.output(self.dropout(states.mean((-2, -1))))  # (B, num_classes)
