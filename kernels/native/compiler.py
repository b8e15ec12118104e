"""Compilation of the C sources of this package for this machine at first use, with a cache.

A library runs code when it is loaded, so it is loaded only from a folder and a file that belong to the
user and that nobody else may write, and only if its hash is the one that was written beside it.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import stat
import subprocess
import tempfile
import warnings
from functools import cache
from pathlib import Path

__all__ = ["library", "unavailable"]

_SOURCES = Path(__file__).parent / "csrc"
# No -ffast-math: it would not preserve NaN and infinity.
_FLAGS = ["-O3", "-std=gnu11", "-shared", "-fPIC", "-ffp-contract=fast"]
_FLAGS += ["-fno-math-errno", "-fno-trapping-math"]
_TUNED = "-march=native"


def library(*definitions: str) -> ctypes.CDLL:
    """Return the loaded library that is compiled from `csrc/`.

    Parameters
    ----------
    *definitions : str
        Macros to define.

    Raises
    ------
    RuntimeError
        If there is no C compiler, or if it fails.
    """
    found = _load(*definitions)
    if isinstance(found, str):
        if found != unavailable():
            _warn(found)
        raise RuntimeError(found)
    return found


@cache
def _load(*definitions: str) -> ctypes.CDLL | str:
    """Return the library, or the reason why there is none; a compiler that failed is not run again."""
    reason = unavailable()
    command = None if reason is not None else _compiler()
    if command is None:
        return str(reason)
    sources = sorted(_SOURCES.glob("*.[ch]"))
    options = [*_FLAGS, *(f"-D{definition}" for definition in definitions)]
    files = [str(path) for path in sources if path.suffix == ".c"]
    try:
        inputs = [*command, *options, _processor(), *(path.read_text() for path in sources)]
        key = hashlib.sha256("\0".join(inputs).encode()).hexdigest()[:16]
        name = f"{'-'.join(['titans', *map(str.lower, definitions)])}-{key}.so"
        path = _folder() / name
        if not _is_intact(path):
            _compile(command, options, files, path)
        with contextlib.suppress(OSError):
            return ctypes.CDLL(str(path))
        # a file system whose files may not be run (noexec)
        return ctypes.CDLL(str(shutil.copy(path, _temporary_folder() / name)))
    except (OSError, RuntimeError) as error:
        return str(error)


@cache
def _warn(reason: str) -> None:
    warnings.warn(f"titans_ts computes without its compiled kernels: {reason}", stacklevel=3)


@cache
def unavailable() -> str | None:
    """Return why nothing can be compiled here, or None."""
    if os.name != "posix":
        return f"C sources are not compiled on {platform.system()}"
    try:
        compiler = _compiler()
    except ValueError as error:
        reason = f"CC is {os.environ['CC']!r}, which is no command ({error})"
        _warn(reason)
        return reason
    if compiler is None:
        return "no C compiler was found (install gcc or clang, or name one in CC)"
    return None


@cache
def _compiler() -> list[str] | None:
    """Return the compiler command; CC may contain several words."""
    named = shlex.split(os.environ.get("CC", ""))
    for words in [named] if named else [["cc"], ["gcc"], ["clang"]]:
        if shutil.which(words[0]):
            return words
    return None


@cache
def _processor() -> str:
    """Describe the processor, for the cache key: several machines may share a home folder."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine() + platform.processor()
    return platform.machine() + next((x for x in lines if x.startswith(("flags", "Features"))), "")


@cache
def _folder() -> Path:
    """Return the folder of libraries: the user's cache, or a temporary folder if that cannot be used."""
    with warnings.catch_warnings():  # its progress bar warns in a notebook that has no widgets
        warnings.simplefilter("ignore")
        import pooch

    folder = Path(pooch.os_cache("titans-ts")) / "compiled"
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        if folder.stat().st_uid == os.geteuid():
            folder.chmod(0o700)
        if os.access(folder, os.W_OK) and _is_own(folder) and _is_out_of_reach(folder):
            return folder
    return _temporary_folder()


@cache
def _temporary_folder() -> Path:
    """Return a new folder that nobody else may read or write; it is removed when the process ends."""
    folder = Path(tempfile.mkdtemp(prefix="titans-ts-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _is_own(path: Path) -> bool:
    """Return whether a file or folder belongs to this user, and nobody else may write it."""
    found = path.lstat()
    return found.st_uid == os.geteuid() and not found.st_mode & 0o022


def _is_out_of_reach(folder: Path) -> bool:
    """Return whether no other user may exchange a folder for another one."""
    for parent in folder.resolve().parents:
        found = parent.stat()
        if found.st_uid not in (0, os.geteuid()):
            return False
        if found.st_mode & 0o002 and not found.st_mode & stat.S_ISVTX:
            return False
    return True


def _is_intact(path: Path) -> bool:
    """Return whether a library is the user's own and is complete, by the hash in the file beside it."""
    beside = path.with_suffix(".sha256")
    try:
        own = _is_own(path) and _is_own(beside)
        return own and _digest(path) == beside.read_text()
    except (OSError, ValueError):
        return False


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _compile(command: list[str], options: list[str], sources: list[str], path: Path) -> None:
    """Compile for exactly this processor, or for its architecture if the compiler cannot."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        made = Path(folder) / path.name
        for extra in ([_TUNED], []):
            words = [*command, *extra, *options, *sources, "-o", str(made), "-lm"]
            result = subprocess.run(words, capture_output=True, text=True, check=False)
            if result.returncode == 0:
                beside = made.with_suffix(".sha256")
                beside.write_text(_digest(made))
                for file in (made, beside):
                    file.chmod(0o700)
                    _write_through(file)
                    # atomic, because another process may be faster
                    os.replace(file, path.with_suffix(file.suffix))
                return
    raise RuntimeError(f"{' '.join(words)} failed: {result.stderr.strip()[-500:]}")


def _write_through(path: Path) -> None:
    """Wait until a file is on the disk, so that a loss of power leaves no half of it."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
