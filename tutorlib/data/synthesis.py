"""Speech from text: espeak-ng's voices, called in a process of its own.

The library lies in the installed package `espeakng_loader`, is free software under GPL-3, and is never loaded into this
process: this file run as a script is the only caller. Within one process its sounds depend on what it said before, so a list is
said whole, in its order, by a fresh process whose random numbers begin at 0; the same list then gives the same bytes.
"""

import ctypes
import json
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

RATE = 16_000  # samples a second of what `synthesize` returns; espeak's own are 22,050
PACKAGE, DATA = "espeakng_loader", "espeak-ng-data"
LIBRARIES = ("libespeak-ng.so", "libespeak-ng.dylib", "espeak-ng.dll", "libespeak-ng.dll")


class Request(NamedTuple):
    """What is to be said, by which variant of the voice, at how many words a minute, how high (0 to 99), in which accent."""

    text: str
    voice: str = ""
    speed: int = 160
    pitch: int = 50
    accent: str = "en-us"


def synthesize(requests: Sequence[Request]) -> list:
    """The sound of each request: a float tensor (N,) between -1 and 1, 16,000 samples a second.

    Raises ModuleNotFoundError where the package is missing; ValueError for no requests, an empty text, or a variant that
    espeak has not; RuntimeError where its process fails.
    """
    folder, library = _installed()
    _check(requests, folder)
    order = json.dumps({"library": str(library), "data": str(folder.parent), "requests": requests})
    script = [sys.executable, str(Path(__file__).resolve())]
    done = subprocess.run(script, input=order.encode(), capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(f"espeak-ng failed: {done.stderr.decode(errors='replace').strip()[-300:]}")
    return list(_sounds(done.stdout))


def _sounds(content: bytes):
    """Each sound is its rate, its number of samples, and these, of two bytes each."""
    import torch
    from scipy.signal import resample_poly

    place = 0
    while place < len(content):
        rate, count = struct.unpack_from("<II", content, place)
        own = torch.frombuffer(bytearray(content[place + 8:place + 8 + 2 * count]), dtype=torch.int16)
        yield torch.from_numpy(resample_poly(own.numpy() / 2**15, RATE, rate)).float().clamp(-1, 1)
        place += 8 + 2 * count


def _installed() -> tuple[Path, Path]:
    """The folder of espeak's data and the file of its library."""
    from tutorlib.packages import installed_file

    folder = installed_file(PACKAGE, f"{DATA}/phontab", distribution="espeakng-loader", what="The synthesizer").parent
    found = [folder.parent / name for name in LIBRARIES if (folder.parent / name).is_file()]
    if not found:
        raise FileNotFoundError(f"The synthesizer: the installed package 'espeakng-loader' has none of {', '.join(LIBRARIES)}")
    return folder, found[0]


def _check(requests: Sequence[Request], folder: Path) -> None:
    if not len(requests):
        raise ValueError("requests must be at least 1, got none")
    variants = {path.name for path in (folder / "voices" / "!v").iterdir()} | {""}
    for request in requests:
        if not request.text.strip():
            raise ValueError(f"text must have something to say, got {request.text!r}")
        if request.voice not in variants:
            raise ValueError(f"voice must be a variant that espeak has, such as m1 or f2, got {request.voice!r}")


# -- the other process: nothing but the standard library, so that it starts at once ------------------------------------------


def _serve() -> None:
    order = json.loads(sys.stdin.buffer.read())
    library = ctypes.CDLL(order["library"])
    rate = library.espeak_Initialize(2, 0, order["data"].encode(), 0)  # 2: hand the samples over, play nothing
    if rate <= 0:
        raise SystemExit(f"espeak_Initialize gave {rate}")
    library.espeak_ng_SetRandSeed(ctypes.c_long(0))
    collected = bytearray()

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
    def collect(samples, count, _):
        if samples and count > 0:
            collected.extend(ctypes.string_at(samples, 2 * count))
        return 0

    library.espeak_SetSynthCallback(collect)
    for text, voice, speed, pitch, accent in order["requests"]:
        collected.clear()
        library.espeak_SetVoiceByName(f"{accent}+{voice}".rstrip("+").encode())
        library.espeak_SetParameter(1, speed, 0)
        library.espeak_SetParameter(3, pitch, 0)
        said = text.encode()
        library.espeak_Synth(said, len(said) + 1, 0, 0, 0, 1, None, None)  # 1: the text is UTF-8
        library.espeak_Synchronize()
        sys.stdout.buffer.write(struct.pack("<II", rate, len(collected) // 2) + collected)


if __name__ == "__main__":
    _serve()
