"""Where computations run, how they are seeded, and how much memory they take."""

import json
import os
import platform
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from torch.profiler import ProfilerActivity, profile

Result = TypeVar("Result")


def default_device() -> torch.device:
    """The CPU, so that outputs compare everywhere, unless the environment variable TUTORLIB_DEVICE names another device.

    Raises ValueError where the name is no device or this machine does not have it.
    """
    return find_device(os.environ.get("TUTORLIB_DEVICE", "cpu"), "TUTORLIB_DEVICE")


def find_device(name: str, source: str) -> torch.device:
    """The device of that name; `source` says in an error where the name was given.

    Raises ValueError where the name is no device or this machine does not have it.
    """
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"{source}: {name!r} is not a device; expected a name such as 'cpu', 'cuda' or 'mps'") from None
    number = torch.cuda.device_count() if device.type == "cuda" else 1
    if device.type not in {available.type for available in available_devices()} or (device.index or 0) >= number:
        raise ValueError(f"{source}: this machine has no {name!r}; expected one of {[*map(str, available_devices())]}")
    return device


def available_devices() -> list[torch.device]:
    """The kinds of device that this machine has, the CPU first."""
    devices = [torch.device("cpu")]
    if torch.cuda.is_available():
        devices.append(torch.device("cuda"))
    if torch.backends.mps.is_available():
        devices.append(torch.device("mps"))
    return devices


def seed_everything(seed: int) -> torch.Generator:
    """Seed torch's own generators (every device); return a CPU generator with the same seed for explicit use."""
    torch.manual_seed(seed)
    return torch.Generator().manual_seed(seed)


def processor_name() -> str:
    """The processor's name, where Linux tells it; else what Python knows of it. Records and benchmarks say where they ran."""
    info = Path("/proc/cpuinfo")
    names = re.findall(r"(?m)^model name\s*: (.+)$", info.read_text("utf8")) if info.exists() else []
    return names[0] if names else platform.processor() or platform.machine()


def has_fast_bfloat16(device: torch.device | str) -> bool:
    """Whether the device multiplies bfloat16 matrices with instructions of its own, so that autocast pays.

    On a CPU these are AVX-512 BF16, AMX or Arm's BF16; other CPUs emulate them and lose time. Metal (mps) counts as no.
    """
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type != "cpu" or torch.backends.cpu.get_cpu_capability() in ("DEFAULT", "NO AVX"):
        return False  # ATEN_CPU_CAPABILITY=default asks torch to act as if the instructions were not there
    found = getattr(torch.cpu, "get_capabilities", dict)()  # older releases of torch lack this call: then none is known
    return any(found.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))  # the last is Arm's


def peak_memory(function: Callable[[], Result], device: torch.device | str = "cpu") -> tuple[Result, int]:
    """Call `function` and return its result and the peak, in bytes, of what torch allocated meanwhile.

    Only what the call adds counts: memory that was in use before is subtracted. On the CPU the profiler records every
    allocation; on CUDA the allocator keeps the peak itself. Raises ValueError for other devices.
    """
    device = torch.device(device)
    if device.type == "cpu":
        return _peak_on_cpu(function)
    if device.type != "cuda":
        raise ValueError(f"device: {device} keeps no record of its peak; expected 'cpu' or 'cuda'")
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    result = function()
    torch.cuda.synchronize(device)
    return result, torch.cuda.max_memory_allocated(device) - before


def _peak_on_cpu(function: Callable[[], Result]) -> tuple[Result, int]:
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # else the profiler writes a line to stderr at every start and stop
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        result = function()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        events = json.loads(path.read_text())["traceEvents"]
    changes = [
        (event["ts"], event["args"]["Bytes"])
        for event in events
        if event["name"] == "[memory]" and event["args"]["Device Type"] == 0  # 0 is the CPU
    ]
    now = peak = 0
    for _, change in sorted(changes, key=lambda timed: timed[0]):  # a stable sort: the order within a tick is kept
        now += change
        peak = max(peak, now)
    return result, peak
