"""DETR, the detection Transformer: boxes as a set, one from each of Q learned queries (Carion et al. 2020).

A ResNet makes a map of features, an encoder lets its places see each other, a decoder lets the queries look at them, and each
query gives one box and one class, or no object.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tutorlib.layers.arguments import check_config, check_images
from tutorlib.layers.attention import MultiHeadAttention
from tutorlib.layers.convolution import ConvNorm
from tutorlib.layers.feed_forward import FeedForward
from tutorlib.layers.normalization import LayerNorm
from tutorlib.models.resnet import ResNet


@dataclass(frozen=True)
class DETRConfig:
    """Sizes and choices. The defaults are the paper's DETR with a ResNet-50, of 41 million parameters, for COCO."""

    num_classes: int = 91  # C: without "no object", which is class number C
    num_queries: int = 100  # Q: boxes that come out, far more than objects in a picture
    width: int = 256  # D
    num_heads: int = 8  # H
    hidden: int = 2048  # F
    num_encoder_layers: int = 6
    num_decoder_layers: int = 6
    dropout: float = 0.1
    activation: str = "relu"
    base: float = 10000.0  # of the positions' wavelengths; a small map wants shorter ones, as 20 (Liu et al. 2022)
    in_channels: int = 3
    depths: tuple[int, ...] = (3, 4, 6, 3)  # of the ResNet, as what follows
    widths: tuple[int, ...] = (256, 512, 1024, 2048)
    stem_width: int = 64
    bottleneck: bool = True
    small_images: bool = False
    frozen_norms: bool = False  # the paper's way with a pretrained ResNet; one that starts at random needs its norms

    def __post_init__(self) -> None:
        check_config(self)
        if self.width % 4:
            raise ValueError(f"width must be a multiple of 4, sine and cosine of two coordinates, got {self.width}")
        if not self.base > 0:
            raise ValueError(f"base must be a number above 0, got {self.base}")


