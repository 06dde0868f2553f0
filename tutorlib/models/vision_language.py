"""A language model that is given a picture: image tokens stand before the words (as in LLaVA, Liu et al. 2023).

The picture's tokens all see each other, the words see the picture and what stands before them.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from tutorlib.layers import ConvNorm, prefix_causal_mask
from tutorlib.layers.arguments import check_length, check_tokens
from tutorlib.models.gpt import GPT


class ConvolutionalStem(nn.Module):
    """Convolutions of stride 2, whose last map is read place by place, row by row: H/8 · W/8 tokens, of three convolutions."""

    def __init__(self, channels: tuple[int, ...] = (3, 16, 32, 64)):
        super().__init__()
        self.width = channels[-1]  # E
        self.convolutions = nn.Sequential(*(ConvNorm(*pair, 3, stride=2) for pair in pairwise(channels)))

    def forward(self, images: Tensor) -> Tensor:
        """images (B, C, H, W) -> (B, N, E)."""
        return self.convolutions(images).flatten(2).mT  # (B, N, E)


class VisionLanguage(nn.Module):
    """logits of the words behind layers([W vision(image), embed(words)] + position): a GPT with a picture before its words.

    `vision` is any module that makes (B, N, E) of images, and has the number E as `width`; `language` is a GPT of width D whose
    positions suffice for N image tokens and the words.
    """

    def __init__(self, vision: nn.Module, language: GPT):
        super().__init__()
        self.vision, self.language = vision, language
        self.projection = nn.Linear(vision.width, language.config.width)

    def forward(self, images: Tensor, tokens: Tensor) -> Tensor:
        """images (B, C, H, W), tokens (B, T) -> logits (B, T, V): those of a word predict the next from picture and words.

        What stands behind a word does not reach it, so that padding at the right needs no mask. Raises ValueError for tokens
        outside the vocabulary, another number of pictures than of rows, and more positions than `language` has.
        """
        check_tokens("tokens", tokens, self.language.config.vocabulary)
        if len(images) != len(tokens):
            raise ValueError(f"images must be as many as the rows of tokens, {len(tokens)}, got {len(images)}")
        picture = self.projection(self.vision(images))  # (B, N, D)
        check_length(picture.size(1) + tokens.size(1), self.language.max_length)
        states = torch.cat([picture, self.language.embedding(tokens)], dim=1)  # (B, N + T, D)
        states = self.language.dropout(self.language.position(states))
        mask = self.mask(picture.size(1), states.size(1), states.device)  # (N + T, N + T)
        for layer in self.language.layers:
            states = layer(states, mask)  # (B, N + T, D)
        return self.language.output(self.language.norm(states[:, picture.size(1):]))  # (B, T, V)

    def mask(self, prefix: int, length: int, device: torch.device) -> Tensor:
        """Who may see whom: (N + T, N + T) boolean."""
        return prefix_causal_mask(prefix, length, device)


def answer_loss(logits: Tensor, tokens: Tensor, answers: Tensor, mark: int) -> Tensor:
    """Cross-entropy of the answer alone, nats a question: logits (B, T, V) at the token `mark` of each row, answers (B,)."""
    return nn.functional.cross_entropy(at_mark(logits, tokens, mark), answers)


def at_mark(logits: Tensor, tokens: Tensor, mark: int) -> Tensor:
    """logits (B, T, V) -> (B, V), those at the first token `mark` of each row of tokens (B, T)."""
    place = (tokens == mark).int().argmax(1)  # (B,)
    return logits[torch.arange(len(logits), device=logits.device), place]
