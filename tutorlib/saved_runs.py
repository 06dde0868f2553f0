"""What a checkpoint of `python -m tutorlib train` holds: the model, its tokenizer, and what is said of the run."""

import sys
from typing import Any

from torch import nn

from tutorlib.models import GPT, GPTConfig, Llama, LlamaConfig
from tutorlib.text.bpe import BytePairTokenizer, from_visible, to_visible
from tutorlib.text.characters import CharacterTokenizer
from tutorlib.training import load_checkpoint

MODELS = {"gpt": (GPTConfig, GPT), "llama": (LlamaConfig, Llama)}
Tokenizer = CharacterTokenizer | BytePairTokenizer


def describe_tokenizer(tokenizer: Tokenizer) -> dict[str, Any]:
    """A tokenizer as plain containers, from which `make_tokenizer` makes it again."""
    if isinstance(tokenizer, CharacterTokenizer):
        return {"kind": "characters", "characters": tokenizer.characters}
    return {"kind": "bpe", "merges": [[to_visible(part) for part in pair] for pair in tokenizer.merges]}


def make_tokenizer(description: dict[str, Any]) -> Tokenizer:
    if description["kind"] == "characters":
        return CharacterTokenizer(description["characters"])
    return BytePairTokenizer(tuple(map(from_visible, pair)) for pair in description["merges"])


def load_run(path: str) -> dict[str, Any]:
    """A checkpoint of `train`, whose "about" says what the run was."""
    state = load_checkpoint(path)
    about, history = state.get("about"), state.get("history")
    if not isinstance(about, dict) or not {"options", "config", "tokenizer", "sha256"} <= about.keys() or (
            not isinstance(about["options"], dict) or not isinstance(history, dict) or "steps" not in history):
        raise ValueError(f"{path} does not say what it holds; expected a checkpoint of python -m tutorlib train")
    return state


def restore(path: str) -> tuple[nn.Module, Tokenizer, dict[str, Any]]:
    """The model of a checkpoint, its tokenizer, and what is said of the run."""
    state = load_run(path)
    about = state["about"]
    try:
        config, model_class = MODELS[about["options"]["model"]]
        model, tokenizer = model_class(config(**about["config"])), make_tokenizer(about["tokenizer"])
        model.load_state_dict(state["model"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{path} does not hold the model that it names ({type(error).__name__}: {error})") from error
    if not all(weight.isfinite().all() for weight in model.parameters()):
        raise ValueError(f"{path} holds weights that are not finite; its training has diverged")
    return model, tokenizer, about


def check_same_run(path: str, state: dict[str, Any], options: dict[str, Any], sha256: str) -> None:
    """Raise ValueError where the checkpoint is of another run; only the number of steps may differ, and the text's place."""
    earlier, done = state["about"], len(state["history"]["steps"])
    for name, value in options.items():
        before = earlier["options"].get(name)
        if before != value and name not in ("data", "steps"):
            raise ValueError(f"{path} was trained with --{name.replace('_', '-')} {before}, got {value}; the same options go "
                             "on from it, and another --checkpoint begins anew")
    if done > options["steps"]:
        raise ValueError(f"{path} has done {done} steps; --steps {options['steps']} is less")
    if earlier["sha256"] != sha256:
        raise ValueError(f"--data: {options['data']!r} is not the text that {path} was trained on; "
                         "another --checkpoint begins anew")
    if (before := earlier["options"].get("steps")) != options["steps"]:
        print(f"Note: {path} was made for {before} steps; the schedule is now that of {options['steps']}.", file=sys.stderr)
    print(f"{path} has done {done} of {options['steps']} steps; the run goes on from there.")
