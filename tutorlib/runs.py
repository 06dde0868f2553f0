"""What `python -m tutorlib` does when its options are known: train, evaluate, generate, compare.

Each function takes a frozen dataclass, which is all that lies between the command line and a run, and raises ValueError,
OSError or ModuleNotFoundError with a sentence for the reader, before work is lost. A checkpoint holds all that makes the model
and its tokenizer again, and says which text it was.
"""

import hashlib
import math
import os
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tutorlib.data.batches import RandomWindows
from tutorlib.data.bible import load_bible
from tutorlib.device import default_device, find_device, has_fast_bfloat16, seed_everything
from tutorlib.evaluation.comparison import compare, in_words, read_results
from tutorlib.evaluation.language import mean_token_loss, stream_windows
from tutorlib.generation import generate
from tutorlib.options import CompareOptions, EvaluateOptions, GenerateOptions, TrainOptions
from tutorlib.pretrained import load
from tutorlib.saved_runs import MODELS, Tokenizer, check_same_run, describe_tokenizer, load_run, make_tokenizer, restore
from tutorlib.text.bpe import BytePairTokenizer
from tutorlib.text.characters import CharacterTokenizer
from tutorlib.training import (
    constant,
    decay_groups,
    token_cross_entropy,
    train,
    warmup_cosine,
    warmup_inverse_sqrt,
    warmup_linear,
)
from tutorlib.training.loop import progress_bar

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
REAL = ("smollm2",)  # models of `pretrained.load` that predict the next token
NOT_OF_THE_RUN = {"device", "checkpoint", "checkpoint_every", "held_out_tokens", "progress", "parallel"}


# -- the commands -----------------------------------------------------------------------------------------------------


def train_model(options: TrainOptions) -> None:
    """In this process alone, or as one of those that torchrun has started, of which the first prints."""
    device, processes = _device(options), int(os.environ.get("WORLD_SIZE", 1))
    if options.parallel is None:
        if processes > 1:
            raise ValueError(f"torchrun has started {processes} processes; --parallel data, sharded or tensor says what is "
                             "divided among them")
        return _train(options, device)
    from tutorlib.distributed.launch import process_group  # PyTorch's distributed parts take seconds to load: only where needed

    with process_group(device.type) as world, open(os.devnull, "w") as nowhere, redirect_stdout(
            nowhere if world.rank else sys.stdout):
        return _train(replace(options, progress=options.progress and world.rank == 0), world.device)


def _train(options: TrainOptions, device: torch.device) -> None:
    text, path = _read(options.data), options.checkpoint
    if path is not None:
        _check_writable(path)
    of_the_run = {name: value for name, value in asdict(options).items() if name not in NOT_OF_THE_RUN}
    earlier = load_run(path) if path is not None and Path(path).exists() else None
    if earlier is not None:
        check_same_run(path, earlier, of_the_run, text.sha256)
    tokenizer = _new_tokenizer(options, text) if earlier is None else make_tokenizer(earlier["about"]["tokenizer"])
    tokens, held_out = (_encode(tokenizer, part, device) for part in (text.train, text.held_out))
    if len(tokens) <= options.context or len(held_out) < 2:
        raise ValueError(f"--data: {text.name!r} gives {len(tokens)} tokens to train on and {len(held_out)} held out; "
                         f"--context {options.context} needs at least {options.context + 1} and 2")
    seed_everything(options.seed)
    config, model_class = MODELS[options.model]
    model = model_class(config(**_sizes(options, len(tokenizer)))).to(device)
    _print_settings(options, text, len(tokens), len(held_out), model)
    about = {"options": of_the_run, "config": asdict(model.config), "tokenizer": describe_tokenizer(tokenizer),
             "sha256": text.sha256}
    batches = RandomWindows(tokens, options.context, batch_size=options.batch, seed=options.seed, device=device)
    batches, loss, parts = _divided(model, batches, options)
    history = train(model, batches, loss, _optimizer(model, options), steps=options.steps, schedule=_schedule(options),
                    clip_norm=options.clip, checkpoint=path, checkpoint_every=options.checkpoint_every, about=about,
                    autocast=torch.bfloat16 if options.dtype == "bfloat16" else None, progress=options.progress, **parts)
    recent = history.losses[-100:]
    print(f"training    loss {sum(recent) / len(recent):.3f} nats a token, mean of the last {len(recent)} steps")
    _print_score(model, tokenizer, _first(held_out, options.held_out_tokens), "held out", options.progress)
    print("Nothing was kept: give --checkpoint FILE to keep a model." if path is None else
          f'Kept in {path}; let it write: python -m tutorlib generate {path} --prompt "..."')


