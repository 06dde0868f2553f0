"""Processes: started with torchrun, joined into a group, and ended on every path."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist

from tutorlib.arguments import check_counts, check_whole

PATIENCE = 300.0  # seconds that one process waits for the others in a message before it gives up
PACKAGE = str(Path(__file__).resolve().parents[2])
GRACE = 40.0  # seconds that torchrun is given to end its workers


class World(NamedTuple):
    """The processes of a program, as one of them sees it: which it is, of how many, and the device that is its own."""

    rank: int
    size: int
    device: torch.device


@contextmanager
def process_group(device: str = "cpu", *, patience: float = PATIENCE) -> Iterator[World]:
    """Be one of the processes that torchrun has started; without torchrun, the only one.

    Messages go through gloo, and through nccl where the device is "cuda", of which each process of a machine gets its own. A
    group that is there already is used and left as it was. A process that waits longer than `patience` seconds for another
    raises RuntimeError. Raises ValueError where a machine has fewer GPUs than processes, and for other devices.
    """
    own = _own_device(device)
    made_here = not dist.is_initialized()
    if made_here:
        _join("nccl" if own.type == "cuda" else "gloo", timedelta(seconds=patience))
    try:
        yield World(dist.get_rank(), dist.get_world_size(), own)
    finally:
        if made_here:
            dist.destroy_process_group()


def _own_device(name: str) -> torch.device:
    device = torch.device(name)
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"device must be cpu or cuda, between which processes can send, got {name!r}")
    if device.type == "cpu":
        return device
    number = int(os.environ.get("LOCAL_RANK", 0))
    if number >= torch.cuda.device_count():
        raise ValueError(f"device: {name!r} has {torch.cuda.device_count()} GPUs; expected one for each process of a machine, "
                         f"and process {number} has none")
    torch.cuda.set_device(number)
    return torch.device("cuda", number)


def _join(backend: str, timeout: timedelta) -> None:
    if "RANK" not in os.environ:  # no torchrun: a group of one needs neither a port nor a file
        dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1, timeout=timeout)
        return
    meeting = {}
    if os.environ.get("LOCAL_WORLD_SIZE") == os.environ["WORLD_SIZE"]:  # all on this machine: no network is asked for a name
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo0" if sys.platform == "darwin" else "lo")
        meeting = _place_of_this_attempt(timeout)
    dist.init_process_group(backend, timeout=timeout, **meeting)


def _place_of_this_attempt(timeout: timedelta) -> dict[str, Any]:
    """Where processes leave their addresses for one another: a place of its own for each time that torchrun starts them.

    torchrun 2.13 keeps one store for all attempts, in which a process that was restarted may find the address of one that is
    dead. On several machines, which count their attempts apart, TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 gives a new store.
    """
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return {}
    store = dist.TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False, timeout=timeout)
    return {"store": dist.PrefixStore(f"attempt {os.environ['TORCHELASTIC_RESTART_COUNT']}", store),
            "rank": int(os.environ["RANK"]), "world_size": int(os.environ["WORLD_SIZE"])}


def launch(program: str, processes: int, *arguments: object, restarts: int = 0, timeout: float = 600.0) -> str:
    """Run a module (`tutorlib`) or a file (`worker.py`) on so many processes of this machine; what they wrote to stdout.

    It is `torchrun --standalone --nproc-per-node PROCESSES --max-restarts RESTARTS`, which finds a free port by itself. If a
    worker dies, torchrun ends the others and starts all of them again, at most `restarts` times. Each worker has one thread.
    After `timeout` seconds, and on every error here, all of them are ended. Raises RuntimeError, with what they wrote to
    stderr, where they fail; subprocess.TimeoutExpired; ValueError for wrong numbers.
    """
    check_counts(processes=processes)
    check_whole("restarts", restarts, least=0)
    if not timeout > 0:
        raise ValueError(f"timeout must be a number of seconds above 0, got {timeout}")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes),
               "--max-restarts", str(restarts), *([] if program.endswith(".py") else ["-m"]), program, *map(str, arguments)]
    environment = {"OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR", **os.environ}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [PACKAGE, os.environ.get("PYTHONPATH")]))  # the same tutorlib
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
                               start_new_session=os.name == "posix")
    try:
        printed, complaints = process.communicate(timeout=timeout)
    finally:
        _end(process)
    if process.returncode:
        of_workers = complaints.rsplit("Traceback", 1)[0]  # the last one is torchrun's own, and says nothing of the cause
        raise RuntimeError(f"{program} on {processes} processes ended with code {process.returncode}:\n{of_workers[-4000:]}")
    return printed


def _end(process: subprocess.Popen) -> None:
    """Nothing, where it has ended. Torchrun ends its workers when it is asked to; if it does not, all are killed."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.communicate(timeout=GRACE)
    except subprocess.TimeoutExpired:
        if os.name == "posix":
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.communicate()
