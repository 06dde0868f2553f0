"""The voice detector of Silero VAD 6 (16 kHz): is there speech in these 32 milliseconds? 0.3 million weights."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CHUNK, CONTEXT = 512, 64  # samples judged at a time, and samples before them that are looked at again


class VoiceDetector(nn.Module):
    """chunk and context -> spectrum's magnitude -> four convolutions -> LSTM cell, which remembers -> probability of speech.

    The Fourier transform of 256 samples, every 128, is a convolution with fixed weights: a Hann window times cosines and sines.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stft = nn.Conv1d(1, 258, 256, stride=128, bias=False)  # 129 cosines and 129 sines
        self.convolutions = nn.ModuleList([
            nn.Conv1d(129, 128, 3, padding=1),
            nn.Conv1d(128, 64, 3, stride=2, padding=1),
            nn.Conv1d(64, 64, 3, stride=2, padding=1),
            nn.Conv1d(64, 128, 3, padding=1)])
        self.memory = nn.LSTMCell(128, 128)
        self.output = nn.Linear(128, 1)

    def forward(self, samples: Tensor) -> Tensor:
        """samples (B, N) at 16 kHz -> probabilities of speech (B, N / 512, rounded up); the end is filled up with silence.

        Raises ValueError for anything but rows of at least one sample.
        """
        if samples.dim() != 2 or not samples.size(1):
            raise ValueError(f"samples must be (B, N) with N at least 1, got {tuple(samples.shape)}")
        filled = F.pad(samples, (CONTEXT, -samples.size(1) % CHUNK))
        state, heard = None, []
        for chunk in filled.unfold(1, CHUNK + CONTEXT, CHUNK).unbind(1):  # (B, 576)
            state = self.memory(self.features(chunk), state)  # two of (B, 128)
            heard.append(self.output(state[0].relu()).sigmoid())  # (B, 1)
        return torch.cat(heard, 1)

    def features(self, chunk: Tensor) -> Tensor:
        """A chunk with its context (B, 576) -> (B, 128)."""
        waves = self.stft(F.pad(chunk[:, None], (0, 64), mode="reflect"))  # (B, 258, 4)
        states = waves.unflatten(1, (2, 129)).square().sum(1).sqrt()  # (B, 129, 4): the magnitude
        for convolution in self.convolutions:
            states = convolution(states).relu()
        return states.squeeze(2)
