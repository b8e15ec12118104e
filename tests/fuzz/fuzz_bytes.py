"""Coverage-guided fuzzing of what reads bytes: FASTA, BED, VCF, CSV, model folders, states, journals.

    python -m tests.fuzz.fuzz_bytes                       # a minute of each
    python -m tests.fuzz.fuzz_bytes --seconds 600 fasta   # ten minutes of one

`make fuzz-bytes` runs it. A target takes any bytes as a file of its kind. The property is that of the
other tests here: a result, or an error of this package that helps (:mod:`tests.fuzz.properties`). atheris
guides the bytes to new branches of the package. Where it is not installed, they are random changes of the
seeds. Every kind of fault is printed once, with its bytes, and the status is 1 then.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from tests.fuzz.properties import REFUSED, outcome

__all__ = ["TARGETS", "Target"]

ROOT = Path(__file__).parents[2]
SAVED = ROOT / "tests" / "saved_models"


class Target(NamedTuple):
    """What reads bytes, and examples of them."""

    read: Callable[[bytes, Path], Any]
    """Read bytes, with an empty folder for them; AssertionError is a fault."""
    seeds: tuple[bytes, ...]


def fasta(content: bytes, folder: Path) -> None:
    from titans_ts.datasets import Genome

    path = folder / "g.fa"
    path.write_bytes(content)
    genome = outcome(lambda: Genome(path))
    if genome is REFUSED:
        return
    for name, length in list(genome.lengths.items())[:5]:
        if length:
            letters = outcome(lambda name=name, n=length: genome.fetch(name, 0, n))
            assert letters is not REFUSED, f"a letter of {name!r} is refused, its length is not"
            assert len(letters) == length, f"{len(letters)} letters of {length}"


def regions(content: bytes, folder: Path) -> None:
    from titans_ts.datasets import read_regions

    path = folder / "r.bed"
    path.write_bytes(content)
    frame = outcome(lambda: read_regions(path))
    if frame is not REFUSED:
        # an empty one is refused where its letters are read
        assert (frame[["start", "end"]] >= 0).all(axis=None), "a region lies before its contig"


def variants(content: bytes, folder: Path) -> None:
    from titans_ts.datasets import read_variants

    path = folder / "v.vcf"
    path.write_bytes(content)
    frame = outcome(lambda: read_variants(path))
    if frame is not REFUSED:
        assert (frame["start"] >= 0).all(), "a variant lies before its contig"


def table(content: bytes, folder: Path) -> None:
    from titans_ts.pipelines.ingest import read_frame

    path = folder / "t.csv"
    path.write_bytes(content)
    outcome(lambda: read_frame(path))


def sequences(content: bytes, folder: Path) -> None:
    from titans_ts.datasets import read_sequences

    path = folder / "s.csv"
    path.write_bytes(content)
    outcome(lambda: read_sequences(path))


def signed(config: dict[str, Any], payload: bytes, folder: Path) -> None:
    """Load a model folder whose hash is right, as of a forger."""
    from titans_ts.nn import TitansBackbone, load_model
    from titans_ts.nn.checkpoint import content_digest

    version = config.pop("format", 3)
    config.pop("sha256", None)
    header = {"format": version, "sha256": content_digest(config, payload)}
    (folder / "config.json").write_text(json.dumps(header | config))
    (folder / "model.safetensors").write_bytes(payload)
    outcome(lambda: load_model(folder, TitansBackbone))


def configuration(content: bytes, folder: Path) -> None:
    payload = (SAVED / "backbone" / "model.safetensors").read_bytes()
    try:
        config = json.loads(content)
        json.dumps(config, sort_keys=True).encode()
    except (ValueError, RecursionError, TypeError):
        config = None
    if isinstance(config, dict):
        signed(config, payload, folder)
        return
    from titans_ts.nn import TitansBackbone, load_model

    (folder / "config.json").write_bytes(content)
    (folder / "model.safetensors").write_bytes(payload)
    assert outcome(lambda: load_model(folder, TitansBackbone)) is REFUSED, "a damaged model is read"


def tensors(content: bytes, folder: Path) -> None:
    signed(json.loads((SAVED / "backbone" / "config.json").read_text()), content, folder)


def journal(content: bytes, folder: Path) -> None:
    import optuna

    from titans_ts.tuning.storage import open_storage

    path = folder / "journal"
    path.write_bytes(content)
    storage = outcome(lambda: open_storage(path))
    if storage is not REFUSED:
        optuna.get_all_study_names(storage)


TARGETS = {
    "fasta": Target(
        fasta, (b">a\nACGT\nAC\n>b x\nNNNN\n", b">a\r\nACGTACGT\r\nACG\r\n", b";c\n>a\nA")
    ),
    "bed": Target(regions, (b"chr1\t0\t5\tn\t0\t+\nchr2\t3\t9\n", b"track name=x\n#c\nc\t1\t2\n")),
    "vcf": Target(
        variants,
        (
            b"##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\n1\t7\trs\tA\tG,<DEL>\n1\t9\t.\tTC\tT\n",
        ),
    ),
    "csv": Target(
        table,
        (
            b"time,a,b\n2024-01-01,1,2.5\n2024-01-02,,3\n2024-01-03,4,5\n",
            b"a;b\n1,5;2\n2,5;3\n",
            "é,b\n1,x\n".encode("utf-16"),
        ),
    ),
    "sequences": Target(
        sequences, (b"sequence,label\nACGT,yes\nTTTT,no\n", b">a\nACGT\n>b\nTTTT\n")
    ),
    "config": Target(configuration, ((SAVED / "backbone" / "config.json").read_bytes(), b"{}")),
    "tensors": Target(tensors, ((SAVED / "backbone" / "model.safetensors").read_bytes()[:4000],)),
    "journal": Target(
        journal,
        (
            b'{"op_code":0,"worker_id":"w","study_name":"s","directions":[1]}\n'
            b'{"op_code":4,"worker_id":"w","study_id":0,"datetime_start":"2024-01-01T00:00:00"}\n'
            b'{"op_code":6,"worker_id":"w","trial_id":0,"state":1,"values":[1.0]}\n',
        ),
    ),
}


class Faults:
    """Run a target on bytes, and print every kind of fault once."""

    def __init__(self, name: str) -> None:
        self.name, self.target, self.seen = name, TARGETS[name], set[str]()
        self.n_runs = 0

    def __call__(self, content: bytes) -> None:
        self.n_runs += 1
        place = "/dev/shm" if os.path.isdir("/dev/shm") else None
        with tempfile.TemporaryDirectory(dir=place) as folder:
            try:
                self.target.read(content, Path(folder))
            except Exception as error:
                text = str(error).replace(folder, "FOLDER")
                kind = "".join(c for c in text[-60:] if not c.isdigit())  # the place in the code
                if kind not in self.seen:
                    self.seen.add(kind)
                    fault = f"{type(error).__name__}: {text[:400]}"
                    print(f"fault of {self.name}: {fault}\n  bytes: {content[:300]!r}", flush=True)


def guided(name: str, seconds: int, seed: int) -> None:
    """Run a target with atheris, which ends the process."""
    import atheris

    with atheris.instrument_imports(include=["titans_ts"]):
        for content in TARGETS[name].seeds:  # what is imported on the way is instrumented
            Faults(name)(content)
    faults = Faults(name)
    with tempfile.TemporaryDirectory() as folder:
        for number, content in enumerate(TARGETS[name].seeds):
            (Path(folder) / f"seed-{number}").write_bytes(content)
        options = ["-timeout=0", "-rss_limit_mb=0", "-max_len=8192", "-print_final_stats=1"]
        limits = [f"-max_total_time={seconds}", f"-seed={seed}"]
        atheris.Setup([sys.argv[0], *options, *limits, folder], faults)
        atheris.Fuzz()


def changed(content: bytes, rng: random.Random) -> bytes:
    """Return bytes with a few random changes."""
    data = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 4, 8])):
        at = rng.randrange(len(data) + 1)
        kind = rng.randrange(4)
        if kind == 0:
            data[at:at] = bytes(
                rng.choices(b"\t\n\r ,;\"'>#0199.-eNA\x00\xff\xfe", k=rng.choice([1, 3]))
            )
        elif kind == 1:
            del data[at : at + rng.choice([1, 2, 20])]
        elif kind == 2 and data:
            data[min(at, len(data) - 1)] ^= 1 << rng.randrange(8)
        else:
            first = rng.randrange(len(data) + 1)
            data[at:at] = data[first : first + rng.choice([1, 10, 100])]
    return bytes(data)


def random_bytes(name: str, seconds: int, seed: int) -> int:
    """Run a target on random changes of its seeds and of earlier changes; return the kinds of faults."""
    rng, faults = random.Random(seed), Faults(name)
    known, until = list(TARGETS[name].seeds), time.monotonic() + seconds
    for content in known:
        faults(content)
    while time.monotonic() < until:
        content = changed(rng.choice(known), rng)
        faults(content)
        if len(known) < 200 and rng.random() < 0.05:
            known.append(content)
    print(f"{name}: {faults.n_runs} runs, {len(faults.seen)} kinds of faults", flush=True)
    return len(faults.seen)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("targets", nargs="*", help=f"of {', '.join(TARGETS)} (default: all)")
    parser.add_argument("--seconds", type=int, default=60, help="of each target (default 60)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        guided(options.targets[0], options.seconds, options.seed)
    has_atheris = importlib.util.find_spec("atheris") is not None
    if not has_atheris:
        print("atheris is not installed, so the bytes are random changes of the seeds")
    bad = []
    for name in options.targets or TARGETS:
        if not has_atheris:
            bad += [name] if random_bytes(name, options.seconds, options.seed) else []
            continue
        command = [sys.executable, "-m", "tests.fuzz.fuzz_bytes", "--one", name]
        command += ["--seconds", str(options.seconds), "--seed", str(options.seed)]
        result = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        lines = result.stdout.splitlines()
        shown = [i for i, line in enumerate(lines) if line.startswith("fault of ")]
        print("\n".join(line for i in shown for line in lines[i : i + 2]))
        runs = [line.split()[-1] for line in lines if "number_of_executed_units" in line]
        print(f"{name}: {' '.join(runs) or 'no'} runs, {len(shown)} kinds of faults", flush=True)
        if shown or result.returncode:
            bad.append(name)
            if not shown:
                print("\n".join(lines[-15:]))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
