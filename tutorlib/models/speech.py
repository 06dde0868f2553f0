"""Two small convolutional networks over spectrograms: one reads them as letters, one writes them from letters."""

import torch
from torch import Tensor, nn

from tutorlib.arguments import check_counts

MEAN, SPREAD = -3.4, 4.5  # of log mel energies of the training sounds: both networks work on (mel - MEAN) / SPREAD


class ConvolutionBlock(nn.Module):
    """x = x + relu(convolution(norm(x))), over time; states (B, T, W), the norm over W. Wider steps see further: `dilation`."""

    def __init__(self, width: int, kernel: int, dilation: int = 1):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.convolution = nn.Conv1d(width, width, kernel, padding=dilation * (kernel // 2), dilation=dilation)

    def forward(self, states: Tensor) -> Tensor:
        return states + self.convolution(self.norm(states).mT).relu().mT


class Recognizer(nn.Module):
    """Log mel (B, T, mels) -> log-probabilities of blank and letters (B, T / 2 rounded up, symbols): a step every 20 ms.

    A convolution halves the frames, residual ones look around (0.6 seconds in all), a linear map names letters.
    """

    def __init__(self, mels: int = 64, symbols: int = 28, width: int = 128, dilations: tuple[int, ...] = (1, 2, 4)):
        super().__init__()
        check_counts(mels=mels, symbols=symbols, width=width)
        self.first = nn.Conv1d(mels, width, 5, stride=2, padding=2)
        self.blocks = nn.Sequential(*[ConvolutionBlock(width, 5, dilation) for dilation in dilations])
        self.norm = nn.LayerNorm(width)
        self.output = nn.Linear(width, symbols)

    def forward(self, mel: Tensor) -> Tensor:
        """Raises ValueError for anything but (B, T, mels) with T at least 1."""
        if mel.dim() != 3 or mel.size(2) != self.first.in_channels or not mel.size(1):
            raise ValueError(f"mel must be (B, T, {self.first.in_channels}) with T at least 1, got {tuple(mel.shape)}")
        states = self.first((mel.mT - MEAN) / SPREAD).relu().mT  # (B, T / 2, W)
        return self.output(self.norm(self.blocks(states))).log_softmax(-1)


class Speaker(nn.Module):
    """Letters (L,) -> log mel (T, mels): how long each letter lasts, each repeated so often, and what that sounds like.

    The letters go through `context`, which sees neighbors; `duration` reads the logarithm of each one's frames off; repeated,
    each frame is told how far its letter has come, and `voice` makes the sound of it.
    """

    def __init__(self, mels: int = 64, symbols: int = 28, width: int = 96):
        super().__init__()
        check_counts(mels=mels, symbols=symbols, width=width)
        self.embedding = nn.Embedding(symbols, width)
        self.context = nn.Sequential(ConvolutionBlock(width, 3), ConvolutionBlock(width, 3), nn.LayerNorm(width))
        self.duration = nn.Linear(width, 1)
        self.progress = nn.Linear(3, width)
        self.voice = nn.Sequential(*[ConvolutionBlock(width, 5, dilation) for dilation in (1, 2, 4)], nn.LayerNorm(width))
        self.output = nn.Linear(width, mels)

    def forward(self, letters: Tensor, durations: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """letters (L,), durations (L,) in frames or None for its own -> log mel (T, mels), log durations (L,).

        Raises ValueError where there are no letters, or durations are not as many, of which each is at least 1.
        """
        if letters.dim() != 1 or not len(letters):
            raise ValueError(f"letters must be (L,) with L at least 1, got {tuple(letters.shape)}")
        states = self._states(letters)  # (L, W)
        lasting = self.duration(states)[:, 0]  # (L,)
        if durations is None:
            durations = lasting.exp().round().clamp(1, 50).long()
        elif durations.shape != letters.shape or (durations < 1).any():
            raise ValueError(f"durations must be {len(letters)} numbers of at least 1, got {durations.tolist()}")
        frames = states.repeat_interleave(durations, 0) + self.progress(_progress(durations).to(states))  # (T, W)
        return self.output(self._voiced(frames, durations)) * SPREAD + MEAN, lasting

    def _states(self, letters: Tensor) -> Tensor:
        return self.context(self.embedding(letters)[None])[0]  # (L, W)

    def _voiced(self, frames: Tensor, durations: Tensor) -> Tensor:
        return self.voice(frames[None])[0]  # (T, W)


def _progress(durations: Tensor) -> Tensor:
    """Of each frame: how far its letter has come, how much is left, and how long it is in tenths of a second: (T, 3)."""
    long = durations.repeat_interleave(durations)
    start = (durations.cumsum(0) - durations).repeat_interleave(durations)
    done = (torch.arange(len(long), device=long.device) - start + 0.5) / long
    return torch.stack([done, 1 - done, long / 10], 1)