class DETR(nn.Module):
    """ResNet, encoder, decoder, two heads.

    In each layer positions are added to queries and keys, never to values, and norms follow the sums::

        memory = norm(memory + attention(memory + position, memory + position, memory))
        memory = norm(memory + feed_forward(memory))

        states = norm(states + attention(states + queries, states + queries, states))
        states = norm(states + cross_attention(states + queries, memory + position, memory))
        states = norm(states + feed_forward(states))
    """

    def __init__(self, config: DETRConfig):
        super().__init__()
        self.config = config
        self.backbone = Backbone(config)
        self.projection = nn.Conv2d(config.widths[-1], config.width, kernel_size=1)
        self.encoder = nn.ModuleList(EncoderLayer(config) for _ in range(config.num_encoder_layers))
        self.decoder = nn.ModuleList(DecoderLayer(config) for _ in range(config.num_decoder_layers))
        self.norm = LayerNorm(config.width)
        self.queries = nn.Parameter(torch.randn(config.num_queries, config.width))  # (Q, D)
        self.to_class = nn.Linear(config.width, config.num_classes + 1)
        self.to_box = nn.Sequential(nn.Linear(config.width, config.width), nn.ReLU(),
                                    nn.Linear(config.width, config.width), nn.ReLU(),
                                    nn.Linear(config.width, 4))
        for weight in (*self.encoder.parameters(), *self.decoder.parameters()):
            if weight.dim() > 1:
                nn.init.xavier_uniform_(weight)

    def forward(self, images: Tensor, pixel_mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """images (B, C, H, W), pixel_mask (B, H, W), true where a pixel is no padding -> logits (B, Q, C + 1), boxes (B, Q, 4).

        Boxes are center, width and height as shares of the image with its padding. Raises ValueError for other shapes.
        """
        return self.heads(self.decoded(images, pixel_mask)[-1])

    def every_layer(self, images: Tensor, pixel_mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """What `forward` would give after each of the N decoder layers: logits (N, B, Q, C + 1), boxes (N, B, Q, 4)."""
        return self.heads(torch.stack(self.decoded(images, pixel_mask)))

    def decoded(self, images: Tensor, pixel_mask: Tensor | None = None) -> list[Tensor]:
        """The states of the queries (B, Q, D) behind each decoder layer."""
        memory, position, padding_mask = self.encoded(images, pixel_mask)  # (B, S, D), (B, S, D), (B, S)
        states = memory.new_zeros(len(memory), *self.queries.shape)  # (B, Q, D)
        keys, collected = memory + position, []
        for layer in self.decoder:
            states = layer(states, self.queries, keys, memory, padding_mask)  # (B, Q, D)
            collected.append(states)
        return collected

    def encoded(self, images: Tensor, pixel_mask: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor | None]:
        """The memory (B, S, D) of the S places of the feature map, their positions, and which are no padding (B, S)."""
        check_images(images)
        features = self.projection(self.backbone(images))  # (B, D, H/32, W/32)
        mask = _small_mask(images, pixel_mask, features)  # (B, H/32, W/32)
        position = sine_position(mask, self.config.width, self.config.base, features.dtype).flatten(1, 2)  # (B, S, D)
        padding_mask = None if pixel_mask is None else mask.flatten(1)  # (B, S)
        memory = features.flatten(2).mT  # (B, S, D)
        for layer in self.encoder:
            memory = layer(memory, position, padding_mask)  # (B, S, D)
        return memory, position, padding_mask

    def heads(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """states (..., Q, D) -> logits (..., Q, C + 1), boxes (..., Q, 4)."""
        states = self.norm(states)
        return self.to_class(states), self.to_box(states).sigmoid()


class EncoderLayer(nn.Module):
    """A place of the picture looks at the others."""

    def __init__(self, config: DETRConfig):
        super().__init__()
        self.attention = MultiHeadAttention(config.width, config.num_heads)
        self.feed_forward = FeedForward(config.width, config.hidden, activation=config.activation)
        self.attention_norm, self.feed_forward_norm = LayerNorm(config.width), LayerNorm(config.width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, memory: Tensor, position: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        """memory and position (B, S, D), padding_mask (B, S) -> (B, S, D)."""
        placed = memory + position  # (B, S, D)
        seen = self.attention(placed, placed, memory, padding_mask=padding_mask)  # (B, S, D)
        memory = self.attention_norm(memory + self.dropout(seen))
        return self.feed_forward_norm(memory + self.dropout(self.feed_forward(memory)))


class DecoderLayer(nn.Module):
    """The queries look at each other, then at the picture."""

    def __init__(self, config: DETRConfig):
        super().__init__()
        self.attention = MultiHeadAttention(config.width, config.num_heads)
        self.cross_attention = MultiHeadAttention(config.width, config.num_heads)
        self.feed_forward = FeedForward(config.width, config.hidden, activation=config.activation)
        self.attention_norm, self.cross_attention_norm = LayerNorm(config.width), LayerNorm(config.width)
        self.feed_forward_norm = LayerNorm(config.width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, states: Tensor, queries: Tensor, keys: Tensor, memory: Tensor,
                padding_mask: Tensor | None = None) -> Tensor:
        """states (B, Q, D), queries (Q, D), keys and memory (B, S, D), padding_mask (B, S) -> (B, Q, D)."""
        asking = states + queries  # (B, Q, D)
        states = self.attention_norm(states + self.dropout(self.attention(asking, asking, states)))
        seen = self.cross_attention(states + queries, keys, memory, padding_mask=padding_mask)  # (B, Q, D)
        states = self.cross_attention_norm(states + self.dropout(seen))
        return self.feed_forward_norm(states + self.dropout(self.feed_forward(states)))


class Backbone(nn.Module):
    """A ResNet up to its last map of features: without the mean over the pixels and the classes."""

    def __init__(self, config: DETRConfig):
        super().__init__()
        resnet = ResNet(config.depths, config.widths, in_channels=config.in_channels, stem_width=config.stem_width,
                        bottleneck=config.bottleneck, small_images=config.small_images)
        self.stem, self.blocks = resnet.stem, resnet.blocks
        self.pool = nn.Identity() if config.small_images else nn.MaxPool2d(3, stride=2, padding=1)
        if config.frozen_norms:
            freeze_norms(self)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, D', H/32, W/32) with four stages."""
        return self.blocks(self.pool(self.stem(images)))


def sine_position(mask: Tensor, width: int, base: float = 10000.0, dtype: torch.dtype = torch.float32) -> Tensor:
    """The code of each place: half of the coordinates say how far down it is, half how far across. (B, h, w) -> (B, h, w, D).

    Rows and columns are counted over what is true in the mask, and scaled so that the last one stands at 2π: the code says
    which part of the picture, whatever its size. Sines and cosines take turns (Carion et al. 2020, supplement A.4).
    """
    real = mask.to(torch.promote_types(dtype, torch.float32))  # (B, h, w)
    down, across = real.cumsum(1), real.cumsum(2)
    down, across = down / (down[:, -1:] + 1e-6), across / (across[:, :, -1:] + 1e-6)
    place = 2 * math.pi * torch.stack([down, across], -1)  # (B, h, w, 2)
    half = width // 2
    exponent = torch.arange(0, half, 2, device=real.device, dtype=real.dtype) / half  # (D/4,)
    angle = place.unsqueeze(-1) * base ** -exponent  # (B, h, w, 2, D/4)
    return torch.stack([angle.sin(), angle.cos()], -1).flatten(-3).to(dtype)  # (B, h, w, D)


def _small_mask(images: Tensor, pixel_mask: Tensor | None, features: Tensor) -> Tensor:
    """Which places of the features (B, D, h, w) are no padding, (B, h, w); (1, h, w), all true, where there is no mask."""
    if pixel_mask is None:
        return torch.ones(1, *features.shape[-2:], dtype=torch.bool, device=features.device)
    if pixel_mask.shape != (len(images), *images.shape[-2:]):
        raise ValueError(f"pixel_mask must have the shape {(len(images), *images.shape[-2:])}, got {tuple(pixel_mask.shape)}")
    return F.interpolate(pixel_mask[None].float(), size=features.shape[-2:])[0].bool()  # the nearest pixel says


class FrozenConvNorm(nn.Module):
    """A `ConvNorm` whose batch norm is fixed, in training too: nothing of it is learned and no statistics move.

    It is then a scale and a shift of each channel, and both go into the convolution: scale · (kernel ∗ x) is
    (scale · kernel) ∗ x. The kernel is still learned.
    """

    def __init__(self, unit: ConvNorm):
        super().__init__()
        self.convolution, self.norm, self.activation = unit.convolution, unit.norm, unit.activation
        for name in ("weight", "bias"):
            fixed = getattr(self.norm, name).detach()
            delattr(self.norm, name)
            self.norm.register_buffer(name, fixed)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, O, H', W')."""
        norm, convolution = self.norm, self.convolution
        scale = norm.weight * (norm.running_var + norm.eps).rsqrt()  # (O,)
        kernel = convolution.weight * scale.view(-1, 1, 1, 1)  # (O, C, K, K)
        shift = norm.bias - norm.running_mean * scale  # (O,)
        return self.activation(F.conv2d(images, kernel, shift, convolution.stride, convolution.padding))


def freeze_norms(model: nn.Module) -> None:
    """Put a `FrozenConvNorm` with the same weights in the place of every `ConvNorm`."""
    for parent in list(model.modules()):
        for name, unit in parent.named_children():
            if isinstance(unit, ConvNorm):
                setattr(parent, name, FrozenConvNorm(unit))
