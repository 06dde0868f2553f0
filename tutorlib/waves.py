"""WAV files of one channel, and sound in a page."""

import base64
import html
import io
import wave
from pathlib import Path

import torch
from torch import Tensor

from tutorlib.arguments import check_string

RATE = 16_000  # samples a second


class Player:
    """Sound that a page plays without any file beside it: its bytes stand in the page. Elsewhere it is its label."""

    def __init__(self, samples: Tensor, label: str):
        check_string("label", label)
        self.content, self.label = wave_bytes(samples), label

    def __repr__(self) -> str:
        return f"sound: {self.label}"

    def _repr_html_(self) -> str:
        """The label is read aloud by a screen reader and stands above the player."""
        label, code = html.escape(self.label, quote=True), base64.b64encode(self.content).decode()
        return (f'<p>{label}</p><audio controls preload="metadata" aria-label="{label}" '
                f'src="data:audio/wav;base64,{code}"></audio>')


def wave_bytes(samples: Tensor) -> bytes:
    """Samples (N,) between -1 and 1, 16,000 a second, as a WAV file of two bytes a sample; what is louder is cut.

    Raises ValueError for anything but one row of at least one sample.
    """
    if samples.dim() != 1 or not len(samples):
        raise ValueError(f"samples must be (N,) with N at least 1, got {tuple(samples.shape)}")
    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((samples.clamp(-1, 1) * (2**15 - 1)).round().short().numpy().astype("<i2").tobytes())
    return content.getvalue()


def read_wave(path: str | Path) -> Tensor:
    """The samples (N,) of a WAV file, between -1 and 1. Raises FileNotFoundError where there is none; ValueError where it is no
    WAV file, has more than one channel, another rate than 16,000, other than two bytes a sample, or no samples."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"file: there is no file {path.name!r}; expected the path of a WAV file")
    try:
        with wave.open(str(path), "rb") as file:
            channels, width, rate, count = file.getparams()[:4]
            content = file.readframes(count)
    except (wave.Error, EOFError) as error:
        raise ValueError(f"file: {path.name} is no WAV file that can be read ({error or 'it ends too soon'})") from None
    if (channels, width, rate) != (1, 2, RATE):
        raise ValueError(f"file: {path.name} has {channels} channels, {8 * width} bits a sample and {rate} samples a second; "
                         f"expected 1, 16 and {RATE}, as ffmpeg -i {path.name} -ac 1 -ar {RATE} -sample_fmt s16 new.wav makes")
    if not content:
        raise ValueError(f"file: {path.name} is empty; expected at least one sample")
    return torch.frombuffer(bytearray(content[:len(content) // 2 * 2]), dtype=torch.int16).float() / 2**15
