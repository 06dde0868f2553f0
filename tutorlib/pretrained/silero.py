"""Silero's voice detector with its published weights, from an installed package that is read by path and never imported."""

from tutorlib.models.silero import VoiceDetector
from tutorlib.packages import installed_file
from tutorlib.pretrained.weights import fill, rename

FILE = "data/silero_vad_16k.safetensors"
SHA256 = "c59271c284ae9c8335d795d60e0bfdb71aaaceec578d9bd9ffc1b8153c319ea1"  # silero-vad 6.2.3

TABLE = {
    "stft_conv": "stft",
    "conv1": "convolutions.0",
    "conv2": "convolutions.1",
    "conv3": "convolutions.2",
    "conv4": "convolutions.3",
    "lstm_cell": "memory",
    "final_conv": "output",  # a convolution of width 1, which is a linear map
}


def load_silero() -> tuple[VoiceDetector, int]:
    """The detector in evaluation mode, and the samples a second that it expects. Raises what `installed_file` raises."""
    from safetensors.torch import load_file

    path = installed_file("silero_vad", FILE, SHA256, distribution="silero-vad", what="The voice detector")
    weights = rename(load_file(path), TABLE, source="file")
    weights["output.weight"] = weights["output.weight"].squeeze(2)  # (1, 128, 1) -> (1, 128)
    return fill(VoiceDetector, weights, copy=False).eval(), 16_000
