"""The Vision Transformer: an image is cut into patches, which a Transformer's encoder reads (Dosovitskiy et al. 2021)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tutorlib.layers import FeedForward, LayerNorm, LearnedPosition, MultiHeadAttention, TransformerLayer
from tutorlib.layers.arguments import check_config, check_patches, check_square_images
from tutorlib.layers.convolution import windows


@dataclass(frozen=True)
class ViTConfig:
    """Sizes and choices. The defaults are ViT-Base of the paper's table 1, with patches of 16 x 16 pixels."""

    image_size: int = 224  # H = W
    patch_size: int = 16  # P: the side of a patch, which divides that of the image
    in_channels: int = 3  # C
    num_classes: int = 1000
    width: int = 768  # D
    num_heads: int = 12
    num_layers: int = 12
    hidden: int | None = None  # F: four times the width where nothing is said
    dropout: float = 0.0
    activation: str = "gelu"
    eps: float = 1e-12

    def __post_init__(self) -> None:
        check_config(self)
        check_patches(self.image_size, self.patch_size)

    @property
    def num_patches(self) -> int:
        """(H / P) squared."""
        return (self.image_size // self.patch_size) ** 2


def patches(images: Tensor, size: int) -> Tensor:
    """Cut into squares, row by row, each written out as a row of numbers: (B, C, H, W) -> (B, H/P · W/P, C · P · P)."""
    squares = windows(images, size, stride=size)  # (B, C, H/P, W/P, P, P)
    return squares.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)  # (B, H/P · W/P, C · P · P)


class PatchEmbedding(nn.Module):
    """One linear map for all patches (Dosovitskiy et al. 2021, equation 1), in two faces with one result.

    Explicit, it multiplies the rows that `patches` makes; fused, it is a convolution whose windows do not overlap, with the
    same matrix as its kernels.
    """

    def __init__(self, in_channels: int, width: int, patch_size: int):
        super().__init__()
        self.patch_size = patch_size
        self.projection = nn.Conv2d(in_channels, width, patch_size, stride=patch_size)

    def forward(self, images: Tensor, *, fused: bool = True) -> Tensor:
        """(B, C, H, W) -> (B, H/P · W/P, D)."""
        if fused:
            return self.projection(images).flatten(2).mT  # (B, H/P · W/P, D)
        matrix = self.projection.weight.flatten(1)  # (D, C · P · P)
        return F.linear(patches(images, self.patch_size), matrix, self.projection.bias)  # (B, H/P · W/P, D)


class ViT(nn.Module):
    """logits = W norm(state of the class token behind the layers of [class token, patches] + position).

    Each layer is, pre-norm and without a mask::

        x = x + attention(norm(x))
        x = x + feed_forward(norm(x))
    """

    def __init__(self, config: ViTConfig):
        super().__init__()
        self.config = config
        self.patches = PatchEmbedding(config.in_channels, config.width, config.patch_size)
        self.class_token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.position = LearnedPosition(1 + config.num_patches, config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(_layer(config) for _ in range(config.num_layers))
        self.norm = LayerNorm(config.width, config.eps)
        self.output = nn.Linear(config.width, config.num_classes)
        self._initialize()

    def _initialize(self) -> None:
        """Matrices as in Glorot and Bengio 2010, biases zero; positions small and random; zero logits at the start."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                nn.init.xavier_uniform_(module.weight.flatten(1))  # the kernels are a matrix (D, C · P · P): a view of them
                nn.init.zeros_(module.bias)
        nn.init.zeros_(self.output.weight)

    def forward(self, images: Tensor) -> Tensor:
        """images (B, C, H, W) -> logits (B, num_classes). Raises ValueError for images of another size."""
        check_square_images(images, self.config.in_channels, self.config.image_size)
        states = self.patches(images)  # (B, T - 1, D)
        first = self.class_token.expand(len(images), -1, -1)  # (B, 1, D)
        states = self.dropout(self.position(torch.cat([first, states], dim=1)))  # (B, T, D)
        for layer in self.layers:
            states = layer(states)  # (B, T, D)
        return self.output(self.norm(states[:, 0]))  # (B, num_classes)


def _layer(config: ViTConfig) -> TransformerLayer:
    hidden = 4 * config.width if config.hidden is None else config.hidden
    return TransformerLayer(
        MultiHeadAttention(config.width, config.num_heads, dropout=config.dropout),
        FeedForward(config.width, hidden, activation=config.activation),
        LayerNorm(config.width, config.eps), LayerNorm(config.width, config.eps),
        norm_first=True, dropout=config.dropout)
