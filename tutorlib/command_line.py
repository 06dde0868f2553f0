"""`python -m tutorlib`: train a language model, measure it on text that it has not seen, let it write.

A checkpoint of `train` holds all that the other commands need: the weights, the sizes, the tokenizer, and which text it was.
"""

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from tutorlib.runs import DTYPES, MODELS, REAL, evaluate_model, generate_text, train_model

DEVICE = (str, None, "such as cpu, cuda, mps (default: TUTORLIB_DEVICE, else cpu)")

TRAIN = """examples:
  python -m tutorlib train --steps 200
      a small GPT on characters of the World English Bible, in about a minute
  python -m tutorlib train --checkpoint run.pt --tokenizer bpe --vocabulary 2048 --width 256 --layers 6 --steps 5000
      a larger one that is kept; run the same command again and it goes on where it stopped
  python -m tutorlib train --data notes.txt --model llama --key-value-heads 2 --checkpoint notes.pt
      a Llama on your own text"""
EVALUATE = """examples:
  python -m tutorlib evaluate run.pt
      on the held-out part of the text it was trained on
  python -m tutorlib evaluate smollm2 --data notes.txt --tokens 5000"""
GENERATE = """examples:
  python -m tutorlib generate run.pt --prompt "In the beginning" --temperature 0.8 --top-k 20
  python -m tutorlib generate smollm2 --prompt "The capital of France is" --max-new-tokens 20 --temperature 0"""


def main(argv: list[str] | None = None) -> int:
    """Run a command; return its exit status: 0, 1 where training diverged, 2 for a wrong argument, 130 if interrupted."""
    arguments = _parser().parse_args(argv)
    try:
        arguments.run(arguments)
    except (ValueError, OSError, ModuleNotFoundError, FloatingPointError) as error:
        print(f"python -m tutorlib {arguments.command}: {' '.join(str(error).split())}", file=sys.stderr)
        return 1 if isinstance(error, FloatingPointError) else 2
    except KeyboardInterrupt:
        print(f"\nInterrupted.{_how_to_go_on(arguments)}", file=sys.stderr)
        return 130
    return 0


# -- what can be asked ------------------------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """A sentence instead of the usage's many lines."""
        self.exit(2, f"{self.prog}: {message}; {self.prog} --help says what there is\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m tutorlib", description="Train a language model, measure it, let it write.",
                     epilog="Each command has its own help, with examples: python -m tutorlib train --help")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    layout = dict(formatter_class=argparse.RawDescriptionHelpFormatter)
    _training_options(commands.add_parser(
        "train", usage="%(prog)s [options]", help="train a GPT or a Llama on a text", epilog=TRAIN, **layout,
        description="Train a GPT or a Llama on a text, and score it on the tenth that was held out."))
    evaluate = commands.add_parser(
        "evaluate", usage="%(prog)s MODEL [options]", help="score a model on text it has not seen", epilog=EVALUATE, **layout,
        description="Mean loss, perplexity and bits a character: on the held-out part of the text that a checkpoint was "
                    "trained on, on that of the Bible, or on all of another file.")
    write = commands.add_parser(
        "generate", usage="%(prog)s MODEL [options]", help="let a model continue a prompt", epilog=GENERATE, **layout,
        description="Continue a prompt, token by token.")
    for command, run in ((evaluate, evaluate_model), (write, generate_text)):
        command.add_argument("model", metavar="MODEL", help=f"a checkpoint that train has written, or {', '.join(REAL)}")
        _options(command, {"device": DEVICE, "dtype": (tuple(DTYPES), "float32", "the weights'")})
        command.set_defaults(run=run)
    _options(evaluate, {"data": (str, None, "'bible' or a UTF-8 text file (default: what it was trained on, else bible)"),
                        "tokens": (_count, None, "score so many tokens at most (default: all)")})
    _options(write, {"prompt": (str, "\n", "the text to continue (default: a line's end)"),
                     "max-new-tokens": (_count, 200, "how many tokens to add"),
                     "temperature": (float, 0.8, "0 takes the most probable token, 1 draws from the model's distribution"),
                     "top-k": (_count, None, "draw among so many most probable tokens only"),
                     "top-p": (float, None, "draw among the fewest tokens of this total probability only"),
                     "seed": (int, 0, "the same seed draws the same text")})
    _progress_option(evaluate)
    return parser


def _training_options(parser: argparse.ArgumentParser) -> None:
    _options(parser.add_argument_group("the text"), {
        "data": (str, "bible", "'bible' or a UTF-8 text file, whose last tenth is held out"),
        "tokenizer": (("characters", "bpe"), "characters", "what a token is"),
        "vocabulary": (_count, None, "number of tokens of the BPE (default: 1024)")})
    _options(parser.add_argument_group("the model"), {
        "model": (tuple(MODELS), "gpt", "its architecture"),
        "width": (_count, 128, "of its states"),
        "heads": (_count, 4, "of its attention; their number divides the width"),
        "key-value-heads": (_count, None, "of a Llama; their number divides that of the heads (default: as many)"),
        "layers": (_count, 4, "how many"),
        "hidden": (_count, None, "width inside its feed-forward networks (default: 4 widths, in a Llama 8/3)"),
        "context": (_count, 128, "how many tokens it sees"),
        "dropout": (float, 0.0, "of a GPT")})
    _options(parser.add_argument_group("the training"), {
        "steps": (_count, 1000, "how many"),
        "batch": (_count, 16, "windows of the text in a step"),
        "rate": (float, 1e-3, "the learning rate at its peak"),
        "schedule": (("constant", "linear", "cosine", "inverse-sqrt"), "cosine", "of the learning rate"),
        "warmup": (partial(_count, least=0), None, "steps in which the rate rises (default: a tenth of the steps)"),
        "weight-decay": (float, 0.1, "of AdamW; biases and norms are spared"),
        "clip": (float, 1.0, "the norm to which a longer gradient is cut"),
        "seed": (int, 0, "of weights, windows and dropout"),
        "device": DEVICE,
        "dtype": (tuple(DTYPES), "float32", "bfloat16 is mixed precision")})
    files = parser.add_argument_group("what is kept and shown")
    _options(files, {
        "checkpoint": (str, None, "the file that keeps the model; where it exists, the run goes on from it"),
        "checkpoint-every": (_count, 100, "it is written after so many steps, and at the end"),
        "held-out-tokens": (_count, None, "score so many at the end at most (default: all)")})
    _progress_option(files)
    parser.set_defaults(run=train_model)


def _options(parser: argparse._ActionsContainer, options: dict[str, tuple[Any, Any, str]]) -> None:
    """Name -> (type or choices, default, what it is), one `--name` each."""
    for name, (kind, default, text) in options.items():
        shown = "" if default is None or "(default" in text else f" (default: {default})"
        if isinstance(kind, tuple):
            parser.add_argument(f"--{name}", choices=kind, default=default, help=text + shown)
        else:
            metavar = "N" if kind is not str else "FILE" if name in ("data", "checkpoint") else "TEXT"
            parser.add_argument(f"--{name}", type=kind, default=default, metavar=metavar, help=text + shown)


def _progress_option(parser: argparse._ActionsContainer) -> None:
    parser.add_argument("--no-progress", dest="progress", action="store_false", help="without the progress bar")


def _count(text: str, least: int = 1) -> int:
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least {least}, got {text!r}")
    return int(text)


def _how_to_go_on(arguments: argparse.Namespace) -> str:
    path = getattr(arguments, "checkpoint", None)
    return f" The same command goes on from {path}." if path is not None and Path(path).exists() else ""
