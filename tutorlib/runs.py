"""What `python -m tutorlib` does when its arguments are known: train, evaluate, generate.

Each function takes the namespace of the arguments, and raises ValueError, FileNotFoundError or ModuleNotFoundError with a
sentence for the reader. A checkpoint holds all that makes the model and its tokenizer again, and says which text it was.
"""

import argparse
import hashlib
import math
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tutorlib.data.batches import RandomWindows
from tutorlib.data.bible import load_bible
from tutorlib.device import available_devices, default_device, has_fast_bfloat16, seed_everything
from tutorlib.generation import generate
from tutorlib.models import GPT, GPTConfig, Llama, LlamaConfig
from tutorlib.pretrained import load
from tutorlib.text.bpe import BytePairTokenizer, from_visible, to_visible
from tutorlib.text.characters import CharacterTokenizer
from tutorlib.training import (
    constant,
    load_checkpoint,
    token_cross_entropy,
    train,
    warmup_cosine,
    warmup_inverse_sqrt,
    warmup_linear,
)
from tutorlib.training.loop import progress_bar

MODELS = {"gpt": (GPTConfig, GPT), "llama": (LlamaConfig, Llama)}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
REAL = ("smollm2",)  # models of `pretrained.load` that predict the next token
Tokenizer = CharacterTokenizer | BytePairTokenizer
NOT_OF_THE_RUN = {"command", "run", "device", "checkpoint", "checkpoint_every", "held_out_tokens", "progress"}
SCORED_TOGETHER = 2048  # tokens in a batch of an evaluation


