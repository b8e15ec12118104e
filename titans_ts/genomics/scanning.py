"""Reading a genome from end to end: stretches as codes, windows, parts kept aside, tracks as files."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from titans_ts.datasets.genome import Genome
from titans_ts.datasets.tracks import write_track
from titans_ts.nn.dna.nucleotides import ABSENT, SHARES, encode_nucleotides

__all__ = [
    "KNOWN",
    "ContigCodes",
    "KeptParts",
    "check_out",
    "encode_stretch",
    "model_digest",
    "place_frame",
    "some_contigs",
    "window_starts",
    "write_scores",
]

KNOWN = np.tile(SHARES.max(1) > 0.25, 2)
"""Of every code, whether it says anything of the letter: N and "-" do not."""

_STRANDS = (("+", "plus"), ("-", "minus"))


def encode_stretch(letters: str, lower_case: str, where: str) -> NDArray[np.uint8]:
    """Codes `[T]` as :func:`titans_ts.nn.dna.nucleotides.encode_nucleotides`; none need be there.

    Raises
    ------
    ValueError
        If there is a letter outside IUPAC; it says `where` in a genome.

    Examples
    --------
    >>> encode_stretch("--", "same", "chr1:4-6")
    array([5, 5], dtype=uint8)
    """
    try:
        return encode_nucleotides(letters + "A", lower_case)[:-1]
    except ValueError as error:
        raise ValueError(
            f"{where}: {error}; Genome(path, pad_invalid=True) takes other letters as absent"
        ) from None


class ContigCodes:
    """The codes of a contig, read from the file when a stretch of them is asked for.

    Parameters
    ----------
    genome : Genome
        Where the contig is.
    chrom : str
        Its name.
    lower_case : {"same", "marked", "absent"}
        What lower-case letters are.
    known : bool
        Whether unknown letters (N) are places that are not there.

    Raises
    ------
    ValueError
        When a stretch has a letter outside IUPAC; it names the stretch.
    """

    def __init__(self, genome: Genome, chrom: str, lower_case: str, *, known: bool = False) -> None:
        self._genome, self._chrom, self._lower_case = genome, chrom, lower_case
        self._known = known

    def __len__(self) -> int:
        return self._genome.lengths[self._chrom]

    def __getitem__(self, stretch: slice) -> NDArray[np.uint8]:
        start, end, _ = stretch.indices(len(self))
        letters = self._genome.fetch(self._chrom, start, end)
        codes = encode_stretch(letters, self._lower_case, f"{self._chrom}:{start}-{end}")
        return np.where(KNOWN[codes], codes, np.uint8(ABSENT)) if self._known else codes


def some_contigs(
    genome: str | Path | Genome, contigs: Sequence[str] | None
) -> tuple[Genome, list[str]]:
    """The genome, and names of contigs that have letters."""
    genome = genome if isinstance(genome, Genome) else Genome(genome)
    names = [contigs] if isinstance(contigs, str) else contigs
    names = list(genome.lengths if names is None else names)
    for name in names:
        if name not in genome.lengths:
            raise KeyError(genome.no_contig(name))
    names = [name for name in dict.fromkeys(names) if genome.lengths[name]]
    if not names:
        raise ValueError(f"contigs is {contigs!r}, which has no letter; give contigs that have")
    return genome, names


def window_starts(length: int, window: int, stride: int) -> NDArray[np.int64]:
    """Where the windows of a contig begin; one more ends at its end if a rest is left.

    Parameters
    ----------
    length, window, stride : int
        Letters of the contig, of a window, and between the starts of two. A contig that is shorter
        than a window is a single one.

    Examples
    --------
    >>> window_starts(10, 4, 3), window_starts(10, 4, 4), window_starts(3, 4, 4)
    (array([0, 3, 6]), array([0, 4, 6]), array([0]))
    """
    last = max(0, length - window)
    starts = np.arange(0, last + 1, stride)
    return starts if starts[-1] == last else np.append(starts, last)


def place_frame(
    starts: Mapping[str, NDArray[np.int64]],
    size: int,
    lengths: Mapping[str, int],
    strands: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Places of one size, cut at their contig's end.

    Parameters
    ----------
    starts : mapping
        Of each contig, where places begin.
    size : int
        Letters of a place.
    lengths : mapping
        Letters of each contig.
    strands : sequence of str, optional
        A row of every place for each of them.

    Returns
    -------
    DataFrame
        `chrom`, `start` and `end`, and `strand` if there are some.

    Examples
    --------
    >>> place_frame({"I": np.array([0, 4])}, 4, {"I": 6}, ["+", "-"])
      chrom  start  end strand
    0     I      0    4      +
    1     I      0    4      -
    2     I      4    6      +
    3     I      4    6      -
    """
    rows = 1 if strands is None else len(strands)
    n = [len(s) * rows for s in starts.values()]
    begin = np.concatenate(list(starts.values())).repeat(rows)
    end = np.minimum(begin + size, np.repeat([lengths[c] for c in starts], n))
    chrom = np.repeat(np.array([*starts], object), n)
    frame = pd.DataFrame({"chrom": chrom, "start": begin, "end": end})
    if strands is not None:
        frame["strand"] = np.tile(np.array(strands, object), len(begin) // rows)
    return frame


class KeptParts:
    """Arrays of a long computation, kept in a folder so that it goes on after a stop.

    Parameters
    ----------
    folder : Path or None
        Where; the parts of another computation are removed from it. None keeps nothing.
    asked : dict
        What is computed, as json holds it.
    """

    def __init__(self, folder: Path | None, asked: Mapping[str, Any]) -> None:
        self._folder = folder
        if folder is None:
            return
        text, path = json.dumps(asked, sort_keys=True), folder / "asked.json"
        if not (path.is_file() and path.read_text(encoding="utf-8") == text):
            self.remove()
            folder.mkdir(parents=True, exist_ok=True)
            _write_aside(path, lambda aside: aside.write_text(text, encoding="utf-8"))

    def get(self, number: int) -> NDArray[Any] | None:
        """A part, if it is there."""
        path = None if self._folder is None else self._folder / f"part-{number}.npy"
        return np.load(path) if path is not None and path.is_file() else None

    def put(self, number: int, part: NDArray[Any]) -> None:
        """Keep a part; a kill in the midst of it leaves none."""
        if self._folder is not None:
            path = self._folder / f"part-{number}.npy"
            _write_aside(path, lambda aside: np.save(aside, part))

    def remove(self) -> None:
        """Remove all parts, and the folder if nothing else is in it."""
        if self._folder is None or not self._folder.is_dir():
            return
        # first what says whose the parts are: a kill in between leaves none that could be mistaken
        for pattern in ("asked.json", "part-*.npy", ".aside-*"):
            for path in self._folder.glob(pattern):
                path.unlink()
        if not any(self._folder.iterdir()):
            self._folder.rmdir()


def _write_aside(path: Path, write: Callable[[Path], object]) -> None:
    aside = path.with_name(f".aside-{os.getpid()}-{path.name}")
    write(aside)
    aside.replace(path)


def model_digest(model: nn.Module, others: Mapping[str, Tensor] | None = None) -> str:
    """A digest of a model's configuration and weights, and others: another model has another one."""
    digest = hashlib.sha256(repr(model.config).encode())
    for name, tensor in (model.state_dict() | dict(others or {})).items():
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        flat = tensor.detach().cpu().contiguous().flatten()
        digest.update(flat.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def check_out(out: str | Path, lengths: Mapping[str, int]) -> None:
    """Refuse what no track can be written to, before anything is computed.

    Raises
    ------
    ModuleNotFoundError
        If the format's package is not installed.
    ValueError
        If the name of `out` says no format.
    """
    chrom = max(lengths, key=lengths.__getitem__)
    place = {"chrom": [chrom], "start": [0], "end": [1], "score": [0.0]}
    with tempfile.TemporaryDirectory() as folder:
        probe = Path(folder) / Path(out).name
        try:
            write_track(pd.DataFrame(place), probe, lengths)
        except ValueError as error:
            message = str(error).replace(f"path {str(probe)!r}", f"out is {str(out)!r}, whose name")
            raise ValueError(message) from None


def write_scores(frame: pd.DataFrame, out: Path, lengths: Mapping[str, int]) -> None:
    """Write a track; both strands as bedGraph or bigWig are two, such as x.plus.bw and x.minus.bw."""
    if frame["score"].isna().all():
        warnings.warn(f"no letter is known, so nothing is written to {str(out)!r}", stacklevel=3)
        return
    both = "strand" in frame and frame["strand"].nunique() > 1
    if not both or out.name.lower().endswith((".bed", ".bed.gz")):
        write_track(frame, out, lengths)
        return
    kind = "".join(out.suffixes[-2:] if out.suffix.lower() == ".gz" else out.suffixes[-1:])
    for strand, name in _STRANDS:
        path = out.with_name(f"{out.name.removesuffix(kind)}.{name}{kind}")
        write_track(frame[frame["strand"] == strand], path, lengths)
