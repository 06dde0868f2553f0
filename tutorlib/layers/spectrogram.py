"""Sound as a picture: the short-time Fourier transform, mel filters, and the way back from magnitudes (Griffin-Lim).

Sound is (..., N) samples, a second has `RATE` of them. A frame is `SIZE` samples (32 ms), the next begins `HOP` samples later
(10 ms). The layout of a spectrogram is time first: (..., T, frequencies).
"""

import math
from functools import cache

import torch
from torch import Tensor

RATE, SIZE, HOP, MELS = 16_000, 512, 160, 64  # samples a second, samples a frame, samples between frames, filters


def stft(samples: Tensor, size: int = SIZE, hop: int = HOP) -> Tensor:
    """Samples (..., N) -> complex spectrum (..., T, size / 2 + 1), T = 1 + N // hop; frame t is centered on sample t * hop.

    At both ends the sound is mirrored, as in `torch.stft(center=True)`, to which it is equal with a Hann window.
    Raises ValueError for sound of no more than size / 2 samples.
    """
    if samples.size(-1) <= size // 2:
        raise ValueError(f"samples must be more than {size // 2} a row, half a frame, got {samples.size(-1)}")
    left, right = samples[..., 1:size // 2 + 1].flip(-1), samples[..., -size // 2 - 1:-1].flip(-1)
    frames = torch.cat([left, samples, right], -1).unfold(-1, size, hop)  # (..., T, size)
    return torch.fft.rfft(frames * hann(size).to(samples))  # (..., T, F)


def istft(spectrum: Tensor, size: int = SIZE, hop: int = HOP) -> Tensor:
    """Spectrum (..., T, F) -> samples (..., (T - 1) * hop): the frames added up, and divided by the windows that lie there.

    The inverse of `stft` for a spectrum that some sound has; for another the sound whose spectrum is nearest in the sum of
    squares (Griffin and Lim 1984, equation 6).
    """
    window = hann(size).to(spectrum.real)
    frames = torch.fft.irfft(spectrum, size) * window  # (..., T, size)
    total = torch.stack([_added(frames, hop), _added((window**2).expand_as(frames), hop)])  # (2, ..., N + size)
    inner = total[..., size // 2:-(size // 2)]
    return inner[0] / inner[1].clamp(min=1e-8)  # (..., N)


def griffin_lim(magnitude: Tensor, steps: int = 32, generator: torch.Generator | None = None) -> Tensor:
    """Sound (N,) whose spectrum has about the `magnitude` (T, F): phases from chance, then back and forth (1984)."""
    phase = 2 * math.pi * torch.rand(magnitude.shape, generator=generator).to(magnitude)
    spectrum = torch.polar(magnitude, phase)
    for _ in range(steps):
        again = stft(istft(spectrum))  # the nearest spectrum that a sound can have
        spectrum = torch.polar(magnitude, again.angle())  # its phases, our magnitudes
    return istft(spectrum)


@cache
def mel_filters(count: int = MELS, size: int = SIZE, rate: int = RATE) -> Tensor:
    """Triangles (count, size / 2 + 1), evenly spaced in mel = 2595 log10(1 + hertz / 700) from 0 to half the rate.

    Each rises from the center of the one below to 1 at its own and falls to the center of the one above (the HTK form).
    """
    top = 2595 * math.log10(1 + rate / 2 / 700)
    centers = 700 * (10 ** (torch.linspace(0, top, count + 2, dtype=torch.float64) / 2595) - 1)  # hertz
    hertz = torch.linspace(0, rate / 2, size // 2 + 1, dtype=torch.float64)  # (F,)
    low, middle, high = centers[:-2, None], centers[1:-1, None], centers[2:, None]
    rising, falling = (hertz - low) / (middle - low), (high - hertz) / (high - middle)
    return torch.minimum(rising, falling).clamp(min=0).float()  # (count, F)


def log_mel(samples: Tensor) -> Tensor:
    """Samples (..., N), between -1 and 1 -> natural logarithm of the mel energies (..., T, MELS), floored at 1e-5."""
    power = stft(samples).abs() ** 2  # (..., T, F)
    return (power @ mel_filters().to(power).mT).clamp(min=1e-5).log()


def magnitude_of(mel: Tensor) -> Tensor:
    """Log mel energies (..., T, MELS) -> the spectrum's magnitude (..., T, F), by least squares, without what is negative.

    Frequencies have 257 numbers a frame and mel only 64: detail between the filters is lost for good.
    """
    return (mel.exp() @ _back().to(mel).mT).clamp(min=0).sqrt()


@cache
def _back() -> Tensor:
    """(F, MELS), the pseudoinverse of the filters, in float64."""
    return torch.linalg.pinv(mel_filters().double())


def hann(size: int) -> Tensor:
    """The window (size,) in float64: a cosine's arch, 0 at its ends, so that a frame does not begin with a jump."""
    return 0.5 - 0.5 * torch.cos(2 * math.pi * torch.arange(size, dtype=torch.float64) / size)


def _added(frames: Tensor, hop: int) -> Tensor:
    """Frames (..., T, size), each laid `hop` samples after the last, and summed: (..., (T - 1) * hop + size)."""
    *batch, count, size = frames.shape
    columns = frames.reshape(-1, count, size).mT  # (B, size, T)
    whole = torch.nn.functional.fold(columns, (1, (count - 1) * hop + size), (1, size), stride=(1, hop))
    return whole.reshape(*batch, -1)
