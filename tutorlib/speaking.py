"""`python -m tutorlib transcribe` and `say`: a WAV file to letters, and letters to a WAV file."""

from pathlib import Path

import torch
from torch import Tensor, nn

from tutorlib.ctc import greedy_letters
from tutorlib.layers.spectrogram import RATE, SIZE, griffin_lim, log_mel, magnitude_of
from tutorlib.models.speech import Recognizer, Speaker
from tutorlib.options import SayOptions, TranscribeOptions
from tutorlib.records import load_half
from tutorlib.text.spelling import decode_letters, encode_letters
from tutorlib.waves import read_wave, wave_bytes

WEIGHTS = Path(__file__).parent / "data" / "speech.safetensors"
LONGEST = 200  # letters of one utterance
LOUDNESS = 0.1  # root of the mean square, as of the sounds that were learned from


def load_speech() -> tuple[Recognizer, Speaker]:
    """The two networks of the chapter `speech` as experiments/train_speech.py has trained them, in evaluation mode.

    Log mel -> letters, and letters -> log mel; they know synthesized English only.
    """
    both = load_half(nn.ModuleDict({"recognizer": Recognizer(), "speaker": Speaker()}), WEIGHTS)
    return both["recognizer"], both["speaker"]


@torch.no_grad()
def transcribe(samples: Tensor) -> str:
    """What the recognizer of the chapter `speech` reads in a sound (N,), 16,000 samples a second.

    Raises ValueError for less than a frame of sound, or silence.
    """
    if len(samples) < SIZE:
        raise ValueError(f"samples must be at least {SIZE}, {1000 * SIZE // RATE} milliseconds, got {len(samples)}")
    loudness = samples.square().mean().sqrt()
    if loudness < 1e-4:
        raise ValueError("samples must have a sound in them, got silence")
    log_probs = load_speech()[0](log_mel(samples * LOUDNESS / loudness)[None])  # (1, T, V)
    return decode_letters(greedy_letters(log_probs, torch.tensor([log_probs.size(1)]))[0])


@torch.no_grad()
def speak(text: str) -> Tensor:
    """The sound (N,) of a text of letters and spaces, by the speaker of the chapter `speech`.

    Raises ValueError for other characters, no letters, and more than 200.
    """
    letters = encode_letters(" ".join(text.split()))
    if not 1 <= len(letters) <= LONGEST:
        raise ValueError(f"text must have 1 to {LONGEST} letters, got {len(letters)}")
    mel, _ = load_speech()[1](torch.tensor(letters))
    samples = griffin_lim(magnitude_of(mel), generator=torch.Generator().manual_seed(0))
    return samples * LOUDNESS / samples.square().mean().sqrt()


def transcribe_file(options: TranscribeOptions) -> None:
    """Print the letters that are read in a WAV file."""
    print(transcribe(read_wave(options.file)) or "(no letters)")


def say_to_file(options: SayOptions) -> None:
    """Write the sound of some words to a WAV file."""
    path = Path(options.file)
    if path.suffix.lower() != ".wav" or not path.absolute().parent.is_dir():
        raise ValueError(f"file must end in .wav and lie in a folder that is there, got {options.file!r}")
    samples = speak(options.words)
    path.write_bytes(wave_bytes(samples))
    print(f"{path.name}: {len(samples) / RATE:.1f} seconds")
