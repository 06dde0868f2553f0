"""Where a token stands: sinusoidal and learned codes, added to the states, and rotary codes, which turn queries and keys."""

import torch
from torch import Tensor, nn


def sinusoidal_table(length: int, width: int) -> Tensor:
    """PE(p, 2i) = sin(p / 10000^(2i/D)), PE(p, 2i+1) = cos(the same): (length, D) float32.

    Source: Vaswani et al. 2017, section 3.5. Raises ValueError for an odd width. The angles are computed in float64,
    since float32 loses digits of large ones.
    """
    if width < 2 or width % 2:
        raise ValueError(f"width must be even and at least 2, one sine and one cosine a frequency, got {width}")
    place = torch.arange(length, dtype=torch.float64)  # (length,)
    frequency = 10000.0 ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)  # (D/2,)
    angle = place[:, None] * frequency  # (length, D/2)
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1).float()  # (length, D)


def check_length(end: int, max_length: int) -> None:
    """Raise ValueError where a sequence that reaches position `end` is longer than `max_length`."""
    if end > max_length:
        raise ValueError(f"the sequence reaches position {end}, but max_length is {max_length}")


class SinusoidalPosition(nn.Module):
    """Adds the fixed table of sines and cosines to the states (Vaswani et al. 2017, section 3.5). Nothing is learned."""

    def __init__(self, width: int, max_length: int = 5000):
        super().__init__()
        self.register_buffer("table", sinusoidal_table(max_length, width), persistent=False)  # (max_length, D)

    def forward(self, states: Tensor, offset: int = 0) -> Tensor:
        """states (B, T, D) -> (B, T, D); the first one stands at position `offset`. Raises ValueError beyond max_length."""
        end = offset + states.size(1)
        check_length(end, self.table.size(0))
        return states + self.table[offset:end].to(states.dtype)  # (T, D) broadcast over the batch


class LearnedPosition(nn.Module):
    """Adds one learned vector a position, as BERT and GPT do (Devlin et al. 2019; Radford et al. 2018)."""

    def __init__(self, max_length: int, width: int):
        super().__init__()
        self.table = nn.Parameter(torch.empty(max_length, width))  # (max_length, D)
        nn.init.normal_(self.table, std=0.02)

    def forward(self, states: Tensor, offset: int = 0) -> Tensor:
        """states (B, T, D) -> (B, T, D); the first one stands at position `offset`. Raises ValueError beyond max_length."""
        end = offset + states.size(1)
        check_length(end, self.table.size(0))
        return states + self.table[offset:end]


class RotaryPosition(nn.Module):
    """Turns each pair of coordinates by an angle proportional to the position (Su et al. 2021).

    A query at m and a key at n then have a product that depends on m - n only. Half-split layout: coordinate i is paired
    with coordinate i + K/2. Nothing is learned, and no length is fixed.
    """

    def __init__(self, head_width: int, base: float = 10000.0):
        super().__init__()
        if head_width < 2 or head_width % 2:
            raise ValueError(f"head_width must be even and at least 2, since coordinates turn in pairs, got {head_width}")
        self.head_width, self.base = head_width, base
        self._last: tuple = (None, (None, None))  # what was asked last, and its angles: layer after layer asks for the same

    def forward(self, heads: Tensor, offset: int = 0) -> Tensor:
        """heads (B, H, T, K) -> the same, turned; the first position is number `offset`."""
        asked = (offset, heads.size(-2), heads.device, heads.dtype)
        last, (cos, sin) = self._last  # (T, K/2) each
        if (*asked, self.base) != last:
            cos, sin = self._angles(*asked)
            self._last = ((*asked, self.base), (cos, sin))
        first, second = heads.chunk(2, dim=-1)  # (B, H, T, K/2) each
        return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)  # (B, H, T, K)

    @torch.inference_mode(False)  # what inference computes, a training step may find and use
    def _angles(self, offset: int, length: int, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Cosines and sines (T, K/2), computed in float32 whatever the dtype of the heads."""
        place = torch.arange(offset, offset + length, device=device)  # (T,)
        exponent = torch.arange(0, self.head_width, 2, device=device) / self.head_width  # (K/2,)
        angle = place[:, None] * self.base ** -exponent  # (T, K/2)
        return angle.cos().to(dtype), angle.sin().to(dtype)
