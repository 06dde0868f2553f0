"""Where a token stands: sinusoidal and learned codes, added to the states, and rotary codes, which turn queries and keys."""

import torch
from torch import Tensor, nn

from tutorlib.arguments import check_counts, check_whole
from tutorlib.layers.arguments import check_floating, check_length, check_width

Rotation = tuple[Tensor, Tensor]


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


class SinusoidalPosition(nn.Module):
    """Adds the fixed table of sines and cosines to the states (Vaswani et al. 2017, section 3.5). Nothing is learned."""

    def __init__(self, width: int, max_length: int = 5000):
        super().__init__()
        check_counts(max_length=max_length)
        self.register_buffer("table", sinusoidal_table(max_length, width), persistent=False)  # (max_length, D)
        self.register_load_state_dict_post_hook(_fill_table)

    def forward(self, states: Tensor, offset: int = 0) -> Tensor:
        """states (B, T, D) -> (B, T, D); the first one stands at position `offset`. Raises ValueError beyond max_length."""
        return _add_rows(states, self.table.to(states.dtype), offset)


def _fill_table(position: SinusoidalPosition, _: object) -> None:
    """A module built on the meta device has no table, and none comes with its weights: it is computed again."""
    device = "cpu" if position.table.is_meta else position.table.device
    with torch.device(device):
        position.table = sinusoidal_table(*position.table.shape).to(position.table.dtype)


class LearnedPosition(nn.Module):
    """Adds one learned vector a position, as BERT and GPT do (Devlin et al. 2019; Radford et al. 2018)."""

    def __init__(self, max_length: int, width: int):
        super().__init__()
        check_counts(max_length=max_length, width=width)
        self.table = nn.Parameter(torch.empty(max_length, width))  # (max_length, D)
        nn.init.normal_(self.table, std=0.02)

    def forward(self, states: Tensor, offset: int = 0, places: Tensor | None = None) -> Tensor:
        """states (B, T, D) -> (B, T, D); the first one stands at position `offset`, or each at its own of `places` (B, T).

        Raises ValueError beyond max_length.
        """
        if places is None:
            return _add_rows(states, self.table, offset)
        check_length(offset + states.size(1), self.table.size(0))  # no row has more positions than there are columns
        return states + self.table[places]  # (B, T, D)


def _add_rows(states: Tensor, table: Tensor, offset: int) -> Tensor:
    """states (B, T, D) + rows `offset` to `offset` + T of the table (max_length, D)."""
    end = offset + states.size(1)
    check_whole("offset", offset, least=0)
    check_length(end, table.size(0))
    check_width("states", states, table.size(1))
    check_floating("states", states)
    return states + table[offset:end]  # (T, D) broadcast over the batch


class RotaryPosition(nn.Module):
    """Turns each pair of coordinates by an angle proportional to the position (Su et al. 2021).

    A query at m and a key at n then have a product that depends on m - n only. Half-split layout: coordinate i is paired
    with coordinate i + K/2. Nothing is learned, and no length is fixed.
    """

    def __init__(self, head_width: int, base: float = 10000.0):
        super().__init__()
        if head_width < 2 or head_width % 2:
            raise ValueError(f"head_width must be even and at least 2, since coordinates turn in pairs, got {head_width}")
        if not 0 < base < float("inf"):
            raise ValueError(f"base must be a finite number above 0, got {base}")
        self.head_width, self.base = head_width, base

    def forward(self, heads: Tensor, offset: int = 0) -> Tensor:
        """heads (B, H, T, K) -> the same, turned; the first position is number `offset`. Raises ValueError for another K."""
        check_width("heads", heads, self.head_width)
        return turn(heads, self.rotation(heads, offset))

    def rotation(self, states: Tensor, offset: int = 0, places: Tensor | None = None) -> Rotation:
        """Cosines and sines (T, K/2) for the positions of states (..., T, anything), in their dtype.

        With `places` (B, T), where rows stand at different ones, they are (B, 1, T, K/2), alike for all heads. They are
        computed in float32, in which positions are exact. Raises ValueError for integer states.
        """
        check_floating("states", states)
        exponent = torch.arange(0, self.head_width, 2, device=states.device) / self.head_width  # (K/2,)
        if places is None:
            places = torch.arange(offset, offset + states.size(-2), device=states.device)  # (T,)
        else:
            places = places[:, None]  # (B, 1, T)
        angle = places[..., None] * self.base ** -exponent  # (T, K/2) or (B, 1, T, K/2)
        return angle.cos().to(states.dtype), angle.sin().to(states.dtype)


def turn(heads: Tensor, rotation: Rotation) -> Tensor:
    """heads (B, H, T, K) -> the same, each pair of coordinates i and i + K/2 turned by its angle."""
    cos, sin = rotation  # (T, K/2) each
    first, second = heads.chunk(2, dim=-1)  # (B, H, T, K/2) each
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)  # (B, H, T, K)
