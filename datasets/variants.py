"""Variants of a VCF file, one row for each alternative allele."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from titans_ts.datasets._files import open_text
from titans_ts.datasets._places import check_variants
from titans_ts.datasets.alphabet import IUPAC
from titans_ts.datasets.genome import Genome

__all__ = ["normalise_variants", "read_variants"]

_COLUMNS = ("chrom", "start", "ref", "alt", "id", "record")
_IUPAC = f"[{IUPAC}{IUPAC.lower()}]+"
_LETTERS = re.compile(_IUPAC)
_STRETCH = 64
"""Letters to the left of a variant that are read at once."""
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


def normalise_variants(
    genome: str | Path | Genome, variants: pd.DataFrame, *, leftwards: bool | ArrayLike = True
) -> pd.DataFrame:
    r"""Return variants without the letters that both alleles share, as far to the left as possible.

    One change of a genome can be written in many ways (a missing CA of CACACA is missing anywhere); all
    of them become the same row (Tan et al., 2015, "Unified representation of genetic variants",
    Bioinformatics 31, 2202). Unlike in a VCF file, an allele may be left without letters.

    Parameters
    ----------
    genome : str, Path or Genome
        A FASTA file.
    variants : DataFrame
        `chrom`, `start` (0-based), `ref` and `alt`; other columns are kept.
    leftwards : bool or array-like
        Whether to move all variants, or each one, to the left (default True). Those of one chromosome,
        which are applied together, must not pass one another: with False, only the letters that both
        share are left out.

    Returns
    -------
    DataFrame
        The same rows, with other `start`, `ref` and `alt`. A row whose `ref` is not what the genome has
        there, ignoring case, is not changed.

    Raises
    ------
    KeyError
        If a contig is not in the genome.
    ValueError
        If a column is missing, a start is not an integer, or an allele does not consist of letters.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "small.fa"
    >>> _ = path.write_text(">I\nGGCACACATT\n")
    >>> frame = pd.DataFrame({"chrom": "I", "start": [5, 3], "ref": ["ACA", "ACAC"], "alt": ["A", "AC"]})
    >>> normalise_variants(path, frame).to_numpy().tolist()
    [['I', 2, 'CA', ''], ['I', 2, 'CA', '']]
    """
    genome = genome if isinstance(genome, Genome) else Genome(genome)
    checked = check_variants(variants).itertuples(index=False, name=None)
    moved = np.broadcast_to(leftwards, len(variants))
    rows = [
        _normalised(genome, *row, leftwards=left)
        for row, left in zip(checked, moved.tolist(), strict=True)
    ]
    start, ref, alt = zip(*rows, strict=True) if rows else ((), (), ())
    found = variants.assign(start=np.array(start, np.int64))
    for name, letters in (("ref", ref), ("alt", alt)):
        found[name] = pd.Series(letters, variants.index, dtype=object)
    return found


def _normalised(
    genome: Genome, chrom: str, start: int, ref: str, alt: str, *, leftwards: bool
) -> tuple[int, str, str]:
    """Return `start`, `ref` and `alt` of the normal form of a variant."""
    if chrom not in genome.lengths:
        raise KeyError(genome.no_contig(chrom))
    if not 0 <= start <= genome.lengths[chrom] - len(ref):
        return start, ref, alt
    if ref and genome.fetch(chrom, start, start + len(ref)).upper() != ref.upper():
        return start, ref, alt
    before = ""  # letters of the genome that end where the alleles start
    while True:
        while ref and alt and ref[-1].upper() == alt[-1].upper():
            ref, alt = ref[:-1], alt[:-1]
        if (ref and alt) or ref == alt or start == 0 or not leftwards:
            break
        if not before:
            before = genome.fetch(chrom, max(0, start - _STRETCH), start)
        if (ref or alt)[-1].upper() != before[-1].upper():
            break  # another letter in front would be taken off again
        start, letter, before = start - 1, before[-1], before[:-1]
        ref, alt = letter + ref, letter + alt
    while ref and alt and ref[0].upper() == alt[0].upper():
        start, ref, alt = start + 1, ref[1:], alt[1:]
    return start, ref, alt


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
