"""Variants of a VCF file, one row for each alternative allele."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd

from titans_ts.datasets._files import open_text
from titans_ts.datasets.alphabet import IUPAC

__all__ = ["read_variants"]

_COLUMNS = ("chrom", "start", "ref", "alt", "id", "record")
_IUPAC = f"[{IUPAC}{IUPAC.lower()}]+"
_LETTERS = re.compile(_IUPAC)
# <DEL>, both kinds of breakends (G]17:198], .A, A.), an allele deleted by another record, no allele
_NO_LETTERS = re.compile(rf"<\S+>|\S*[\[\]]\S*|\.{_IUPAC}|{_IUPAC}\.|\*|\.")


def read_variants(path: str | Path) -> pd.DataFrame:
    r"""Read the alternative alleles of a VCF file, plain or gzipped.

    Parameters
    ----------
    path : str or Path
        The file. Only its first five columns are read (CHROM, POS, ID, REF, ALT, separated by tabs);
        the header may be missing.

    Returns
    -------
    DataFrame
        One row for each alternative allele: `chrom`, `start` (0-based), `ref`, `alt` and `id` as in the
        file, and `record`, the 0-based number of the record. Alleles without letters (symbolic ones such
        as <DEL>, breakends, "*" and ".") are left out; ``frame.attrs["left_out"]`` counts them.

    Raises
    ------
    ValueError
        If a line is malformed (the message names it), or no allele consists of letters.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "small.vcf"
    >>> _ = path.write_text("#CHROM\tPOS\tID\tREF\tALT\nI\t7\trs1\tA\tG,<DEL>\nI\t9\t.\tTC\tT,TCC\n")
    >>> frame = read_variants(path)
    >>> frame
      chrom  start ref  alt   id  record
    0     I      6   A    G  rs1       0
    1     I      8  TC    T    .       1
    2     I      8  TC  TCC    .       1
    >>> frame.attrs
    {'left_out': 1}
    """
    path = Path(path)
    rows: list[tuple[str, int, str, str, str, int]] = []
    record = left_out = 0
    with open_text(path) as file:
        for number, line in enumerate(file, 1):
            if line.startswith("#") or not line.strip():
                continue
            fields = line.rstrip("\r\n").split("\t")
            _check_line(fields, f"line {number} of {path.name}")
            chrom, position, name, ref, alts = fields[:5]
            letters = [alt for alt in alts.split(",") if _LETTERS.fullmatch(alt)]
            left_out += alts.count(",") + 1 - len(letters)
            rows += [(chrom, int(position) - 1, ref, alt, name, record) for alt in letters]
            record += 1
    if not rows:
        raise ValueError(
            f"{path.name} has no alternative allele of letters (records: {record}, alleles left out: "
            f"{left_out}); give a VCF file that has one"
        )
    frame = pd.DataFrame(rows, columns=list(_COLUMNS))
    frame = frame.astype({"start": np.int64, "record": np.int64})
    frame.attrs["left_out"] = left_out
    return frame


def _check_line(fields: list[str], where: str) -> None:
    if len(fields) < 5:
        raise ValueError(
            f"{where} has {len(fields)} columns separated by tabs; VCF has at least 5 "
            "(CHROM, POS, ID, REF, ALT): give one"
        )
    _, position, _, ref, alts = fields[:5]
    if not position.isdecimal() or len(position) > 18 or int(position) == 0:
        raise ValueError(f"{where} has POS {position!r}; VCF counts from 1, in whole numbers")
    if not _LETTERS.fullmatch(ref):
        raise ValueError(f"{where} has REF {ref!r}; it must be IUPAC letters, at least one")
    for alt in alts.split(","):
        if not (_LETTERS.fullmatch(alt) or _NO_LETTERS.fullmatch(alt)):
            raise ValueError(
                f"{where} has ALT {alts!r}; {alt!r} is neither IUPAC letters nor another VCF "
                "allele (<...>, a breakend, '*', '.'); separate alleles by single commas"
            )
