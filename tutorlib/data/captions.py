"""Pictures with a caption of a color, a shape and a place, so that known words can make a caption that was never shown.

Of the 216 captions 144 are *seen* and 72 *unseen*. Every pair of words (color and shape, color and place, shape and place)
stands in a seen caption; it is the three together that are new.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from tutorlib.arguments import check_whole
from tutorlib.data.batches import numbered_generator
from tutorlib.data.scenes import shape_ink
from tutorlib.text.vocabulary import Vocabulary, pad_right

COLORS = {"red": (1.0, 0.1, 0.1), "green": (0.1, 0.8, 0.1), "blue": (0.2, 0.3, 1.0), "yellow": (1.0, 0.9, 0.1),
          "cyan": (0.1, 0.9, 0.9), "pink": (1.0, 0.4, 0.8), "coral": (1.0, 0.55, 0.1), "white": (1.0, 1.0, 1.0)}
SHAPES = ("circle", "square", "triangle")
PLACES = ("top left", "top", "top right", "left", "center", "right", "bottom left", "bottom", "bottom right")
SIDES = (7, 10)  # pixels of a shape, the least and the most


class Captioned(NamedTuple):
    """N pictures: images (N, 3, S, S) in float32, 0 to 1, and captions (N,), places in `CAPTIONS`."""

    images: Tensor
    captions: Tensor


def numbers_of_caption(caption: int) -> tuple[int, int, int]:
    """The places of a caption's color, shape and place in `COLORS`, `SHAPES` and `PLACES`."""
    color, rest = divmod(caption, len(SHAPES) * len(PLACES))
    return color, *divmod(rest, len(PLACES))


def _caption(number: int) -> str:
    color, shape, place = numbers_of_caption(number)
    return f"a {tuple(COLORS)[color]} {SHAPES[shape]} at the {PLACES[place]}"


CAPTIONS = tuple(_caption(number) for number in range(len(COLORS) * len(SHAPES) * len(PLACES)))
UNSEEN = torch.tensor([sum(numbers_of_caption(number)) % 3 == 0 for number in range(len(CAPTIONS))])  # (216,)
VOCABULARY = Vocabulary(dict.fromkeys(word for caption in CAPTIONS for word in caption.split()))


def caption_tokens(captions: list[str] | tuple[str, ...]) -> Tensor:
    """Texts of the captions' words -> tokens (N, T): begin, the words, end, padding. Raises ValueError for other words."""
    return pad_right([[Vocabulary.begin, *VOCABULARY.encode(caption.split()), Vocabulary.end] for caption in captions])


def make_captioned(captions: Tensor, seed: int, *, size: int = 32, noise: float = 0.1) -> Captioned:
    """Draw a picture for each of `captions` (N,). Picture k depends on `seed`, k, its caption and the options alone.

    The shape is 7 to 10 pixels wide and lies in its ninth of the picture, by up to a pixel off; ground, light and tint vary.
    `noise` is the standard deviation of what is added to each pixel. Raises ValueError for a caption out of range, a size
    that is no multiple of 4 from 32 on, and a negative noise.
    """
    check_whole("size", size, least=32)
    if size % 4:
        raise ValueError(f"size must be a multiple of 4, got {size}")
    if not noise >= 0:
        raise ValueError(f"noise must be at least 0, got {noise}")
    if captions.dim() != 1 or not all(0 <= number < len(CAPTIONS) for number in captions.tolist()):
        raise ValueError(f"captions must be (N,) numbers from 0 to {len(CAPTIONS) - 1}, got {captions}")
    images = [_draw(number, numbered_generator(seed, k), size, noise) for k, number in enumerate(captions.tolist())]
    return Captioned(torch.stack(images) if images else torch.zeros(0, 3, size, size), captions)


def _draw(caption: int, generator: torch.Generator, size: int, noise: float) -> Tensor:
    """(3, S, S)."""
    color, shape, place = numbers_of_caption(caption)
    side = int(torch.randint(SIDES[0], SIDES[1] + 1, (), generator=generator))
    row, column = divmod(place, 3)
    top, left = (round((2 * third + 1) * size / 6 - side / 2) + int(step) for third, step in zip(
        (row, column), torch.randint(-1, 2, (2,), generator=generator), strict=True))
    top, left = (min(max(edge, 0), size - side) for edge in (top, left))
    ink = F.pad(shape_ink(SHAPES[shape], side), (left, size - side - left, top, size - side - top))  # (S, S)
    ground = (0.05 + 0.3 * torch.rand(3, generator=generator))[:, None, None]  # (3, 1, 1)
    tint = torch.tensor(list(COLORS.values())[color]) * (0.8 + 0.2 * torch.rand(3, generator=generator))  # (3,)
    light = 0.75 + 0.5 * torch.rand(1, 1, 4, 4, generator=generator)  # from three to five quarters
    image = (ground + ink * (tint[:, None, None] - ground)) * F.interpolate(light, size=(size, size), mode="bilinear")[0]
    return (image + noise * torch.randn(3, size, size, generator=generator)).clamp(0, 1)
