"""Real weights by name, read from installed packages."""

from typing import Any

from torch import nn

from tutorlib.pretrained.minilm import load_minilm
from tutorlib.pretrained.mobilenet import load_mobilenet
from tutorlib.pretrained.silero import load_silero


def load(name: str) -> tuple[nn.Module, Any]:
    """A model with real weights, in evaluation mode, and its companion.

    "minilm": a `BERT` of 6 layers and width 384, trained to give sentences of like meaning like vectors (`BERT.pool`), and its
    `WordPieceTokenizer`. "mobilenet": `MobileNetV2` trained on ImageNet, top-1 accuracy 71.9 % by torchvision's account, and
    the list of its 1,000 class names. "silero": the `VoiceDetector` of silero-vad, and the samples a second that it expects.
    "smollm2": SmolLM2-135M-Instruct, a `Llama` in float32, and its `BytePairTokenizer`.
    Raises ValueError for another name, ModuleNotFoundError, naming it, where a package is not installed.
    """
    if name not in LOADERS:
        raise ValueError(f"name must be one of {sorted(LOADERS)}, got {name!r}")
    return LOADERS[name]()


def _smollm2() -> tuple[nn.Module, Any]:
    from tutorlib.pretrained.smollm2 import load_smollm2  # only here: the other loaders do without its libraries

    return load_smollm2()


LOADERS = {"minilm": load_minilm, "mobilenet": load_mobilenet, "silero": load_silero, "smollm2": _smollm2}
