"""Checkpoints that are whole or not there: written beside the old one, then put in its place in one move."""

import os
import pickle
from pathlib import Path

import torch

FORMAT = "tutorlib checkpoint 1"

# What torch.load raises for bytes that are no checkpoint; it depends on where the bytes end.
UNREADABLE = (RuntimeError, OSError, EOFError, KeyError, UnicodeDecodeError, pickle.UnpicklingError)


def save_checkpoint(path: str | os.PathLike, **state) -> None:
    """Write `state` (tensors, numbers, strings, lists, dicts) to `path`, atomically.

    The bytes go to `path`.partial in the same folder and are forced to the disk before the file takes its name: at every
    moment `path` holds the old checkpoint or the new one. A process killed while it writes leaves the old one, and a
    partial file that the next save overwrites.
    """
    path = Path(path)
    partial = path.with_name(path.name + ".partial")
    with open(partial, "wb") as file:
        torch.save({"format": FORMAT, **state}, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)
    if os.name == "posix":  # the new name is an entry of the folder: it, too, must reach the disk
        folder = os.open(path.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)


def load_checkpoint(path: str | os.PathLike) -> dict:
    """The state saved at `path`, tensors on the CPU. Nothing but tensors and plain containers is unpickled.

    Raises FileNotFoundError; ValueError for a file that is truncated, damaged or no checkpoint of `save_checkpoint`.
    """
    with open(path, "rb") as file:
        try:
            state = torch.load(file, map_location="cpu", weights_only=True)
        except UNREADABLE as error:
            reason = str(error).partition("\n")[0]
            raise ValueError(f"path: {Path(path).name} is truncated, damaged or no checkpoint ({reason})") from error
    if not isinstance(state, dict) or state.pop("format", None) != FORMAT:
        raise ValueError(f"path: {Path(path).name} is not a checkpoint of this library; expected the format {FORMAT!r}")
    return state
