"""Checkpoints: whole or not there, and nothing foreign passes for one."""

import os
import pickle
import signal
import subprocess
import sys
import textwrap

import pytest
import torch

from tutorlib.training import load_checkpoint, save_checkpoint


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
    with pytest.raises((AttributeError, pickle.PicklingError)):  # a function in a function cannot be pickled
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


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_a_process_killed_while_it_writes_leaves_the_last_good_checkpoint(tmp_path):
    """The child saves once, then begins a second save, and stops in the middle of its bytes until it is killed."""
    path = tmp_path / "run.pt"
    child = textwrap.dedent("""
        import sys, time, torch
        from tutorlib.training import save_checkpoint
        save_checkpoint(sys.argv[1], weights=torch.ones(100_000), step=1)
        real = torch.save

        class Slow:
            def __init__(self, file): self.file, self.written = file, 0
            def write(self, data):
                self.file.write(data); self.written += len(data)
                if self.written > 1000:
                    self.file.flush(); print("half", flush=True); time.sleep(60)
                return len(data)
            def flush(self): self.file.flush()

        torch.save = lambda state, file: real(state, Slow(file))
        save_checkpoint(sys.argv[1], weights=torch.zeros(100_000), step=2)
        print("finished", flush=True)
    """)
    process = subprocess.Popen([sys.executable, "-c", child, str(path)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline().strip() == "half"
        assert path.with_name("run.pt.partial").stat().st_size > 1000  # it was caught in the act
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    assert process.returncode == -signal.SIGKILL
    state = load_checkpoint(path)
    assert state["step"] == 1 and torch.equal(state["weights"], torch.ones(100_000))
    with pytest.raises(ValueError, match="truncated"):
        load_checkpoint(path.with_name("run.pt.partial"))
    save_checkpoint(path, step=3)  # the next run is not hindered by what the dead one left
    assert load_checkpoint(path) == {"step": 3} and os.listdir(tmp_path) == ["run.pt"]


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


class Mischief:
    """Unpickled without care, it would make a folder."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def test_a_checkpoint_cannot_run_code(tmp_path):
    path, folder = tmp_path / "run.pt", tmp_path / "made"
    save_checkpoint(path, step=1, mischief=Mischief(str(folder)))
    with pytest.raises(ValueError, match="path: run.pt is truncated, damaged or no checkpoint"):
        load_checkpoint(path)
    assert not folder.exists()


def test_a_missing_file_is_called_missing(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_checkpoint(tmp_path / "nowhere.pt")
