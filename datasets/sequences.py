"""Labelled sequences from files: tables (CSV, TSV, Parquet), FASTA, and genome regions (BED, GFF)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from titans_ts.datasets._files import file_kind, open_text
from titans_ts.datasets._messages import unknown_name
from titans_ts.datasets.alphabet import NOT_IUPAC
from titans_ts.datasets.genome import Genome
from titans_ts.datasets.regions import FastaRegions

__all__ = ["read_sequences"]

_INVALID = ("error", "pad", "drop")
_TABLES = (".csv", ".tsv", ".txt", ".parquet")
_PLACES = (".bed", ".narrowpeak", ".broadpeak", ".gff", ".gff3", ".gtf")


def read_sequences(
    path: str | Path,
    *,
    sequence_column: str = "sequence",
    label_column: str = "label",
    labels: str | Path | None = None,
    invalid: str = "error",
    genome: str | Path | Genome | None = None,
    outside: str = "error",
    rename: Mapping[str, str] | Callable[[str], str] | None = None,
) -> pd.DataFrame:
    r"""Read sequences, and their labels if the file has labels.

    Parameters
    ----------
    path : str or Path
        A table (.csv, .tsv, .parquet, also .gz) with a sequence in each row; or FASTA, plain or gzipped,
        with a sequence in each record; or BED or GFF (.bed, .narrowPeak, .broadPeak, .gff, .gff3, .gtf,
        also .gz), whose regions of `genome` are the sequences. "NA" is text, not a missing value.
    sequence_column, label_column : str
        Columns of a table (default "sequence" and "label"). For regions, `label_column` is a column of
        :func:`titans_ts.datasets.read_regions` (`name`, `score`, `feature`, ...).
    labels : str or Path, optional
        Only for FASTA: a table with the columns `id` (first word of a record's header), `label_column`
        and any others. Default: no labels.
    invalid : {"error", "pad", "drop"}
        What to do with letters outside IUPAC: raise an error (default); replace them by "-" (no letter);
        leave the sequence out.
    genome : str, Path or Genome, optional
        Only for BED and GFF: the FASTA file of the regions. The sequence of a region on strand "-" is
        the reverse complement.
    outside : {"error", "pad", "drop"}
        Only for BED and GFF: what to do with regions that reach beyond their contig, as for
        :class:`titans_ts.datasets.FastaRegions` (default "error").
    rename : mapping or callable, optional
        Only for BED and GFF: maps each contig name to the genome's name (default: no change).

    Returns
    -------
    DataFrame
        `sequence`, `label` if there is one, and the other columns unchanged (for FASTA `id`; for regions
        `chrom`, `start`, `end`, `strand` and the rest). The index holds the row numbers of the file, so
        it shows which rows were left out.

    Raises
    ------
    FileNotFoundError, ValueError
        If the file has another format, lacks a column, or has no sequence or an invalid one; or if it
        has regions and `genome` is None.
    KeyError
        If the contig of a region is not in the genome.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "small.csv"
    >>> _ = path.write_text("sequence,label\nACGT,yes\nTT*T,no\n")
    >>> read_sequences(path, invalid="pad")
      sequence label
    0     ACGT   yes
    1     TT-T    no
    """
    path = Path(path)
    if invalid not in _INVALID:
        raise ValueError(f"invalid is {invalid!r}; choose one of {list(_INVALID)}")
    if not path.is_file():
        raise FileNotFoundError(f"path {str(path)!r} is not a file; give a table or a FASTA file")
    places, table = file_kind(path) in _PLACES, file_kind(path) in _TABLES
    if labels is not None and (places or table):
        raise ValueError(
            f"labels are for FASTA; for {path.name}, give the column of the labels as label_column"
        )
    if places:
        if genome is None:
            raise ValueError(
                f"{path.name} holds regions; give genome, the FASTA file of their letters"
            )
        regions = FastaRegions(genome, path, outside=outside, rename=rename)
        frame = regions.frame.assign(sequence=list(regions))
    elif table:
        frame = _read_table(path)
        if sequence_column not in frame:
            columns = list(frame.columns)
            raise ValueError(unknown_name("sequence_column", sequence_column, columns))
        frame = _named(frame, sequence_column, "sequence")
    else:
        frame = pd.DataFrame(_read_fasta(path), columns=["id", "sequence"])
        if labels is not None:
            frame = _join(frame, _read_table(Path(labels), id=str), label_column, Path(labels).name)
    if label_column in frame:
        frame = _named(frame, label_column, "label")
    if frame.empty:
        raise ValueError(f"{path.name} has no sequence; give at least one")
    return _usable(frame, path.name, invalid)


def _named(frame: pd.DataFrame, column: str, name: str) -> pd.DataFrame:
    """Rename a column; an existing column of the new name is dropped."""
    if column == name:
        return frame
    return frame.drop(columns=name, errors="ignore").rename(columns={column: name})


def _read_table(path: Path, **types: type) -> pd.DataFrame:
    if file_kind(path) == ".parquet":
        return pd.read_parquet(path)
    try:
        return _read_text(path, types)
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise ValueError(
            f"{path.name} cannot be read as a table ({str(error).strip()}); save it as CSV or TSV, "
            "with one header and a row for each sequence"
        ) from error


def _read_text(path: Path, types: dict[str, type]) -> pd.DataFrame:
    with open_text(path) as file:
        return pd.read_csv(
            file,
            sep="," if file_kind(path) == ".csv" else "\t",
            keep_default_na=False,
            na_values=[""],
            dtype=types,
            low_memory=False,  # one type for a whole column, not one per block
            float_precision="round_trip",  # pandas' default drops digits of small numbers
        )


def _read_fasta(path: Path) -> Iterator[tuple[str, str]]:
    name: str | None = None
    parts: list[str] = []
    with open_text(path) as file:
        for line in file:
            if line.startswith(">"):
                if name is not None:
                    yield name, "".join(parts)
                name, parts = (line[1:].split() or [""])[0], []
            elif name is not None:
                parts.append(line.strip())
            elif line.strip() and not line.startswith(";"):
                raise ValueError(
                    f"{path.name} begins with {line.strip()[:20]!r}; give FASTA (lines with '>' and a "
                    f"name before each sequence) or a table whose name ends in {', '.join(_TABLES)}"
                )
    if name is not None:
        yield name, "".join(parts)


def _join(frame: pd.DataFrame, table: pd.DataFrame, label: str, name: str) -> pd.DataFrame:
    for column in ("id", label):
        if column not in table:
            more = f"The columns are those of {name}."
            raise ValueError(unknown_name("column", column, list(table.columns), more))
    table = table.assign(id=table["id"].astype(str)).set_index("id")
    if label != "sequence":
        table = table.drop(
            columns="sequence", errors="ignore"
        )  # the FASTA records have the sequences
    twice = table.index[table.index.duplicated()]
    if len(twice):
        raise ValueError(f"{name} has {twice[0]!r} more than once; give one label each")
    missing = frame.loc[~frame["id"].isin(table.index), "id"]
    if len(missing):
        raise ValueError(
            f"{name} has no label for {missing.iloc[0]!r} (and {len(missing) - 1} more)"
        )
    return frame.join(table, on="id")


def _usable(frame: pd.DataFrame, name: str, invalid: str) -> pd.DataFrame:
    missing = frame["sequence"].isna()
    frame["sequence"] = np.where(missing, "", frame["sequence"].astype(object))
    frame["sequence"] = frame["sequence"].astype(str)
    empty = frame["sequence"] == ""
    if empty.all():
        raise ValueError(f"{name} has no sequence; give at least one")
    if empty.any() and invalid != "drop":
        raise ValueError(
            f"{name} has an empty sequence in row {int(empty.argmax())}; give invalid='drop'"
        )
    wrong = empty | frame["sequence"].str.contains(NOT_IUPAC)
    if not wrong.any():
        return frame
    if invalid == "drop":
        if wrong.all():
            raise ValueError(f"{name} has no sequence with only IUPAC letters; give invalid='pad'")
        return frame[~wrong]
    if invalid == "pad":
        frame["sequence"] = frame["sequence"].str.replace(NOT_IUPAC, "-", regex=True)
        return frame
    row = int(wrong.argmax())
    match = NOT_IUPAC.search(frame["sequence"].iloc[row])
    assert match is not None
    raise ValueError(
        f"{name} has {match.group()!r} at position {match.start()} of row {row} (and letters outside "
        f"IUPAC in {int(wrong.sum()) - 1} more); give invalid='pad' or 'drop'"
    )
