"""U-Net (Ronneberger, Fischer & Brox 2015): one answer a pixel; what was seen finely is kept for the way back."""

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tutorlib.arguments import check_counts
from tutorlib.layers.arguments import check_images
from tutorlib.layers.convolution import ConvNorm


def concatenate(kept: Tensor, states: Tensor) -> Tensor:
    """The skip connection: (B, C, H, W) and (B, D, H, W) -> (B, C + D, H, W)."""
    return torch.cat([kept, states], dim=1)


class ConvBlock(nn.Sequential):
    """Twice a 3 x 3 convolution, batch norm and ReLU: (B, C, H, W) -> (B, O, H, W).

    The paper has no norm, and its convolutions are not padded, so that its output is smaller than the image.
    """

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__(ConvNorm(in_channels, out_channels, 3), ConvNorm(out_channels, out_channels, 3))


class UNet(nn.Module):
    """Down: block, keep, halve. Middle: blocks. Up: double, join what was kept at this size, block. At last the head.

    `down`, `middle` and `up` are blocks, in the order in which they run; with L of them on the way down the middle works at
    1/2^L of the size, and the first block of `up` meets what the last of `down` gave. A block is called
    `block(states, *condition)` and keeps the size; the head, `head(states)`. With `concatenate` a block of `up` gets the
    channels of what was kept, then those from below. The paper doubles the size by a learned transposed convolution; here
    each vector is repeated.
    Raises ValueError where `up` and `down` have not as many blocks, and for images too small to be halved L times.
    """

    def __init__(self, down: Iterable[nn.Module], middle: Iterable[nn.Module], up: Iterable[nn.Module], head: nn.Module, *,
                 join: Callable[[Tensor, Tensor], Tensor] = concatenate):
        super().__init__()
        self.down, self.middle, self.up = nn.ModuleList(down), nn.ModuleList(middle), nn.ModuleList(up)
        self.head, self.join = head, join
        if len(self.up) != len(self.down):
            raise ValueError(f"up must have as many blocks as down, {len(self.down)}, got {len(self.up)}")

    def forward(self, images: Tensor, *condition: Tensor) -> Tensor:
        """images (B, C, H, W) and what every block is told beside them -> (B, O, H, W). Any H and W of at least 2^L will do."""
        check_images(images)
        if min(images.shape[-2:]) < 2 ** len(self.down):
            raise ValueError(f"images must have sides of at least {2 ** len(self.down)}, to be halved {len(self.down)} times, "
                             f"got {tuple(images.shape)}")
        states, kept = images, []
        for block in self.down:
            states = block(states, *condition)  # (B, C_l, H/2^l, W/2^l)
            kept.append(states)
            states = F.max_pool2d(states, 2)  # (B, C_l, H/2^(l+1), W/2^(l+1)), rounded down
        for block in self.middle:
            states = block(states, *condition)  # (B, C_L, H/2^L, W/2^L)
        for block in self.up:
            fine = kept.pop()  # (B, C_l, H/2^l, W/2^l)
            states = F.interpolate(states, fine.shape[-2:])  # (B, C_(l+1), H/2^l, W/2^l), each vector repeated
            states = block(self.join(fine, states), *condition)  # (B, C_l, H/2^l, W/2^l)
        return self.head(states)  # (B, O, H, W)


def unet(num_classes: int, *, in_channels: int = 3, widths: Sequence[int] = (16, 32, 64, 128),
         join: Callable[[Tensor, Tensor], Tensor] = concatenate) -> UNet:
    """The U-Net of these channels from top to bottom, for segmentation: images (B, C, H, W) -> logits (B, classes, H, W).

    The paper's has the widths (64, 128, 256, 512, 1024). `join` gives as many channels as `concatenate` does. Raises
    ValueError for fewer than two widths.
    """
    check_counts(num_classes=num_classes, in_channels=in_channels)
    if len(widths) < 2:
        raise ValueError(f"widths must be at least two, of a size and its half, got {tuple(widths)}")
    check_counts(**{f"widths[{number}]": width for number, width in enumerate(widths)})
    channels = [in_channels, *widths]
    down = [ConvBlock(before, after) for before, after in pairwise(channels[:-1])]
    middle = [ConvBlock(channels[-2], channels[-1])]
    up = [ConvBlock(fine + coarse, fine) for fine, coarse in reversed(list(pairwise(widths)))]
    return UNet(down, middle, up, nn.Conv2d(widths[0], num_classes, 1), join=join)