def evaluate_model(options: EvaluateOptions) -> None:
    model, tokenizer, about = _load(options)
    text = _read(options.data or (about["options"]["data"] if about else "bible"))
    known = text.name == "bible" or (about is not None and about["sha256"] == text.sha256)
    if options.data is None and not known:
        raise ValueError(f"{text.name!r} is not the text that {options.model} was trained on; "
                         f"--data {text.name} scores all of it")
    part, what = (text.held_out, f"the held-out part of {text.name}") if known else (text.train + text.held_out, text.name)
    tokens = _encode(tokenizer, part, next(model.parameters()).device)
    if len(tokens) < 2:
        raise ValueError(f"--data: {what} has {len(tokens)} tokens; expected at least 2, one to predict the other")
    _print_score(model, tokenizer, _first(tokens, options.tokens), what, options.progress)


def generate_text(options: GenerateOptions) -> None:
    model, tokenizer, _ = _load(options)
    prompt = _encode(tokenizer, _prompt(options, tokenizer), next(model.parameters()).device)[None]  # (1, T)
    if not prompt.numel():
        raise ValueError("--prompt is empty; expected at least one token to continue")
    fits = prompt.size(1) + options.max_new_tokens <= model.max_length

    def sliding(tokens: Tensor) -> Tensor:
        """Beyond its context the model sees the last tokens only; each step then computes all of them anew."""
        return model(tokens[:, -model.max_length:])

    tokens = generate(model if fits else sliding, prompt, options.max_new_tokens, temperature=options.temperature,
                      top_k=options.top_k, top_p=options.top_p, use_cache=fits,
                      generator=torch.Generator(prompt.device).manual_seed(options.seed))
    print(tokenizer.decode(tokens[0].tolist()))


def compare_files(options: CompareOptions) -> None:
    """The first file's results less the second's, row by row."""
    print(in_words(compare(*(read_results(Path(path)) for path in (options.first, options.second)))))


def _prompt(options: GenerateOptions, tokenizer: Any) -> str:
    """What is to be continued: without a prompt a line's end, or the first known character where the text has no line's end."""
    if options.prompt is not None:
        return options.prompt
    without = isinstance(tokenizer, CharacterTokenizer) and "\n" not in tokenizer.characters
    return tokenizer.characters[0] if without else "\n"


# -- text and files ---------------------------------------------------------------------------------------------------


class Text(NamedTuple):
    """A text in two parts: to train on, and held out."""

    name: str
    train: str
    held_out: str

    @property
    def sha256(self) -> str:
        """By which a changed text is known."""
        return hashlib.sha256(f"{self.train}\0{self.held_out}".encode()).hexdigest()


