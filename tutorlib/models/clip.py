"""CLIP: an encoder for images and one for texts, whose vectors can be compared with each other (Radford et al. 2021)."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tutorlib.layers import Encoder, FeedForward, LayerNorm, LearnedPosition, MultiHeadAttention, TransformerLayer
from tutorlib.layers.arguments import bounds, check_config, check_patches, check_square_images, check_tokens
from tutorlib.models.vit import PatchEmbedding


@dataclass(frozen=True)
class CLIPConfig:
    """Sizes and choices. The defaults are those of the smallest ViT of the paper, with patches of 32 x 32 pixels."""

    image_size: int = 224  # H = W
    patch_size: int = 32  # P: the side of a patch, which divides that of the image
    in_channels: int = 3  # C
    image_width: int = 768  # D of the image encoder
    image_heads: int = 12
    image_layers: int = 12
    image_hidden: int | None = None  # F: four times the width where nothing is said
    vocabulary: int = 49408  # V
    max_length: int = 77  # positions a text may have
    end: int = 49407  # the token whose state becomes the text's vector
    text_width: int = 512  # D of the text encoder
    text_heads: int = 8
    text_layers: int = 12
    text_hidden: int | None = None
    embedding: int = 512  # E: the vectors that are compared
    activation: str = "quick_gelu"
    eps: float = 1e-5

    def __post_init__(self) -> None:
        check_config(self)
        check_patches(self.image_size, self.patch_size)
        if self.end >= self.vocabulary:
            raise ValueError(f"end must be below vocabulary={self.vocabulary}, got {self.end}")

    @property
    def num_patches(self) -> int:
        """(H / P) squared."""
        return (self.image_size // self.patch_size) ** 2


class ImageEncoder(nn.Module):
    """The state of a class token behind the layers of norm([class token, patches] + position), normed: a ViT without a head.

    It differs from `ViT` by the norm in front of the layers, and by patches without a bias.
    """

    def __init__(self, config: CLIPConfig):
        super().__init__()
        self.config, width = config, config.image_width
        self.patches = PatchEmbedding(config.in_channels, width, config.patch_size)
        self.patches.projection.bias = None
        self.class_token = nn.Parameter(width**-0.5 * torch.randn(width))
        self.position = LearnedPosition(1 + config.num_patches, width)
        self.first_norm, self.norm = LayerNorm(width, config.eps), LayerNorm(width, config.eps)
        self.encoder = Encoder(_layer(config, width, config.image_heads, config.image_hidden)
                               for _ in range(config.image_layers))

    def forward(self, images: Tensor) -> Tensor:
        """images (B, C, H, W) -> states (B, D), one an image. Raises ValueError for images of another size."""
        check_square_images(images, self.config.in_channels, self.config.image_size)
        first = self.class_token.expand(len(images), 1, -1)  # (B, 1, D)
        states = self.first_norm(self.position(torch.cat([first, self.patches(images)], dim=1)))  # (B, T, D)
        return self.norm(self.encoder(states)[:, 0])  # (B, D)


class TextEncoder(nn.Module):
    """The state of the first end token behind causal layers of token + position, normed: GPT's body, read at one place.

    A token sees none that follow, so what stands behind the end changes nothing, and texts need no padding mask.
    """

    def __init__(self, config: CLIPConfig):
        super().__init__()
        self.config, width = config, config.text_width
        self.embedding = nn.Embedding(config.vocabulary, width)
        self.position = LearnedPosition(config.max_length, width)
        self.encoder = Encoder(_layer(config, width, config.text_heads, config.text_hidden)
                               for _ in range(config.text_layers))
        self.norm = LayerNorm(width, config.eps)

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens (N, T), integers -> states (N, D), one a text.

        Raises ValueError for tokens out of range, a text over `max_length`, and one without an end token.
        """
        check_tokens("tokens", tokens, self.config.vocabulary)
        is_end = tokens == self.config.end  # (N, T)
        found = bounds(is_end.any(1).int())
        if found is not None and found[0] == 0:
            raise ValueError(f"tokens must hold the end token {self.config.end} in each row, got a row without it")
        states = self.encoder(self.position(self.embedding(tokens)), causal=True)  # (N, T, D)
        last = is_end.int().argmax(1)  # (N,): the first end
        return self.norm(states[torch.arange(len(tokens), device=tokens.device), last])  # (N, D)


class CLIP(nn.Module):
    """logits = exp(logit_scale) · image vectors · text vectors, transposed: cosines, made sharper by a learned number.

    The layers of both encoders are, pre-norm, the text's causal::

        x = x + attention(norm(x))
        x = x + feed_forward(norm(x))
    """

    def __init__(self, config: CLIPConfig):
        super().__init__()
        self.config = config
        self.image, self.text = ImageEncoder(config), TextEncoder(config)
        self.image_projection = nn.Linear(config.image_width, config.embedding, bias=False)
        self.text_projection = nn.Linear(config.text_width, config.embedding, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        self._initialize()

    def _initialize(self) -> None:
        """As in the paper's program: deviation width^-0.5, less for what is added to the residual stream; biases zero."""
        for encoder in (self.image, self.text):
            residual = (2 * len(encoder.encoder.layers)) ** -0.5
            for name, module in encoder.named_modules():
                if isinstance(module, nn.Linear):
                    shrunk = residual if name.endswith(("attention.output", "feed_forward.contract")) else 1
                    nn.init.normal_(module.weight, std=shrunk * module.in_features**-0.5)
                    nn.init.zeros_(module.bias)
        nn.init.normal_(self.image.patches.projection.weight, std=self.image.patches.projection.weight[0].numel() ** -0.5)
        nn.init.normal_(self.text.embedding.weight, std=0.02)
        for position in (self.image.position, self.text.position):
            nn.init.normal_(position.table, std=0.01)
        for projection in (self.image_projection, self.text_projection):
            nn.init.normal_(projection.weight, std=projection.in_features**-0.5)

    def encode_image(self, images: Tensor) -> Tensor:
        """images (B, C, H, W) -> vectors (B, E) of length 1."""
        return F.normalize(self.image_projection(self.image(images)), dim=-1)

    def encode_text(self, tokens: Tensor) -> Tensor:
        """tokens (N, T) -> vectors (N, E) of length 1."""
        return F.normalize(self.text_projection(self.text(tokens)), dim=-1)

    def forward(self, images: Tensor, tokens: Tensor) -> Tensor:
        """images (B, C, H, W), tokens (N, T) -> logits (B, N): how well each text fits each image."""
        return self.logit_scale.exp() * self.encode_image(images) @ self.encode_text(tokens).T


def _layer(config: CLIPConfig, width: int, heads: int, hidden: int | None) -> TransformerLayer:
    return TransformerLayer(
        MultiHeadAttention(width, heads), FeedForward(width, hidden or 4 * width, activation=config.activation),
        LayerNorm(width, config.eps), LayerNorm(width, config.eps), norm_first=True)
