"""Compilation of the C sources of this package for this machine at first use, with a cache."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import hashlib
import os
import platform
import shlex
import shutil
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
    reason, command = unavailable(), _compiler()
    if reason is not None or command is None:
        return str(reason)
    sources = sorted(_SOURCES.glob("*.[ch]"))
    options = [*_FLAGS, *(f"-D{definition}" for definition in definitions)]
    files = [str(path) for path in sources if path.suffix == ".c"]
    try:
        inputs = [*command, *options, _processor(), *(path.read_text() for path in sources)]
        key = hashlib.sha256("\0".join(inputs).encode()).hexdigest()[:16]
        path = _folder() / f"{'-'.join(['titans', *map(str.lower, definitions)])}-{key}.so"
        if path.exists():
            with contextlib.suppress(OSError):  # a damaged file is compiled again
                return ctypes.CDLL(str(path))
        _compile(command, options, files, path)
        return ctypes.CDLL(str(path))
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
    if _compiler() is None:
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
    """Return the folder of libraries: the user's cache, or a temporary folder if that is read-only."""
    import pooch

    folder = Path(pooch.os_cache("titans-ts")) / "compiled"
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
    folder = Path(tempfile.mkdtemp(prefix="titans-ts-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _compile(command: list[str], options: list[str], sources: list[str], path: Path) -> None:
    """Compile for exactly this processor, or for its architecture if the compiler cannot."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        made = Path(folder) / path.name
        for extra in ([_TUNED], []):
            words = [*command, *extra, *options, *sources, "-o", str(made), "-lm"]
            result = subprocess.run(words, capture_output=True, text=True, check=False)
            if result.returncode == 0:
                os.replace(made, path)  # atomic, because another process may be faster
                return
    raise RuntimeError(f"{' '.join(words)} failed: {result.stderr.strip()[-500:]}")