def _read(name: str) -> Text:
    if name == "bible":
        return Text(name, *("\n\n".join(chapters) for chapters in load_bible()))
    if Path(name).is_dir():
        raise IsADirectoryError(f"--data: {name!r} is a folder; expected 'bible' or a text file in UTF-8")
    if not Path(name).is_file():
        raise FileNotFoundError(f"--data: there is no file {name!r}; expected 'bible' or a text file in UTF-8")
    try:
        text = Path(name).read_text("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if not text:
        raise ValueError(f"--data: {name!r} is empty; expected a text file in UTF-8")
    if "\0" in text:  # UTF-16 without its mark reads as UTF-8 with zeros
        raise ValueError(f"--data: {name!r} is not text in UTF-8")
    cut = len(text) * 9 // 10
    return Text(name, text[:cut], text[cut:])


def _check_writable(path: str) -> None:
    """Raise OSError where the checkpoint could not be written: now, not after the first hundred steps."""
    folder = Path(path).absolute().parent
    if not path:
        raise ValueError("--checkpoint is empty; expected a file")
    if not folder.is_dir():
        raise FileNotFoundError(f"--checkpoint: there is no folder {str(Path(path).parent)!r}")
    if Path(path).is_dir():
        raise IsADirectoryError(f"--checkpoint: {path!r} is a folder; expected a file")
    try:
        TemporaryFile(dir=folder).close()
    except OSError as error:
        raise type(error)(f"--checkpoint: no file can be made in {str(folder)!r} ({error.strerror})") from None


# -- models and tokenizers --------------------------------------------------------------------------------------------


def _sizes(options: TrainOptions, vocabulary: int) -> dict[str, Any]:
    """The arguments of the model's config. Raises ValueError for an option that the other model has."""
    sizes = dict(vocabulary=vocabulary, max_length=options.context, width=options.width, num_heads=options.heads,
                 num_layers=options.layers)
    if options.model == "gpt":
        if options.key_value_heads is not None:
            raise ValueError(f"--key-value-heads {options.key_value_heads} is for --model llama; a GPT's are its --heads")
        return sizes | dict(hidden=options.hidden or 4 * options.width, dropout=options.dropout)
    if options.dropout:
        raise ValueError(f"--dropout {options.dropout} is for --model gpt; a Llama has none")
    return sizes | dict(num_key_value_heads=options.key_value_heads or options.heads, rope_base=10_000.0,
                        hidden=options.hidden or 8 * math.ceil(options.width / 3))


def _new_tokenizer(options: TrainOptions, text: Text) -> Tokenizer:
    if options.tokenizer == "bpe":
        return BytePairTokenizer.train(text.train, options.vocabulary or 1024)
    if options.vocabulary is not None:
        raise ValueError(f"--vocabulary {options.vocabulary} is for --tokenizer bpe; characters are as many as the text has")
    return CharacterTokenizer(text.train + text.held_out)


def _load(options: EvaluateOptions | GenerateOptions) -> tuple[nn.Module, Any, dict[str, Any] | None]:
    """The model that MODEL names, its tokenizer, and what its checkpoint says of the run."""
    device, name, about = _device(options), options.model, None
    if name in REAL:
        model, tokenizer = load(name)
    elif not Path(name).is_file():
        raise FileNotFoundError(f"there is no file {name!r}; expected a checkpoint of train, or {', '.join(REAL)}")
    else:
        model, tokenizer, about = restore(name)
    return model.to(device, DTYPES[options.dtype]).eval(), tokenizer, about


# -- parts ------------------------------------------------------------------------------------------------------


def _encode(tokenizer: Any, text: str, device: torch.device) -> Tensor:
    return torch.tensor(tokenizer.encode(text), dtype=torch.int64, device=device)  # (N,)


def _first(tokens: Tensor, scored: int | None) -> Tensor:
    """So many that `scored` of them have one before."""
    return tokens if scored is None else tokens[:scored + 1]


def _loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    inputs, targets = batch
    return token_cross_entropy(model(inputs).float(), targets)


def _divided(model: nn.Module, batches: RandomWindows, options: TrainOptions) -> tuple[Callable, Callable, dict[str, Any]]:
    """Batches, loss and the loop's parts as they are in one process, or divided; the model is then divided in place."""
    if options.parallel is None:
        return batches, _loss, {}
    from tutorlib.distributed.running import divide

    divided = divide(model, batches, options.parallel, options.seed)
    return divided.batches, divided.loss(_loss), divided.parts


def _optimizer(model: nn.Module, options: TrainOptions) -> torch.optim.Optimizer:
    """AdamW, whose decay spares biases and norms."""
    groups, fused = decay_groups(model, options.weight_decay), options.parallel != "tensor"  # there pieces and wholes are mixed
    return torch.optim.AdamW(groups, lr=options.rate, betas=(0.9, 0.95), fused=fused, foreach=None if fused else False)


def _schedule(options: TrainOptions) -> Callable[[int], float]:
    if options.schedule == "constant":
        if options.warmup is not None:
            raise ValueError(f"--warmup {options.warmup} is not for --schedule constant, whose rate does not rise")
        return constant()
    if options.schedule == "inverse-sqrt":
        return warmup_inverse_sqrt(max(_warmup(options), 1))
    return {"linear": warmup_linear, "cosine": warmup_cosine}[options.schedule](_warmup(options), options.steps)


def _warmup(options: TrainOptions) -> int:
    return options.steps // 10 if options.warmup is None else options.warmup


def _print_score(model: nn.Module, tokenizer: Any, tokens: Tensor, what: str, progress: bool) -> None:
    """Loss, perplexity and bits a character over tokens (N,): each but the first predicted once."""
    batches = stream_windows(tokens, min(model.max_length, 2048))
    bar = progress_bar(batches, progress and len(batches) >= 20, unit="batch", leave=False)
    loss, characters = mean_token_loss(model, bar), len(tokenizer.decode(tokens[1:]))
    print(f"{what}: {loss.tokens:,} tokens; loss {loss.nats:.3f} nats a token, perplexity {loss.perplexity:.2f}, "
          f"{loss.bits_a_character(characters):.3f} bits a character")


def _print_settings(options: TrainOptions, text: Text, train_tokens: int, held_out_tokens: int,
                    model: nn.Module) -> None:
    """Everything that decides the run, before it begins."""
    parameters = sum(parameter.numel() for parameter in model.parameters())
    sizes = ", ".join(f"{name} {value}" for name, value in asdict(model.config).items())
    rate = f"{options.schedule} with warm-up {_warmup(options)}" if options.schedule != "constant" else "constant"
    print(f"data        {text.name}: {train_tokens:,} tokens to train on, {held_out_tokens:,} held out\n"
          f"tokenizer   {options.tokenizer}, {model.config.vocabulary:,} tokens\n"
          f"model       {options.model}, {parameters:,} parameters: {sizes}\n"
          f"training    {options.steps} steps of {options.batch} x {options.context} tokens; AdamW, rate "
          f"{options.rate}, {rate}, weight decay {options.weight_decay}, clip {options.clip}, seed {options.seed}\n"
          f"on          {next(model.parameters()).device}, {options.dtype}\n"
          f"checkpoint  {'none' if options.checkpoint is None else options.checkpoint}")


def _device(options: TrainOptions | EvaluateOptions | GenerateOptions) -> torch.device:
    device = default_device() if options.device is None else find_device(options.device, "--device")
    if options.dtype == "bfloat16" and not has_fast_bfloat16(device):
        print(f"Note: {device} has no instructions for bfloat16; float32 will be faster.", file=sys.stderr)
    return device
