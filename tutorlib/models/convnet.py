"""A small convolutional network: the one of document 001, section 4, with its faults repaired."""

import torch.nn.functional as F
from torch import Tensor, nn


class ConvNet(nn.Module):
    """Twice convolution, ReLU and 2 x 2 max pooling; then two linear layers (after LeCun et al. 1998).

    By default 28 x 28 pixels become 64 maps of 7 x 7, as the document's linear layer expects (its convolutions lack the
    padding that makes it true), and the parameters are 421,642. With `padding=0` the maps are 5 x 5.
    """

    def __init__(self, num_classes: int = 10, *, in_channels: int = 1, image_size: int = 28,
                 channels: tuple[int, int] = (32, 64), hidden: int = 128, padding: int = 1):
        super().__init__()
        side = image_size
        for _ in channels:
            side = (side + 2 * padding - 2) // 2  # a 3 x 3 window loses two pixels, pooling halves and rounds down
        if side < 1:
            raise ValueError(f"image_size must leave a pixel after two convolutions and poolings, got {image_size}")
        self.conv1 = nn.Conv2d(in_channels, channels[0], 3, padding=padding)
        self.conv2 = nn.Conv2d(channels[0], channels[1], 3, padding=padding)
        self.hidden = nn.Linear(channels[1] * side * side, hidden)
        self.output = nn.Linear(hidden, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> logits (B, num_classes)."""
        states = F.max_pool2d(F.relu(self.conv1(images)), 2)  # (B, 32, H/2, W/2)
        states = F.max_pool2d(F.relu(self.conv2(states)), 2)  # (B, 64, H/4, W/4)
        states = F.relu(self.hidden(states.flatten(1)))  # (B, hidden)
        return self.output(states)  # (B, num_classes)
