"""Checkpoints that are whole or not there: written beside the old one, then put in its place in one move."""

import contextlib
import glob
import io
import os
import pickle
import secrets
import time
import zipfile
import zlib
from collections import OrderedDict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor, nn

FORMAT = "tutorlib checkpoint 1"
ABANDONED = 3600  # seconds after its last byte a partial file has no writer any more: writing takes moments
LARGEST = 2000  # bits of an integer; torch reads back some forty more

# What zipfile and torch.load raise for bytes that are no checkpoint; it depends on where the damage is.
UNREADABLE = (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, OSError, EOFError, KeyError, ValueError,
              pickle.UnpicklingError)


def save_checkpoint(path: str | os.PathLike, **state) -> None:
    """Write `state` to `path`, atomically.

    `state` is made of dicts, lists, tuples, tensors, numbers, strings, booleans and None. NumPy's scalars become Python's, and
    tensors are detached. All bytes are made in memory before the first is written, to a partial file of a name that no other
    writer has, in the same folder; they are forced to the disk before the file takes its name. At every moment `path` holds the
    old checkpoint or the new one. Where writing fails (a full disk, say) the partial file is removed. A killed process leaves
    its own behind, and the first save of the same `path` an hour later, or any after that, removes it.
    Raises ValueError, naming the place, for anything that `load_checkpoint` would not read; OSError where writing fails.
    """
    if "format" in state:
        raise ValueError(f"format is the checkpoint's own entry; expected another name for {state['format']!r}")
    whole = io.BytesIO()  # torch would not say that a disk is full
    torch.save({"format": FORMAT, **{name: plain(name, value) for name, value in state.items()}}, whole)
    path = Path(path)
    _remove_abandoned(path)
    partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}.partial")
    try:
        _write(partial, whole.getbuffer())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    if os.name == "posix":  # the new name is an entry of the folder: it, too, must reach the disk
        folder = os.open(path.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)


def load_checkpoint(path: str | os.PathLike) -> dict:
    """The state saved at `path`, tensors on the CPU. Nothing but tensors and plain containers is unpickled.

    Every part is compared with the checksum that was written with it. Raises FileNotFoundError; ValueError for a file that is
    truncated, damaged or no checkpoint of `save_checkpoint`.
    """
    name = Path(path).name
    with open(path, "rb") as file:
        try:
            _check_sums(file)
            state = torch.load(file, map_location="cpu", weights_only=True)
        except UNREADABLE:  # torch's message would advise to unpickle all the same
            raise ValueError(f"path: {name} is truncated, damaged or no checkpoint") from None
    if not isinstance(state, dict) or state.pop("format", None) != FORMAT:
        raise ValueError(f"path: {name} is not a checkpoint of this library; expected the format {FORMAT!r}")
    return state


def plain(name: str, value: Any) -> Any:
    """`value` as a checkpoint holds it: plain containers, Python's numbers, strings, None, and tensors without a graph.

    Raises ValueError for anything else; `name` says where the value comes from.
    """
    if isinstance(value, np.generic):
        value = value.item()
    kind = type(value)
    if kind is int and value.bit_length() > LARGEST:
        raise ValueError(f"{name} has {value.bit_length()} bits; expected an integer of at most {LARGEST}")
    if value is None or kind in (bool, int, float, str):
        return value
    if kind in (Tensor, nn.Parameter):
        return value.detach()
    if kind in (list, tuple):
        return kind(plain(f"{name}[{place}]", part) for place, part in enumerate(value))
    if kind in (dict, OrderedDict):
        return {plain(f"a key of {name}", key): plain(f"{name}[{key!r}]", part) for key, part in value.items()}
    raise ValueError(f"{name} is a {kind.__name__}, which a checkpoint does not hold; expected dicts, lists or tuples of "
                     "tensors, numbers, strings, booleans or None")


def _write(path: Path, content: memoryview) -> None:
    with open(path, "xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _remove_abandoned(path: Path) -> None:
    """Remove partial files of `path` whose writers must have been killed."""
    for partial in path.parent.glob(f"{glob.escape(path.name)}.{'[0-9a-f]' * 8}.partial"):
        with contextlib.suppress(OSError):  # another writer was faster, or it is not ours to remove
            if time.time() - partial.stat().st_mtime > ABANDONED:
                partial.unlink()


def _check_sums(file: BinaryIO) -> None:
    """Raise BadZipFile unless every part of the archive has its checksum; torch does not look at them.

    No checksum covers a part's attributes. Torch writes none; where it reads that a part is a folder, it fills the tensor with
    whatever lies in memory.
    """
    with zipfile.ZipFile(file) as archive:
        if archive.testzip() or any(part.external_attr for part in archive.infolist()):
            raise zipfile.BadZipFile
    file.seek(0)
