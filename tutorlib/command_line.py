"""`python -m tutorlib`: train a language model, measure it, let it write; compare, ask the book, translate, read and say words.

A checkpoint of `train` holds all that the other commands need: the weights, the sizes, the tokenizer, and which text it was.
"""

import argparse
import math
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from tutorlib.asking import ask_book
from tutorlib.options import (
    AskOptions,
    CompareOptions,
    EvaluateOptions,
    GenerateOptions,
    SayOptions,
    TrainOptions,
    TranscribeOptions,
    TranslateOptions,
)
from tutorlib.runs import DTYPES, REAL, compare_files, evaluate_model, generate_text, train_model
from tutorlib.saved_runs import MODELS
from tutorlib.speaking import say_to_file, transcribe_file
from tutorlib.translating import translate_text

COMMANDS = {"train": (TrainOptions, train_model), "evaluate": (EvaluateOptions, evaluate_model),
            "generate": (GenerateOptions, generate_text), "compare": (CompareOptions, compare_files),
            "ask": (AskOptions, ask_book), "translate": (TranslateOptions, translate_text),
            "transcribe": (TranscribeOptions, transcribe_file), "say": (SayOptions, say_to_file)}
Options = (TrainOptions | EvaluateOptions | GenerateOptions | CompareOptions | AskOptions | TranslateOptions
           | TranscribeOptions | SayOptions)
LARGEST_SEED = 2**32 - 1  # of it and the step, batches make a seed that must fit into 64 bits
DEVICE = (str, "such as cpu, cuda, mps (default: TUTORLIB_DEVICE, else cpu)")

TRAIN = """examples:
  python -m tutorlib train --steps 200
      a small GPT on characters of the World English Bible, in about a minute
  python -m tutorlib train --checkpoint run.pt --tokenizer bpe --vocabulary 2048 --width 256 --layers 6 --steps 5000
      a larger one that is kept; run the same command again and it goes on where it stopped
  python -m tutorlib train --data notes.txt --model llama --key-value-heads 2 --checkpoint notes.pt
      a Llama on your own text
  torchrun --nproc-per-node 2 -m tutorlib train --parallel data --checkpoint run.pt
      on two processes; the file is the same, and any number of processes goes on from it"""
EVALUATE = """examples:
  python -m tutorlib evaluate run.pt
      on the held-out part of the text it was trained on
  python -m tutorlib evaluate smollm2 --data notes.txt --tokens 5000"""
GENERATE = """examples:
  python -m tutorlib generate run.pt --prompt "In the beginning" --temperature 0.8 --top-k 20
  python -m tutorlib generate smollm2 --prompt "The capital of France is" --max-new-tokens 20 --temperature 0"""

COMPARE = """examples:
  python -m tutorlib compare new.txt old.txt
      each file holds a line a test row: 1 for right and 0 for wrong, or a loss; several runs are parted by commas"""

ASK = """examples:
  python -m tutorlib ask "Why does the attention score divide by the root of d?"
      the passages, each with its place
  python -m tutorlib ask "Does it only repeat what it has read?" --top 1"""

TRANSLATE = """examples:
  python -m tutorlib translate "Close all notebooks"
      into Chinese, with the nearest string that was seen in training
  python -m tutorlib translate "Rotate clockwise" --beams 1"""

TRANSCRIBE = """examples:
  python -m tutorlib say "open the door" door.wav
  python -m tutorlib transcribe door.wav
      the network has heard synthesized voices only: most of what a person says it gets wrong"""
SAY = """examples:
  python -m tutorlib say "turn on the red light" light.wav"""


def main(argv: list[str] | None = None) -> int:
    """Run a command; return its exit status: 0, 1 where a loss is no number, 2 for a wrong argument, 130 if interrupted."""
    command, options = parse(argv)
    try:
        COMMANDS[command][1](options)
        sys.stdout.flush()
    except (ValueError, OSError, ModuleNotFoundError, FloatingPointError) as error:
        print(f"python -m tutorlib {command}: {' '.join(str(error).split())}", file=sys.stderr)
        return 1 if isinstance(error, FloatingPointError) else 2
    except KeyboardInterrupt:
        print(f"\nInterrupted.{_how_to_go_on(options)}", file=sys.stderr)
        return 130
    return 0


def parse(argv: list[str] | None = None) -> tuple[str, Options]:
    """The command and its options. A wrong argument ends the process with a sentence and status 2."""
    options = vars(_parser().parse_args(argv))
    command = options.pop("command")
    return command, COMMANDS[command][0](**options)