# -- text -------------------------------------------------------------------------------------------------------------


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
    if not Path(name).is_file():
        raise FileNotFoundError(f"--data: there is no file {name!r}; expected 'bible' or a text file in UTF-8")
    try:
        text = Path(name).read_text("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"--data: {name!r} is not text in UTF-8") from None
    cut = len(text) * 9 // 10
    return Text(name, text[:cut], text[cut:])


# -- the commands -----------------------------------------------------------------------------------------------------


def train_model(arguments: argparse.Namespace) -> None:
    device, text, path = _device(arguments), _read(arguments.data), arguments.checkpoint
    if path is not None and not Path(path).absolute().parent.is_dir():
        raise FileNotFoundError(f"--checkpoint: there is no folder {str(Path(path).parent)!r}")
    options = {name: value for name, value in vars(arguments).items() if name not in NOT_OF_THE_RUN}
    earlier = _checkpoint(path)["about"] if path is not None and Path(path).exists() else None
    if earlier is not None:
        _check_same_run(path, earlier, options, text)
    tokenizer = _make_tokenizer(arguments, text) if earlier is None else _tokenizer(earlier["tokenizer"])
    tokens, held_out = (_encode(tokenizer, part, device) for part in (text.train, text.held_out))
    if len(tokens) <= arguments.context or len(held_out) < 2:
        raise ValueError(f"--data: {text.name!r} gives {len(tokens)} tokens to train on and {len(held_out)} held out; "
                         f"--context {arguments.context} needs at least {arguments.context + 1} and 2")
    seed_everything(arguments.seed)
    config, model_class = MODELS[arguments.model]
    config = config(**_sizes(arguments, len(tokenizer)))
    model = model_class(config).to(device)
    schedule = _schedule(arguments)
    _print_settings(arguments, text, len(tokens), len(held_out), model)
    about = {"options": options, "config": asdict(config), "tokenizer": _describe(tokenizer), "sha256": text.sha256}
    batches = RandomWindows(tokens, arguments.context, batch_size=arguments.batch, seed=arguments.seed, device=device)
    history = train(model, batches, _loss, _optimizer(model, arguments), steps=arguments.steps, schedule=schedule,
                    clip_norm=arguments.clip, checkpoint=path, checkpoint_every=arguments.checkpoint_every, about=about,
                    autocast=torch.bfloat16 if arguments.dtype == "bfloat16" else None, progress=arguments.progress)
    recent = history.losses[-100:]
    print(f"training    loss {sum(recent) / len(recent):.3f} nats a token, mean of the last {len(recent)} steps")
    _print_score(model, tokenizer, _first(held_out, arguments.held_out_tokens), "held out", arguments.progress)
    print("Nothing was kept: give --checkpoint FILE to keep a model." if path is None else
          f'Kept in {path}; let it write: python -m tutorlib generate {path} --prompt "..."')


def _check_same_run(path: str, earlier: dict[str, Any], options: dict[str, Any], text: Text) -> None:
    """Raise ValueError where the checkpoint is of another run; only the number of steps may differ."""
    for name, value in options.items():
        before = earlier["options"].get(name)
        if before == value:
            continue
        option = "--" + name.replace("_", "-")
        if name != "steps":
            raise ValueError(f"{path} was trained with {option} {before}, got {value}; the same options go on from it, and "
                             "another --checkpoint begins anew")
        print(f"Note: {path} was made for {before} steps; the schedule is now that of {value}.")
    if earlier["sha256"] != text.sha256:
        raise ValueError(f"--data: {text.name!r} is not the text that {path} was trained on; another --checkpoint begins anew")


def evaluate_model(arguments: argparse.Namespace) -> None:
    model, tokenizer, about = _load(arguments)
    text = _read(arguments.data or (about["options"]["data"] if about else "bible"))
    known = text.name == "bible" or (about is not None and about["sha256"] == text.sha256)
    part, what = (text.held_out, f"the held-out part of {text.name}") if known else (text.train + text.held_out, text.name)
    tokens = _encode(tokenizer, part, next(model.parameters()).device)
    if len(tokens) < 2:
        raise ValueError(f"--data: {what} has {len(tokens)} tokens; expected at least 2, one to predict the other")
    _print_score(model, tokenizer, _first(tokens, arguments.tokens), what, arguments.progress)


def generate_text(arguments: argparse.Namespace) -> None:
    model, tokenizer, _ = _load(arguments)
    prompt = _encode(tokenizer, arguments.prompt, next(model.parameters()).device)[None]  # (1, T)
    if not prompt.numel():
        raise ValueError("--prompt is empty; expected at least one token to continue")
    fits = prompt.size(1) + arguments.max_new_tokens <= model.max_length

    def sliding(tokens: Tensor) -> Tensor:
        """Beyond its context the model sees the last tokens only; each step then computes all of them anew."""
        return model(tokens[:, -model.max_length:])

    tokens = generate(model if fits else sliding, prompt, arguments.max_new_tokens, temperature=arguments.temperature,
                      top_k=arguments.top_k, top_p=arguments.top_p, use_cache=fits,
                      generator=torch.Generator(prompt.device).manual_seed(arguments.seed))
    print(tokenizer.decode(tokens[0].tolist()))


# -- models and checkpoints -------------------------------------------------------------------------------------------


def _sizes(arguments: argparse.Namespace, vocabulary: int) -> dict[str, Any]:
    """The arguments of the model's config. Raises ValueError for an option that the other model has."""
    sizes = dict(vocabulary=vocabulary, max_length=arguments.context, width=arguments.width, num_heads=arguments.heads,
                 num_layers=arguments.layers)
    if arguments.model == "gpt":
        if arguments.key_value_heads is not None:
            raise ValueError(f"--key-value-heads {arguments.key_value_heads} is for --model llama; a GPT's are its --heads")
        return sizes | dict(hidden=arguments.hidden or 4 * arguments.width, dropout=arguments.dropout)
    if arguments.dropout:
        raise ValueError(f"--dropout {arguments.dropout} is for --model gpt; a Llama has none")
    return sizes | dict(num_key_value_heads=arguments.key_value_heads or arguments.heads, rope_base=10_000.0,
                        hidden=arguments.hidden or 8 * math.ceil(arguments.width / 3))


def _make_tokenizer(arguments: argparse.Namespace, text: Text) -> Tokenizer:
    if arguments.tokenizer == "bpe":
        return BytePairTokenizer.train(text.train, arguments.vocabulary or 1024)
    if arguments.vocabulary is not None:
        raise ValueError(f"--vocabulary {arguments.vocabulary} is for --tokenizer bpe; characters are as many as the text has")
    return CharacterTokenizer(text.train + text.held_out)


def _describe(tokenizer: Tokenizer) -> dict[str, Any]:
    """A tokenizer as plain containers, from which `_tokenizer` makes it again."""
    if isinstance(tokenizer, CharacterTokenizer):
        return {"kind": "characters", "characters": tokenizer.characters}
    return {"kind": "bpe", "merges": [[to_visible(part) for part in pair] for pair in tokenizer.merges]}


def _tokenizer(description: dict[str, Any]) -> Tokenizer:
    if description["kind"] == "characters":
        return CharacterTokenizer(description["characters"])
    return BytePairTokenizer(tuple(map(from_visible, pair)) for pair in description["merges"])


def _checkpoint(path: str) -> dict[str, Any]:
    """A checkpoint of `train`, whose "about" says what the run was."""
    state = load_checkpoint(path)
    about = state.get("about")
    if not isinstance(about, dict) or not {"options", "config", "tokenizer", "sha256"} <= about.keys():
        raise ValueError(f"{path} does not say what it holds; expected a checkpoint of python -m tutorlib train")
    return state


def _load(arguments: argparse.Namespace) -> tuple[nn.Module, Any, dict[str, Any] | None]:
    """The model that MODEL names, its tokenizer, and what its checkpoint says of the run."""
    device, name, about = _device(arguments), arguments.model, None
    if name in REAL:
        model, tokenizer = load(name)
    elif not Path(name).is_file():
        raise FileNotFoundError(f"there is no file {name!r}; expected a checkpoint of train, or {', '.join(REAL)}")
    else:
        state = _checkpoint(name)
        about = state["about"]
        config, model_class = MODELS[about["options"]["model"]]
        model, tokenizer = model_class(config(**about["config"])), _tokenizer(about["tokenizer"])
        model.load_state_dict(state["model"])
    return model.to(device, DTYPES[arguments.dtype]).eval(), tokenizer, about


# -- parts ------------------------------------------------------------------------------------------------------


def _encode(tokenizer: Any, text: str, device: torch.device) -> Tensor:
    return torch.tensor(tokenizer.encode(text), dtype=torch.int64, device=device)  # (N,)


def _first(tokens: Tensor, scored: int | None) -> Tensor:
    """So many that `scored` of them have one before."""
    return tokens if scored is None else tokens[:scored + 1]


def _loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    inputs, targets = batch
    return token_cross_entropy(model(inputs).float(), targets)


def _optimizer(model: nn.Module, arguments: argparse.Namespace) -> torch.optim.Optimizer:
    """AdamW, whose decay spares biases and norms."""
    matrices = [parameter for parameter in model.parameters() if parameter.dim() > 1]
    vectors = [parameter for parameter in model.parameters() if parameter.dim() == 1]
    groups = [{"params": matrices, "weight_decay": arguments.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=arguments.rate, betas=(0.9, 0.95), fused=True)


def _schedule(arguments: argparse.Namespace) -> Callable[[int], float]:
    if arguments.schedule == "constant":
        return constant()
    if arguments.schedule == "inverse-sqrt":
        return warmup_inverse_sqrt(max(_warmup(arguments), 1))
    return {"linear": warmup_linear, "cosine": warmup_cosine}[arguments.schedule](_warmup(arguments), arguments.steps)


def _warmup(arguments: argparse.Namespace) -> int:
    return arguments.steps // 10 if arguments.warmup is None else arguments.warmup


@torch.no_grad()
def _print_score(model: nn.Module, tokenizer: Any, tokens: Tensor, what: str, progress: bool) -> None:
    """Loss, perplexity and bits a character over tokens (N,): each but the first predicted once, in windows side by side."""
    length = min(model.max_length, SCORED_TOGETHER)
    inputs, targets = tokens[:-1], tokens[1:]
    whole = len(inputs) // length * length
    rows = [part[:whole].view(-1, length).split(SCORED_TOGETHER // length) for part in (inputs, targets)]  # (B, T) each
    batches = list(zip(*rows, strict=True))
    if whole < len(inputs):
        batches.append((inputs[None, whole:], targets[None, whole:]))  # the last window is shorter
    model.eval()
    bar = progress_bar(batches, progress and len(batches) >= 20, unit="batch", leave=False)
    nats = sum(_loss(model, batch).item() * batch[0].numel() for batch in bar)
    loss, characters = nats / len(targets), len(tokenizer.decode(targets.tolist()))
    print(f"{what}: {len(targets):,} tokens; loss {loss:.3f} nats a token, perplexity {math.exp(loss):.2f}, "
          f"{nats / math.log(2) / characters:.3f} bits a character")


def _print_settings(arguments: argparse.Namespace, text: Text, train_tokens: int, held_out_tokens: int,
                    model: nn.Module) -> None:
    """Everything that decides the run, before it begins."""
    parameters = sum(parameter.numel() for parameter in model.parameters())
    sizes = ", ".join(f"{name} {value}" for name, value in asdict(model.config).items())
    rate = f"{arguments.schedule} with warm-up {_warmup(arguments)}" if arguments.schedule != "constant" else "constant"
    print(f"data        {text.name}: {train_tokens:,} tokens to train on, {held_out_tokens:,} held out\n"
          f"tokenizer   {arguments.tokenizer}, {model.config.vocabulary:,} tokens\n"
          f"model       {arguments.model}, {parameters:,} parameters: {sizes}\n"
          f"training    {arguments.steps} steps of {arguments.batch} x {arguments.context} tokens; AdamW, rate "
          f"{arguments.rate}, {rate}, weight decay {arguments.weight_decay}, clip {arguments.clip}, seed {arguments.seed}\n"
          f"on          {next(model.parameters()).device}, {arguments.dtype}\n"
          f"checkpoint  {'none' if arguments.checkpoint is None else arguments.checkpoint}")


def _device(arguments: argparse.Namespace) -> torch.device:
    if arguments.device is None:
        device = default_device()
    else:
        kind = arguments.device.partition(":")[0]
        if kind not in (known := [each.type for each in available_devices()]):
            raise ValueError(f"--device: this machine has no {arguments.device!r}; expected one of {known}")
        device = torch.device(arguments.device)
    if arguments.dtype == "bfloat16" and not has_fast_bfloat16(device):
        print(f"Note: {device} has no instructions for bfloat16; float32 will be faster.", file=sys.stderr)
    return device
