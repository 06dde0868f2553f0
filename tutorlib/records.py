"""What the records of long runs have in common: where they were made, numbers of few digits, weights of two bytes."""

import platform
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tutorlib.device import processor_name


def surroundings() -> dict[str, Any]:
    """Versions, processor and threads, which a record names and a repetition compares."""
    return {"torch": torch.__version__, "python": platform.python_version(), "processor": processor_name(),
            "threads": torch.get_num_threads()}


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