# -- what can be asked ------------------------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """A sentence instead of the usage's many lines."""
        self.exit(2, f"{self.prog}: {message}; {self.prog} --help says what there is\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m tutorlib",
                     description="Train a language model, measure it, let it write; compare results, "
                                 "ask the book, translate, read speech and speak.",
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
    files = commands.add_parser(
        "compare", usage="%(prog)s FIRST SECOND", help="judge two files of results on the same rows", epilog=COMPARE, **layout,
        description="The difference of two means, its interval, its p-value, and the rows that it takes to show it.")
    for name in ("first", "second"):
        files.add_argument(name, metavar=name.upper(), help="a file of results, one row a line")
    for command, kind in ((evaluate, EvaluateOptions), (write, GenerateOptions)):
        command.add_argument("model", metavar="MODEL", help=f"a checkpoint that train has written, or {', '.join(REAL)}")
        _options(command, kind, {"device": DEVICE, "dtype": (tuple(DTYPES), "the weights'")})
    _options(evaluate, EvaluateOptions, {
        "data": (str, "'bible' or a UTF-8 text file (default: what it was trained on, else bible)"),
        "tokens": (_count, "score so many tokens at most (default: all)")})
    _options(write, GenerateOptions, {
        "prompt": (str, "the text to continue (default: a line's end; where the model knows none, its first character)"),
        "max-new-tokens": (_count, "how many tokens to add"),
        "temperature": (_number("0 or a number above it", lambda x: 0 <= x < math.inf),
                        "0 takes the most probable token, 1 draws from the model's distribution"),
        "top-k": (_count, "draw among so many most probable tokens only"),
        "top-p": (_number("a number above 0 and at most 1", lambda x: 0 < x <= 1),
                  "draw among the fewest tokens of this total probability only"),
        "seed": (_seed, "the same seed draws the same text")})
    _progress_option(evaluate)
    ask = commands.add_parser(
        "ask", usage="%(prog)s QUESTION [options]", help="find what this book says to a question", epilog=ASK, **layout,
        description="The passages of the book that fit a question best, with the sentence that fits best between >> and <<.")
    ask.add_argument("question", metavar="QUESTION", help="in your own words, in quotes")
    _options(ask, AskOptions, {"top": (_count, "how many passages")})
    said = commands.add_parser(
        "translate", usage="%(prog)s TEXT [options]", help="an English menu entry or message in Chinese", epilog=TRANSLATE,
        **layout, description="Translate a short string of a program from English to Chinese with the chapter's small model.")
    said.add_argument("text", metavar="TEXT", help="in the words of menus and messages, in quotes")
    _options(said, TranslateOptions, {"beams": (_count, "beams of the search; 1 is greedy")})
    read = commands.add_parser(
        "transcribe", usage="%(prog)s FILE", help="read the letters in a WAV file of speech", epilog=TRANSCRIBE, **layout,
        description="The letters that the small network of the chapter Speech reads in a sound.")
    read.add_argument("file", metavar="FILE", help="a WAV file: one channel, 16 bits, 16,000 samples a second")
    spoken = commands.add_parser(
        "say", usage="%(prog)s WORDS FILE", help="let the book's small network speak", epilog=SAY, **layout,
        description="Write the sound of some words to a WAV file.")
    spoken.add_argument("words", metavar="WORDS", help="letters a to z and spaces, in quotes")
    spoken.add_argument("file", metavar="FILE", help="where to write; an older file is replaced")
    return parser


def _training_options(parser: argparse.ArgumentParser) -> None:
    _options(parser.add_argument_group("the text"), TrainOptions, {
        "data": (str, "'bible' or a UTF-8 text file, whose last tenth is held out"),
        "tokenizer": (("characters", "bpe"), "what a token is"),
        "vocabulary": (_count, "number of tokens of the BPE (default: 1024)")})
    _options(parser.add_argument_group("the model"), TrainOptions, {
        "model": (tuple(MODELS), "its architecture"),
        "width": (_count, "of its states"),
        "heads": (_count, "of its attention; their number divides the width"),
        "key-value-heads": (_count, "of a Llama; their number divides that of the heads (default: as many)"),
        "layers": (_count, "how many"),
        "hidden": (_count, "width inside its feed-forward networks (default: 4 widths, in a Llama 8/3)"),
        "context": (_count, "how many tokens it sees"),
        "dropout": (_number("a number from 0 on and below 1", lambda x: 0 <= x < 1), "of a GPT")})
    _options(parser.add_argument_group("the training"), TrainOptions, {
        "steps": (_count, "how many"),
        "batch": (_count, "windows of the text in a step"),
        "rate": (_number("a number above 0", lambda x: 0 < x < math.inf), "the learning rate at its peak"),
        "schedule": (("constant", "linear", "cosine", "inverse-sqrt"), "of the learning rate"),
        "warmup": (partial(_count, least=0), "steps in which the rate rises (default: a tenth of the steps)"),
        "weight-decay": (_number("0 or a number above it", lambda x: 0 <= x < math.inf),
                         "of AdamW; biases and norms are spared"),
        "clip": (_number("a number above 0, or inf", lambda x: x > 0), "the norm to which a longer gradient is cut"),
        "seed": (_seed, "of weights, windows and dropout"),
        "device": DEVICE,
        "dtype": (tuple(DTYPES), "bfloat16 is mixed precision"),
        "parallel": (("data", "sharded", "tensor"), "on many processes, which torchrun starts: what is divided among them")})
    files = parser.add_argument_group("what is kept and shown")
    _options(files, TrainOptions, {
        "checkpoint": (str, "the file that keeps the model; where it exists, the run goes on from it"),
        "checkpoint-every": (_count, "it is written after so many steps, and at the end"),
        "held-out-tokens": (_count, "score so many at the end at most (default: all)")})
    _progress_option(files)


def _options(parser: argparse._ActionsContainer, options: type, named: dict[str, tuple[Any, str]]) -> None:
    """Name -> (type or choices, what it is), one `--name` each; the defaults are those of the dataclass `options`."""
    for name, (kind, text) in named.items():
        default = getattr(options, name.replace("-", "_"))
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


def _seed(text: str) -> int:
    if not text.isdecimal() or int(text) > LARGEST_SEED:
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 to {LARGEST_SEED}, got {text!r}")
    return int(text)


def _number(expected: str, allowed: Callable[[float], bool]) -> Callable[[str], float]:
    """A type for argparse: the numbers that are allowed, which NaN never is, since it compares with nothing."""
    def parse_number(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not allowed(number):
            raise argparse.ArgumentTypeError(f"expected {expected}, got {text!r}")
        return number
    return parse_number


def _how_to_go_on(options: Options) -> str:
    path = getattr(options, "checkpoint", None)
    if path is not None and Path(path).exists():
        return f" The same command goes on from {path}."
    return " Nothing was kept." if isinstance(options, TrainOptions) else ""
