"""What can be asked of a run: all that lies between the command line and `tutorlib.runs`."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TrainOptions:
    """Of `train_model`; None stands for what follows from the others. What each is, the command line's help says."""

    data: str = "bible"
    tokenizer: str = "characters"
    vocabulary: int | None = None
    model: str = "gpt"
    width: int = 128
    heads: int = 4
    key_value_heads: int | None = None
    layers: int = 4
    hidden: int | None = None
    context: int = 128
    dropout: float = 0.0
    steps: int = 1000
    batch: int = 16
    rate: float = 1e-3
    schedule: str = "cosine"
    warmup: int | None = None
    weight_decay: float = 0.1
    clip: float = 1.0
    seed: int = 0
    device: str | None = None
    dtype: str = "float32"
    parallel: str | None = None
    checkpoint: str | None = None
    checkpoint_every: int = 100
    held_out_tokens: int | None = None
    progress: bool = True


@dataclass(frozen=True)
class EvaluateOptions:
    """Of `evaluate_model`."""

    model: str
    device: str | None = None
    dtype: str = "float32"
    data: str | None = None
    tokens: int | None = None
    progress: bool = True


@dataclass(frozen=True)
class GenerateOptions:
    """Of `generate_text`."""

    model: str
    device: str | None = None
    dtype: str = "float32"
    prompt: str | None = None
    max_new_tokens: int = 200
    temperature: float = 0.8
    top_k: int | None = None
    top_p: float | None = None
    seed: int = 0


@dataclass(frozen=True)
class CompareOptions:
    """Of `compare_files`."""

    first: str
    second: str


@dataclass(frozen=True)
class TranslateOptions:
    """Of `translate_text`."""

    text: str
    beams: int = 4


@dataclass(frozen=True)
class AskOptions:
    """Of `ask_book`."""

    question: str
    top: int = 3


@dataclass(frozen=True)
class TranscribeOptions:
    """Of `transcribe_file`."""

    file: str


@dataclass(frozen=True)
class SayOptions:
    """Of `say_to_file`."""

    words: str
    file: str
