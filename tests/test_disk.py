"""A disk that is full, or that may not be written: one clear message, and the former content stays."""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import pytest
import torch

from tests.support import small_settings
from titans_ts import TitansForecaster
from titans_ts.config import BackboneConfig
from titans_ts.datasets import Genome, write_track
from titans_ts.datasets.atomic import replace_file
from titans_ts.genomics.scan import scan
from titans_ts.nn import TitansBackbone, save_model, save_state
from titans_ts.tuning.storage import open_storage

resource = pytest.importorskip("resource", reason="Windows has no limits of a process")

LENGTHS = {"one": 50_000}


@contextmanager
def full_disk(size):
    """Let no file become larger than that many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def read_only(folder):
    """Let nothing be written to a folder."""
    folder.chmod(0o555)
    root = os.geteuid() == 0
    if root:  # who may write everywhere
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o755)


@pytest.fixture
def folder():
    """A folder that another user may enter, as none in `tmp_path`."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def regions(seed=0):
    start, score = np.arange(0, 40_000, 10), np.random.default_rng(seed).random(4000)
    return pd.DataFrame({"chrom": "one", "start": start, "end": start + 10, "score": score})


def model(seed):
    torch.manual_seed(seed)
    return TitansBackbone(BackboneConfig(d_model=16, n_heads=2, n_layers=1))


def bigwig(path, seed):
    pytest.importorskip("pyBigWig")
    write_track(regions(seed), path, LENGTHS)


WRITERS = {
    "model": lambda path, seed: save_model(path, model(seed)),
    "state.safetensors": lambda path, seed: save_state(path, model(seed).initial_state(8)),
    "a.bed": lambda path, seed: write_track(regions(seed), path),
    "a.bedgraph.gz": lambda path, seed: write_track(regions(seed), path),
    "a.bw": bigwig,
    "new/table.csv": lambda path, seed: replace_file(path, f"{seed}\n".encode() * 9000),
}


def content(path):
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    return {file.name: file.read_bytes() for file in files}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("size", [0, 4000])
def test_a_full_disk_is_named_and_the_former_file_stays(name, size, folder):
    path, write = folder / name, WRITERS[name]
    write(path, 0)
    before = content(path)
    with full_disk(size), pytest.raises(OSError, match="cannot be written") as error:
        write(path, 1)
    message = str(error.value)
    assert f"{str(path)!r} cannot be written (File too large); free some space" in message
    assert content(path) == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    write(path, 1)
    assert name == "state.safetensors" or content(path) != before


@pytest.mark.parametrize("name", WRITERS)
def test_a_folder_that_may_not_be_written_is_named(name, folder):
    path, write = folder / name, WRITERS[name]
    write(path, 0)
    before = content(path)
    with read_only(path.parent), pytest.raises(PermissionError) as error:
        write(path, 1)
    message = f"{str(path)!r} cannot be written (Permission denied); allow writing to its folder"
    assert message in str(error.value)
    assert content(path) == before


def genome(folder):
    letters = "".join(np.random.default_rng(0).choice(list("ACGT"), 50_000))
    (folder / "genome.fa").write_text(f">one\n{letters}\n")
    return Genome(folder / "genome.fa")


def count_a(codes):
    return (codes == 0).mean(1)


SCAN = {"window": 50, "stride": 10, "fingerprint": {"name": "count_a"}, "progress_bar": False}


def test_a_scan_on_a_full_disk_goes_on_when_there_is_space(folder):
    pytest.importorskip("pyfaidx")
    out, opened = folder / "scores.bed", genome(folder)
    whole = scan(count_a, opened, **SCAN)
    out.write_text("of an earlier scan\n")
    with full_disk(4000), pytest.raises(OSError, match=r"part-0\.npy' cannot be written .*; free"):
        scan(count_a, opened, out=out, **SCAN)
    assert out.read_text() == "of an earlier scan\n"
    pd.testing.assert_frame_equal(scan(count_a, opened, out=out, **SCAN), whole)
    assert sorted(p.name for p in folder.iterdir()) == ["genome.fa", "genome.fa.fai", "scores.bed"]


def test_a_genome_that_is_cut_while_it_is_read_is_named(folder):
    pytest.importorskip("pyfaidx")
    out, opened = folder / "scores.bed", genome(folder)
    out.write_text("of an earlier scan\n")

    def cutting(codes):
        os.truncate(folder / "genome.fa", 30_000)
        return count_a(codes)

    scan_parts = pytest.MonkeyPatch()
    scan_parts.setattr("titans_ts.genomics.scan.MAX_LETTERS", 20_000)
    with scan_parts.context(), pytest.raises(ValueError, match=r"genome\.fa has .* it has changed"):
        scan(cutting, opened, out=out, **SCAN)
    scan_parts.undo()
    assert out.read_text() == "of an earlier scan\n"


def test_a_fit_whose_checkpoint_has_no_space_goes_on_when_there_is(tmp_path):
    wave = np.sin(np.arange(80) / 3)
    short = {"prediction_length": 2, "context_length": 8, "patch_length": 4, "patch_stride": 4}
    settings = small_settings(**short, d_model=8, n_heads=1, max_epochs=2, blend=False)
    forecaster = TitansForecaster(**settings, training_options={"resume": tmp_path / "run"})
    with full_disk(4000), pytest.raises(OSError, match=r"last\.ckpt' cannot be written .*; free"):
        forecaster.fit(wave)
    assert not hasattr(forecaster, "model_")
    whole = TitansForecaster(**settings).fit(wave)
    np.testing.assert_array_equal(forecaster.fit(wave).predict(), whole.predict())
    assert list(tmp_path.iterdir()) == []


def test_a_journal_on_a_full_disk_has_whole_lines_only(tmp_path):
    path = tmp_path / "journal"
    study = optuna.create_study(study_name="s", storage=open_storage(path))
    study.add_trial(optuna.create_trial(value=1.0))
    before = path.read_bytes()
    full = r"storage '.*journal' cannot be written \(File too large\); free some space, or name"
    with full_disk(len(before) + 20), pytest.raises(OSError, match=full):
        study.add_trial(optuna.create_trial(value=2.0))
    assert path.read_bytes() == before
    study.add_trial(optuna.create_trial(value=3.0))
    again = optuna.load_study(study_name="s", storage=open_storage(path))
    assert [trial.value for trial in again.trials] == [1.0, 3.0]


def test_a_database_on_a_full_disk_is_named(tmp_path):
    with (
        full_disk(4000),
        pytest.raises(ValueError, match=r"storage is 'sqlite:.*, which cannot be opened: .*disk"),
    ):
        open_storage(f"sqlite:///{tmp_path}/study.db")
