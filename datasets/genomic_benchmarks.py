"""GenomicBenchmarks: nine classification tasks, built from their interval lists and your genome."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from titans_ts.datasets._messages import unknown_name
from titans_ts.datasets.genome import Genome
from titans_ts.datasets.regions import FastaRegions

__all__ = ["GENOMIC_BENCHMARKS", "GenomicBenchmark", "build_genomic_benchmark"]

_SPLITS = ("train", "test")
_PLACE = ["region", "start", "end", "strand"]
_TRANSCRIPTS = "GRCh38 cDNA"


@dataclass(frozen=True)
class GenomicBenchmark:
    """One task. `assemblies`, `releases`, `train` and `test` have one entry per class.

    Attributes
    ----------
    name
        The name that `build_genomic_benchmark` accepts.
    classes
        The labels in alphabetical order, which is the order of the codes 0, 1, ... used elsewhere.
    assemblies
        The assembly that the intervals of each class refer to.
    releases
        The Ensembl release of the sequences of each class.
    train, test
        Published number of sequences of each class.
    note
        Remarks to read before use.
    """

    name: str
    classes: tuple[str, ...]
    assemblies: tuple[str, ...]
    releases: tuple[int, ...]
    train: tuple[int, ...]
    test: tuple[int, ...]
    note: str

    @property
    def count(self) -> int:
        """Published number of sequences in total."""
        return sum(self.train) + sum(self.test)

    @property
    def references(self) -> dict[str, str]:
        """Description of the FASTA file that each class needs."""
        both = zip(self.assemblies, self.releases, strict=True)
        return dict(zip(self.classes, (f"{a}, Ensembl {r}" for a, r in both), strict=True))


def _two(
    name: str, assembly: str, release: int, train: tuple[int, int], test: tuple[int, int], note: str
) -> GenomicBenchmark:
    """Return a task of negatives and positives in one genome."""
    return GenomicBenchmark(
        name, ("negative", "positive"), (assembly,) * 2, (release,) * 2, train, test, note
    )


# The counts are from Gresova et al. 2023 and from the lists. Overlaps and baselines in the notes were
# measured on the official intervals; the near-duplicates are reported by
# rikhinkavuru/homology-leakage-genomic-benchmarks.
_ALL = (
    GenomicBenchmark(
        "demo_coding_vs_intergenomic_seqs",
        ("coding_seqs", "intergenomic_seqs"),
        (_TRANSCRIPTS, "GRCh38"),
        (97, 97),
        (37500, 37500),
        (12500, 12500),
        "Coding sequences are regions of transcripts, which later releases of Ensembl change or retire; "
        "a transcript's version (the .7 of ENST00000371014.7) is ignored. Transcripts lie on the sense "
        "strand, the other class always on strand +.",
    ),
    GenomicBenchmark(
        "demo_human_or_worm",
        ("human", "worm"),
        ("GRCh38", "WBcel235"),
        (97, 104),
        (37500, 37500),
        (12500, 12500),
        "Two genomes: the human list names contigs 'chr1', the worm list 'I'. 7.5 % of the test regions "
        "overlap a training region.",
    ),
    _two(
        "drosophila_enhancers_stark",
        "BDGP6.28",
        100,
        (2592, 2592),
        (865, 865),
        "236 to 3237 nucleotides, equally in both classes; all on strand +. 27 % of the test regions "
        "overlap a training region.",
    ),
    _two(
        "dummy_mouse_enhancers_ensembl",
        "GRCm38",
        100,
        (484, 484),
        (121, 121),
        "A small task for first experiments: with 242 test sequences, the standard error of an accuracy "
        "is about 3 points. 331 to 4776 nucleotides, equally in both classes.",
    ),
    _two(
        "human_enhancers_cohn",
        "GRCh38",
        97,
        (10422, 10421),
        (3474, 3474),
        "All have 500 nucleotides. The chromosome alone predicts 60 % of the test part.",
    ),
    _two(
        "human_enhancers_ensembl",
        "GRCh38",
        100,
        (61936, 61936),
        (15485, 15485),
        "Leaks: 38 % of the test sequences have a near-duplicate in the training part (70 % of their "
        "k-mers), so high scores partly measure memorisation.",
    ),
    GenomicBenchmark(
        "human_ensembl_regulatory",
        ("enhancer", "ocr", "promoter"),
        ("GRCh38",) * 3,
        (100,) * 3,
        (85512, 69902, 75934),
        (21378, 17476, 18859),
        "Length alone predicts 91.5 % of the test part: report this baseline beside every score.",
    ),
    _two(
        "human_nontata_promoters",
        "GRCh38",
        97,
        (12355, 14742),
        (4119, 4915),
        "Leaks: 49 % of the test regions overlap a training region, and 41 % of the test sequences have "
        "a near-duplicate there (70 % of their k-mers), so high scores partly measure memorisation. The "
        "chromosome alone predicts 70 % of the test part.",
    ),
    _two(
        "human_ocr_ensembl",
        "GRCh38",
        100,
        (69902, 69902),
        (17476, 17476),
        "About 100 to 600 nucleotides, nearly equally in both classes (medians 312 and 324 in a sample "
        "of 1000).",
    ),
)

GENOMIC_BENCHMARKS: dict[str, GenomicBenchmark] = {task.name: task for task in _ALL}
"""The tasks by name."""


def build_genomic_benchmark(
    name: str,
    genome: str | Path | Genome | Mapping[str, str | Path | Genome],
    intervals: str | Path,
    *,
    rename: Mapping[str, str] | Callable[[str], str] | None = None,
    check: bool = True,
) -> pd.DataFrame:
    r"""Build a task of GenomicBenchmarks from its official intervals and a genome.

    Parameters
    ----------
    name : str
        One of `GENOMIC_BENCHMARKS`.
    genome : str, Path, Genome or mapping
        The FASTA file that the intervals refer to (see `GENOMIC_BENCHMARKS[name].references`). A task
        with several genomes needs a mapping from each class to its file; other tasks accept one.
        ``Genome(path, in_memory=True)`` is fastest.
    intervals : str or Path
        The task's folder in the repository of GenomicBenchmarks (``datasets/NAME``, with
        ``train/CLASS.csv.gz`` and ``test/CLASS.csv.gz``), or one parquet file of any tasks with the
        columns `dataset`, `split` and `label`, and those of the lists: `region`, `start`, `end`
        (0-based, half-open) and `strand`.
    rename : mapping or callable, optional
        Maps each `region` to the genome's contig name, as in `FastaRegions`; default: no change. For
        the human genome of Ensembl: ``lambda c: c.removeprefix("chr")``. Transcript versions need none.
    check : bool
        Whether to raise an error if the number of intervals is not the published one (default True).

    Returns
    -------
    DataFrame
        `sequence`, `label` (name of the class) and `split` ("train", "test"), ordered by part, by class,
        and as in the list. Letters are upper case, as in the published sequences. An interval on strand
        "-" gives the reverse complement.

    Raises
    ------
    FileNotFoundError
        If the lists do not exist.
    KeyError, ValueError
        If an interval cannot be read from the genome; see `FastaRegions`.
    ValueError
        If the name is unknown, a class has no genome, a list lacks columns, or the counts differ.

    References
    ----------
    Gresova et al., "Genomic benchmarks: a collection of datasets for genomic sequence classification",
    BMC Genomic Data 24:25, 2023.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "small.fa").write_text(">1\nAACCGGTTAC\n")
    >>> for split in ("train", "test"):
    ...     (folder / split).mkdir()
    ...     for label, place in (("negative", ["chr1", 0, 4, "+"]), ("positive", ["chr1", 6, 10, "-"])):
    ...         places = pd.DataFrame([place], columns=["region", "start", "end", "strand"])
    ...         places.to_csv(folder / split / f"{label}.csv.gz")
    >>> build_genomic_benchmark(
    ...     "human_enhancers_cohn", folder / "small.fa", folder, rename={"chr1": "1"}, check=False
    ... )
      sequence     label  split
    0     AACC  negative  train
    1     GTAA  positive  train
    2     AACC  negative   test
    3     GTAA  positive   test
    """
    if name not in GENOMIC_BENCHMARKS:
        raise ValueError(unknown_name("name", name, GENOMIC_BENCHMARKS))
    task = GENOMIC_BENCHMARKS[name]
    lists = _lists(task, Path(intervals))
    if not any(len(places) for places in lists.values()):
        raise ValueError(
            f"intervals {str(intervals)!r} have none of {name}; give its folder, datasets/{name}, or a "
            "parquet file with this task"
        )
    if check:
        _check_counts(task, lists, Path(intervals))
    genomes = _genomes(task, genome)
    parts = []
    for (split, label), places in lists.items():
        places = places[_PLACE].rename(columns={"region": "chrom"})
        if task.references[label].startswith(_TRANSCRIPTS):
            places["chrom"] = _with_version(places["chrom"], genomes[label])
        if len(places):
            regions = FastaRegions(genomes[label], places, rename=rename)
            sequences = [sequence.upper() for sequence in regions]
            parts.append(pd.DataFrame({"sequence": sequences, "label": label, "split": split}))
    return pd.concat(parts, ignore_index=True)


def _lists(task: GenomicBenchmark, path: Path) -> dict[tuple[str, str], pd.DataFrame]:
    """Return the intervals of each part and class, in order."""
    keys = [(split, label) for split in _SPLITS for label in task.classes]
    if path.is_dir():
        return {(split, label): _csv(path / split / f"{label}.csv.gz") for split, label in keys}
    if not path.is_file():
        raise FileNotFoundError(
            f"intervals {str(path)!r} is neither a folder nor a file; give the folder "
            f"datasets/{task.name} of the repository of GenomicBenchmarks"
        )
    if path.suffix.lower() != ".parquet":
        raise ValueError(f"intervals is {path.name!r}; give a folder of lists or a .parquet file")
    frame = pd.read_parquet(path)
    _check_columns(frame, ["dataset", "split", "label", *_PLACE], path)
    own = frame[frame["dataset"] == task.name]
    return {(s, c): own[(own["split"] == s) & (own["label"] == c)] for s, c in keys}


def _csv(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise FileNotFoundError(
            f"intervals lack the list {str(path)!r}; give the folder of one task, with "
            "train/CLASS.csv.gz and test/CLASS.csv.gz"
        )
    frame = pd.read_csv(path, dtype={"region": str})  # "X" of the worm, "1" of the human
    _check_columns(frame, _PLACE, path)
    return frame


def _check_columns(frame: pd.DataFrame, required: list[str], path: Path) -> None:
    missing = [column for column in required if column not in frame]
    if missing:
        raise ValueError(f"{path} lacks the columns {missing}; it has {list(frame.columns)}")


def _check_counts(
    task: GenomicBenchmark, lists: Mapping[tuple[str, str], pd.DataFrame], path: Path
) -> None:
    published = dict(zip(lists, task.train + task.test, strict=True))
    differ = [key for key in lists if len(lists[key]) != published[key]]
    if differ:
        split, label = differ[0]
        more = f" ({len(differ) - 1} more lists differ)" if len(differ) > 1 else ""
        raise ValueError(
            f"{path.name} has {len(lists[split, label])} intervals of {task.name}, {split}, {label!r}, "
            f"but {published[split, label]} were published{more}; get the official lists, or use these "
            "with check=False and call the result unofficial"
        )


def _genomes(
    task: GenomicBenchmark, genome: str | Path | Genome | Mapping[str, str | Path | Genome]
) -> dict[str, Genome]:
    """Return the genome of each class."""
    if not isinstance(genome, Mapping):
        if len(set(task.references.values())) > 1:
            raise ValueError(
                f"genome is one file, but {task.name} needs one for each class: {task.references}"
            )
        genome = dict.fromkeys(
            task.classes, genome if isinstance(genome, Genome) else Genome(genome)
        )
    if set(genome) != set(task.classes):
        raise ValueError(
            f"genome has the classes {sorted(genome)}; {task.name} needs {task.references}"
        )
    return {label: g if isinstance(g, Genome) else Genome(g) for label, g in genome.items()}


def _with_version(names: pd.Series, genome: Genome) -> pd.Series:
    """Add the version to transcript names, which the lists leave out and the file has."""
    known = {name.partition(".")[0]: name for name in genome.lengths}
    return names.astype(str).map(lambda name: known.get(name, name))
