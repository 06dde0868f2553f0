"""What the records of long runs have in common: where they were made, which runs they lack, few digits, two-byte weights."""

import json
import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from tutorlib.device import processor_name

R = TypeVar("R", bound=tuple)  # a run: a NamedTuple of what tells it from the others


def surroundings() -> dict[str, Any]:
    """Versions, processor and threads, which a record names and a repetition compares."""
    return {"torch": torch.__version__, "python": platform.python_version(), "processor": processor_name(),
            "threads": torch.get_num_threads()}


def open_record(path: Path, start: Callable[[], dict]) -> dict:
    """The record at `path`, to be gone on with; where there is none, what `start` makes."""
    return json.loads(path.read_text()) if path.exists() else start()


def write_record(path: Path, record: dict) -> None:
    """In the form that all records have, so that a change of one run is a change of its lines."""
    path.write_text(json.dumps(record, indent=1) + "\n")


def run_of(kind: type[R], found: dict) -> R:
    """The run of a record's entry, which has its fields among others."""
    return kind(**{field: found[field] for field in kind._fields})


def missing(planned: Sequence[R], record: dict) -> list[R]:
    """Those of the planned runs that the record's "runs" have not, in their order."""
    return [run for run in planned if all(run_of(type(run), found) != run for found in record["runs"])]


def complete(path: Path, record: dict, planned: Sequence[R], perform: Callable[[R], dict]) -> None:
    """Perform the planned runs that the record lacks, each kept at once at its place in the plan, and named when it is done."""
    for run in missing(planned, record):
        record["runs"].append(perform(run))
        record["runs"].sort(key=lambda found: planned.index(run_of(type(run), found)))
        write_record(path, record)
        print(run, flush=True)


def rounded(value: Any, digits: int = 4) -> Any:
    """The numbers of dictionaries, lists and tuples, however deep, rounded to so many digits; a tuple becomes a list."""
    if isinstance(value, dict):
        return {name: rounded(each, digits) for name, each in value.items()}
    return [rounded(each, digits) for each in value] if isinstance(value, list | tuple) else round(value, digits)


def save_half(module: nn.Module, path: Path) -> None:
    """The state of a module in a file of safetensors, two bytes a number; several networks go in as an `nn.ModuleDict`."""
    from safetensors.torch import save_file

    save_file({name: value.half().contiguous() for name, value in module.state_dict().items()}, path)


def load_half(module: nn.Module, path: Path) -> nn.Module:
    """`module` with the state that `save_half` kept, in its own dtype, ready to be asked.

    Raises FileNotFoundError where there is no file, RuntimeError where it holds another network.
    """
    from safetensors.torch import load_file

    module.load_state_dict(load_file(path))  # copies into the module's tensors, and so into their dtype
    return module.eval()
