"""A vision Transformer that names every pixel (Strudel et al. 2021, with the linear decoder): patches, layers, a linear map."""

import torch.nn.functional as F
from torch import Tensor, nn

from tutorlib.arguments import check_counts
from tutorlib.layers import LayerNorm, LearnedPosition, encoder_layer
from tutorlib.layers.arguments import check_images


class PixelHead(nn.Module):
    """A linear map from a patch's vector to the logits of each of its pixels: (B, D, h, w) -> (B, C, P h, P w)."""

    def __init__(self, width: int, num_classes: int, patch: int):
        super().__init__()
        self.patch, self.output = patch, nn.Linear(width, num_classes * patch * patch)

    def forward(self, grid: Tensor) -> Tensor:
        """(B, D, h, w) -> (B, C, P h, P w)."""
        logits = self.output(grid.movedim(1, -1)).movedim(-1, 1)  # (B, C P P, h, w)
        return F.pixel_shuffle(logits, self.patch)  # (B, C, P h, P w)


class PatchHead(nn.Module):
    """The paper's: one vector of logits a patch, and between the patches' centers a straight line of them."""

    def __init__(self, width: int, num_classes: int, patch: int):
        super().__init__()
        self.patch, self.output = patch, nn.Linear(width, num_classes)

    def forward(self, grid: Tensor) -> Tensor:
        """(B, D, h, w) -> (B, C, P h, P w)."""
        logits = self.output(grid.movedim(1, -1)).movedim(-1, 1)  # (B, C, h, w)
        return F.interpolate(logits, scale_factor=self.patch, mode="bilinear")  # (B, C, P h, P w)


class Segmenter(nn.Module):
    """Patches become vectors, layers without a mask mix them, and the head makes logits for the pixels of each.

    `head` is one of the above or another module of its form. No class token is used. Raises ValueError where an image is not
    `image_size` pixels high and wide, or the patches do not tile it.
    """

    def __init__(self, head: nn.Module, *, image_size: int, patch: int, width: int, num_heads: int, num_layers: int,
                 in_channels: int = 3):
        super().__init__()
        check_counts(image_size=image_size, patch=patch, width=width, num_layers=num_layers, in_channels=in_channels)
        if image_size % patch:
            raise ValueError(f"image_size must be a multiple of patch={patch}, got {image_size}")
        self.image_size = image_size
        self.embedding = nn.Conv2d(in_channels, width, patch, stride=patch)  # a linear map of each patch
        self.position = LearnedPosition((image_size // patch) ** 2, width)
        self.layers = nn.ModuleList(encoder_layer(width, num_heads, 4 * width, activation="gelu", norm_first=True)
                                    for _ in range(num_layers))
        self.norm, self.head = LayerNorm(width), head

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> logits (B, classes, H, W)."""
        check_images(images)
        if images.shape[-2:] != (self.image_size, self.image_size):
            raise ValueError(f"images must be {self.image_size} x {self.image_size} pixels, got {tuple(images.shape)}")
        grid = self.embedding(images)  # (B, D, h, w), h = H / P
        states = self.position(grid.flatten(2).mT)  # (B, T, D), T = h w
        for layer in self.layers:
            states = layer(states)  # (B, T, D)
        return self.head(self.norm(states).mT.unflatten(2, grid.shape[-2:]))  # (B, classes, H, W)
