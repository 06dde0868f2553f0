"""Checkpoints: whole or not there, and nothing foreign passes for one."""

import errno
import math
import os
import re
import signal
import subprocess
import sys
import time
import traceback
import zipfile
from collections import OrderedDict
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

from tutorlib.training import checkpoints, load_checkpoint, save_checkpoint
from tutorlib.training.checkpoints import ABANDONED, FORMAT


def test_what_is_saved_is_loaded(tmp_path):
    path = tmp_path / "run.pt"
    save_checkpoint(path, weights=torch.arange(3.0), step=7, losses=[0.1, 0.2], name="a", nested={"x": (1, None, True)})
    state = load_checkpoint(path)
    assert torch.equal(state.pop("weights"), torch.arange(3.0))
    assert state == {"step": 7, "losses": [0.1, 0.2], "name": "a", "nested": {"x": (1, None, True)}}
    assert os.listdir(tmp_path) == ["run.pt"]  # nothing is left beside it


def test_a_failed_save_keeps_the_old_one(tmp_path):
    path = tmp_path / "run.pt"
    save_checkpoint(path, step=1)
    with pytest.raises(ValueError, match="cannot is a function"):
        save_checkpoint(path, step=2, cannot=lambda: None)
    assert load_checkpoint(path) == {"step": 1}
    save_checkpoint(path, step=3)
    assert load_checkpoint(path) == {"step": 3}
    assert os.listdir(tmp_path) == ["run.pt"]


def test_the_bytes_are_on_the_disk_before_the_name_changes(tmp_path, monkeypatch):
    calls = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, name=name, real=real: (calls.append(name), real(*a))[1])
    save_checkpoint(tmp_path / "run.pt", step=1)
    assert calls == (["fsync", "replace", "fsync"] if os.name == "posix" else ["fsync", "replace"])


def test_all_bytes_have_left_the_process_when_the_disk_is_asked_to_keep_them(tmp_path, monkeypatch):
    sizes, real = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda number: (sizes.append(os.fstat(number).st_size), real(number))[1])
    save_checkpoint(tmp_path / "run.pt", weights=torch.ones(1000))
    assert sizes[0] == (tmp_path / "run.pt").stat().st_size


def test_no_file_is_left_open(tmp_path):
    def lowest_free():
        number = os.dup(0)
        os.close(number)
        return number
    before = lowest_free()
    save_checkpoint(tmp_path / "run.pt", step=1)
    load_checkpoint(tmp_path / "run.pt")
    assert lowest_free() == before


CHILD = """
import builtins, os, sys, time, torch
from tutorlib.training import checkpoints

checkpoints.save_checkpoint(sys.argv[1], weights=torch.ones(100_000), step=1)


def wait(*_):
    print("now", flush=True)
    time.sleep(60)


class Halfway:
    def __init__(self, file): self.file = file
    def write(self, data):
        self.file.write(data[: len(data) // 2])
        self.file.flush()
        wait()
    def __enter__(self): return self
    def __exit__(self, *_): pass


if sys.argv[2] == "write":
    checkpoints.open = lambda *arguments: Halfway(builtins.open(*arguments))
else:
    setattr(os, sys.argv[2], wait)
checkpoints.save_checkpoint(sys.argv[1], weights=torch.zeros(100_000), step=2)
"""


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
@pytest.mark.parametrize("place", ["write", *(pytest.param(name, marks=pytest.mark.slow) for name in ("fsync", "replace"))])
def test_a_process_killed_while_it_writes_leaves_the_last_good_checkpoint(tmp_path, place):
    """The child saves once, begins a second save, and stops in the middle of its bytes or before a call until it is killed."""
    path = tmp_path / "run.pt"
    process = subprocess.Popen([sys.executable, "-c", CHILD, str(path), place], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline().strip() == "now"
        partial, = set(tmp_path.iterdir()) - {path}
        assert partial.stat().st_size > 1000  # it was caught in the act
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    assert process.returncode == -signal.SIGKILL
    state = load_checkpoint(path)
    assert state["step"] == 1 and torch.equal(state["weights"], torch.ones(100_000))
    if place == "write":
        with pytest.raises(ValueError, match="truncated"):
            load_checkpoint(partial)
    save_checkpoint(path, step=3)  # the next run is not hindered by what the dead one left
    assert load_checkpoint(path) == {"step": 3} and partial.exists()  # it may be another writer's, as far as anyone can tell
    long_ago = time.time() - ABANDONED - 1
    os.utime(partial, (long_ago, long_ago))
    save_checkpoint(path, step=4)
    assert load_checkpoint(path) == {"step": 4} and os.listdir(tmp_path) == ["run.pt"]


def test_what_others_keep_in_the_folder_is_left_there(tmp_path):
    long_ago = time.time() - ABANDONED - 1
    others = "run.pt.partial", "run.pt.backup.partial", "other.pt.0123abcd.partial", "run.pt.0123abcd.txt"
    for name in others:
        (tmp_path / name).write_text("mine")
        os.utime(tmp_path / name, (long_ago, long_ago))
    save_checkpoint(tmp_path / "run.pt", step=1)
    assert sorted(os.listdir(tmp_path)) == sorted([*others, "run.pt"])


def test_a_full_disk_is_called_so_and_nothing_is_left_on_it(tmp_path, monkeypatch):
    path = tmp_path / "run.pt"
    save_checkpoint(path, step=1)

    def full(number):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device"):
        save_checkpoint(path, step=2)
    assert os.listdir(tmp_path) == ["run.pt"] and load_checkpoint(path) == {"step": 1}


def test_a_save_that_is_interrupted_leaves_nothing_beside_the_old_one(tmp_path, monkeypatch):
    """Ctrl-C is no Exception."""
    path = tmp_path / "run.pt"
    save_checkpoint(path, step=1)

    def interrupted(*_):
        raise KeyboardInterrupt

    for name in ("fsync", "replace"):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(os, name, interrupted)
            save_checkpoint(path, step=2)
        assert os.listdir(tmp_path) == ["run.pt"] and load_checkpoint(path) == {"step": 1}


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_a_disk_that_is_full_at_the_first_byte_is_called_so_too(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "open", lambda path, mode: open("/dev/full", "wb"), raising=False)  # noqa: SIM115
    with pytest.raises(OSError, match="No space left on device"):
        save_checkpoint(tmp_path / "run.pt", weights=torch.zeros(100_000))
    assert os.listdir(tmp_path) == []


def test_two_writers_do_not_write_into_one_file(tmp_path, monkeypatch):
    """Before the first takes the name, a second writes all of its own; the first one's bytes stay its own."""
    path, real = tmp_path / "run.pt", os.replace

    def interrupted(partial, target):
        monkeypatch.setattr(os, "replace", real)
        save_checkpoint(path, writer="second")
        assert load_checkpoint(path) == {"writer": "second"} and load_checkpoint(partial) == {"writer": "first"}
        real(partial, target)

    monkeypatch.setattr(os, "replace", interrupted)
    save_checkpoint(path, writer="first")
    assert load_checkpoint(path) == {"writer": "first"} and os.listdir(tmp_path) == ["run.pt"]


# What is written can be read


@pytest.mark.parametrize("value, read", [
    (np.float64(0.1), 0.1), (np.float32(0.5), 0.5), (np.int64(3), 3), (np.bool_(True), True), (np.str_("a"), "a"),
    ({np.int64(1): [np.float64(2.0)]}, {1: [2.0]}), ((1, (2, [None])), (1, (2, [None]))), (2**1999, 2**1999),
    ("\ud800", "\ud800"), (OrderedDict(a=1), {"a": 1}), (-math.inf, -math.inf),
])
def test_numbers_of_numpy_are_saved_as_pythons(tmp_path, value, read):
    save_checkpoint(tmp_path / "run.pt", value=value)
    loaded = load_checkpoint(tmp_path / "run.pt")["value"]
    assert loaded == read and repr(loaded) == repr(read)  # of the same types, all the way down


def test_tensors_of_every_kind_come_back(tmp_path):
    marked = torch.ones(3)
    marked.note = lambda: "what a tensor carries with it is not saved"
    tensors = [torch.tensor(3), torch.empty(0), torch.ones(2).bfloat16(), torch.ones(2, dtype=torch.complex64).conj(),
               nn.Parameter(torch.ones(2)), 2 * torch.ones(2, requires_grad=True), torch.ones(3, 4).T, marked]
    save_checkpoint(tmp_path / "run.pt", tensors=tensors)
    for saved, loaded in zip(tensors, load_checkpoint(tmp_path / "run.pt")["tensors"], strict=True):
        assert saved.dtype == loaded.dtype and torch.equal(saved.detach(), loaded)


class Mischief:
    """Unpickled without care, it would make a folder."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (self.folder,)


class Scores(NamedTuple):
    first: float


@pytest.mark.parametrize("state, message", [
    ({"scores": np.ones(2)}, "scores is a ndarray, which a checkpoint does not hold; expected dicts"),
    ({"history": {"evaluations": [(3, {"f1": np.ones(2)})]}}, "history['evaluations'][0][1]['f1'] is a ndarray"),
    ({"scores": Scores(0.5)}, "scores is a Scores"),
    ({"names": {"a", "b"}}, "names is a set"),
    ({"when": np.datetime64("2024-01-01")}, "when is a date"),
    ({"size": torch.ones(2, 3).shape}, "size is a Size"),
    ({"phase": 1j}, "phase is a complex"),
    ({"long": np.longdouble(1)}, "long is a longdouble"),
    ({"seed": 2**2000}, "seed has 2001 bits; expected an integer of at most 2000"),
    ({"of": {(1, 1j): 0}}, "a key of of[1] is a complex"),
    ({"call": lambda: None}, "call is a function"),
    ({"mischief": Mischief("folder")}, "mischief is a Mischief"),
    ({"format": "mine"}, "format is the checkpoint's own entry; expected another name for 'mine'"),
])
def test_what_could_not_be_read_is_not_written(tmp_path, state, message):
    save_checkpoint(tmp_path / "run.pt", step=1)
    with pytest.raises(ValueError) as refused:
        save_checkpoint(tmp_path / "run.pt", **state)
    assert message in str(refused.value)
    assert load_checkpoint(tmp_path / "run.pt") == {"step": 1} and os.listdir(tmp_path) == ["run.pt"]


# What was damaged is not read


def test_a_bit_that_flipped_is_noticed_or_makes_no_difference(tmp_path):
    """All bits that say what a part of the archive is, and 400 drawn from the whole file."""
    path = tmp_path / "run.pt"
    written = {"weights": torch.randn(300), "step": 7, "losses": [0.1, 0.2], "name": "a"}
    save_checkpoint(path, **written)
    content = path.read_bytes()
    generator = torch.Generator().manual_seed(0)
    bits = torch.randint(8 * len(content), (400,), generator=generator).tolist()
    with zipfile.ZipFile(path) as archive:
        attributes = [8 * found.start() + 8 * 38 + bit for found in re.finditer(b"PK\x01\x02", content) for bit in range(32)]
        assert len(attributes) == 32 * len(archive.infolist())
    refused = 0
    for bit in bits + attributes:
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            state = load_checkpoint(path)
        except ValueError as error:
            assert "run.pt is" in str(error)
            refused += 1
        else:
            assert torch.equal(state.pop("weights"), written["weights"])
            assert state == {name: value for name, value in written.items() if name != "weights"}
    assert refused > 300


@pytest.mark.parametrize("keep", [0, 1, 100, 0.2, 0.5, 0.8, 0.9, 0.95, 0.999])
def test_a_truncated_file_is_refused(tmp_path, keep):
    path = tmp_path / "run.pt"
    save_checkpoint(path, weights=torch.randn(1000), step=1)
    data = path.read_bytes()
    path.write_bytes(data[: keep if isinstance(keep, int) else int(len(data) * keep)])
    with pytest.raises(ValueError, match="run.pt is truncated, damaged or no checkpoint"):
        load_checkpoint(path)


def test_foreign_files_are_refused(tmp_path):
    (tmp_path / "text.pt").write_text("Dear reader, this is a letter.\n" * 20)
    torch.save({"model": {}}, tmp_path / "other.pt")
    torch.save(torch.zeros(3), tmp_path / "tensor.pt")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "pickle.pt")
    for name in ("text.pt", "other.pt", "tensor.pt", "pickle.pt"):
        with pytest.raises(ValueError, match=f"path: {name} is"):
            load_checkpoint(tmp_path / name)


def test_a_checkpoint_cannot_run_code(tmp_path):
    path, folder = tmp_path / "run.pt", tmp_path / "made"
    torch.save({"format": FORMAT, "mischief": Mischief(str(folder))}, path)
    with pytest.raises(ValueError, match="path: run.pt is truncated, damaged or no checkpoint") as refused:
        load_checkpoint(path)
    assert not folder.exists()
    message = "".join(traceback.format_exception(refused.value))
    assert "Weights only" not in message and "weights_only=False" not in message and "arbitrary" not in message


def test_a_missing_file_is_called_missing(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_checkpoint(tmp_path / "nowhere.pt")
