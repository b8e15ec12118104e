"""The speed benchmark runs, counts and measures what it says, and refuses what is wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "benchmarks"


pytestmark = pytest.mark.usefixtures("benchmarks_on_the_path")


def run(tmp_path, *arguments):
    """The benchmark in this process, on tiny shapes: the rows it wrote."""
    import kernels

    kernels.main(["--quick", "--results", str(tmp_path), *arguments])
    return json.loads((tmp_path / "kernels-cpu.json").read_text())


@pytest.mark.slow
def test_quick_run_from_end_to_end(tmp_path, capsys):
    content = run(tmp_path)
    said = capsys.readouterr().out
    assert content["command"].startswith("python benchmarks/kernels.py --quick")
    assert content["threads"] == 1
    assert content["versions"]["torch"] == torch.__version__
    assert {row["part"] for row in content["rows"]} == {
        "gap", "precision", "share", "step", "stream", "table",
    }  # fmt: skip

    table = [row for row in content["rows"] if row["part"] == "table"]
    names = {row["contender"] for row in table}
    assert {"transformer layer", "NeuralMemory, depth 2", "chunked, depth 1"} <= names
    for row in table:
        if row["contender"].startswith("titans-pytorch"):  # whose warnings are errors in a test
            continue
        assert row["finite"], row
        for mode in ("forward", "train"):
            figures = row[mode]
            low, high = figures["quartiles"]
            assert 0 < low <= figures["seconds"] <= high
            assert len(figures["samples"]) == 3
            rate = row["batch"] * row["tokens"] / figures["seconds"]
            # a whole number; a busy machine may do a few hundred
            assert figures["tokens_per_s"] == pytest.approx(rate, rel=1e-3, abs=0.5)
            if row["contender"] in ("transformer layer", "attention"):
                assert figures["yardsticks"] == 1
    for row in content["rows"]:
        if row["part"] == "share":
            assert 0 < row["shares"]["product float32"] < 1
        if row["part"] == "precision":  # bfloat16 keeps 8 bits: 2e-3 of every entry is rounded off
            assert all(error < 1e-2 for error in row["errors"].values()), row
    for title in ("Streaming forward", "One token at a time", "Targets"):
        assert title in said


@pytest.mark.slow
def test_a_wrong_implementation_is_reported_and_not_timed(tmp_path, capsys, monkeypatch):
    from titans_ts.kernels import IMPLEMENTATIONS
    from titans_ts.kernels.chunked import op as chunked

    def stale(call):
        """Right but for the last chunk, whose outputs are those of the chunk before."""
        y, state, surprise = chunked.compute(call)
        last = call.chunk_size
        return (
            torch.cat([y[:, :-last], y[:, -2 * last : -last]], 1) if y.shape[1] > 2 * last else y,
            state,
            surprise,
        )

    monkeypatch.setitem(
        IMPLEMENTATIONS, "stale", SimpleNamespace(uncovered=chunked.uncovered, compute=stale)
    )
    with pytest.raises(SystemExit, match="failed"):
        run(tmp_path, "--only", "table", "share", "--lengths", "32")
    content = json.loads((tmp_path / "kernels-cpu.json").read_text())
    rows = {(r["part"], r["contender"]): r for r in content["rows"]}
    wrong = rows["table", "stale, depth 2"]
    assert "y is off" in wrong["failed"]
    assert not {"forward", "train"} & wrong.keys()
    assert ("share", "stale, depth 2") not in rows
    assert "train" in rows["table", "chunked, depth 2"]
    assert "stale, depth 2 is not timed: y is off" in capsys.readouterr().out


def test_gradients_are_checked_too(monkeypatch):
    from speed.contenders import Case, contenders

    from titans_ts.kernels import IMPLEMENTATIONS
    from titans_ts.kernels.chunked import op as chunked

    def cut(call):
        """The inner loop's step does not learn."""
        return chunked.compute(call._replace(lr=call.lr.detach() + 0 * call.lr))

    monkeypatch.setitem(
        IMPLEMENTATIONS, "cut", SimpleNamespace(uncovered=chunked.uncovered, compute=cut)
    )
    case = Case(0, heads=2, width=8, chunk=16)
    check = {c.name: c.check for c in contenders("cpu")}
    assert check["cut, depth 1"](case).startswith("dlr is off")
    assert check["chunked, depth 1"](case) == ""


def test_a_layer_is_checked_against_the_recurrence(monkeypatch):
    from speed.contenders import Case, contenders

    from titans_ts.nn import memory

    case = Case(0, heads=2, width=8, chunk=16)
    check = {c.name: c.check for c in contenders("cpu")}["NeuralMemory, depth 2"]
    assert check(case) == ""
    registry = memory.neural_memory.__globals__["IMPLEMENTATIONS"]  # the layer's own
    right = dict(registry)
    for name in ("native", "chunked"):  # whichever this machine takes

        def slow(call, name=name):
            return right[name].compute(call._replace(forget_to="zero"))

        module = SimpleNamespace(uncovered=right[name].uncovered, compute=slow)
        monkeypatch.setitem(registry, name, module)
    assert "is off by" in check(case)


def test_operations_of_a_case_counted_by_hand():
    from speed.operations import memory_operations

    # Width 2, hidden 3, chunks of 4. First layer, 2 x 3: keys 24, three reads 72, Y X^T 4 x 4 x 2 = 32,
    # (.. o C) E 4 x 4 x 3 = 48, two writes 48. Second, 3 x 2: the same with 48 and 32, errors back 24.
    # Shares: 2 x 4 x 4 = 32. All: 224 + 248 + 32 = 504, of which 192 triangular.
    assert memory_operations([2, 3, 2], 4, 4, backward=False) == 2 * 504
    assert memory_operations([2, 3, 2], 4, 4, backward=False, needed_only=True) == 2 * (504 - 96)
    assert memory_operations([2, 3, 2], 40, 4) == 2 * 3 * 10 * 504
    # Without momentum and M_0, one read and one write a layer (24 each) are left, and half the shares.
    plain = memory_operations(
        [2, 3, 2], 4, 4, backward=False, momentum=False, towards_initial=False
    )
    assert plain == 2 * (504 - 2 * 3 * 24 - 16)


def test_operations_of_layers_are_those_of_the_page():
    from speed.operations import memory_layer_operations, transformer_layer_operations

    page = (FOLDER / "README.md").read_text()
    for depth in (1, 2):
        a_token = memory_layer_operations(128, 4, 64, 64, depth=depth, backward=False) / 64 / 2
        assert f"**{a_token:,.0f}**".replace(",", " ") in page
    assert transformer_layer_operations(128, 100, backward=False) == 2 * 100 * (196_608 + 12_800)


def test_peak_memory_sees_what_is_gone_again():
    from speed.measure import peak_memory

    megabyte = 2**20
    kept = torch.ones(8 * megabyte)  # stands before: does not count

    def twice():
        torch.ones(10 * megabyte)  # 40 MiB, freed
        return torch.ones(20 * megabyte)  # 80 MiB

    for _ in range(2):  # the mark of the first call does not hide the second
        peak, before = peak_memory(twice)
        assert 78 <= (peak - before) / megabyte <= 125
    peak, before = peak_memory(lambda: kept[0])
    assert (peak - before) / megabyte < 4


@pytest.mark.slow
def test_a_probe_in_a_process_of_its_own():
    from speed.contenders import Case
    from speed.probe import probe_apart

    case = Case(2048, batch=1, heads=2, width=8, chunk=16)
    found = probe_apart("transformer layer", case)
    inputs = 4 * case.tokens * case.d_model
    assert found["finite"]
    assert 5 * inputs < found["extra_bytes"] < 500 * inputs
    with pytest.raises(RuntimeError, match="StopIteration"):
        probe_apart("nobody", case)


def test_what_raises_is_left_out_of_the_rounds():
    from speed.measure import interleaved

    order, failures = [], []

    def broken():
        raise ValueError("no")

    actions = {"a": lambda: order.append("a"), "broken": broken, "b": lambda: order.append("b")}
    timings = interleaved(actions, 3, least_seconds=0, failed=lambda *x: failures.append(x[0]))
    assert list(timings) == ["a", "b"]
    assert failures == ["broken"]
    assert "".join(order).endswith("ababab")
    with pytest.raises(ValueError, match="no"):
        interleaved(actions, 3)


def table_row(name, tokens, *samples, **more):
    row = {"part": "table", "contender": name, "kind": "layer", "tokens": tokens}
    row |= {"batch": 4, "heads": 4, "width": 32, "chunk": 64, "dtype": "float32"} | more
    if samples:
        row["train"] = row["forward"] = {"samples": list(samples)}
    return row


def test_targets_are_judged_by_the_rounds():
    from speed.targets import NOT_MEASURED, targets

    ours, yardstick = "NeuralMemory, depth 2", "transformer layer"
    rows = [
        table_row(ours, 2048, 1.0, 2.0, 9.0, extra_mb=60),
        table_row(yardstick, 2048, 2.0, 4.0, 6.0),  # ratios 0.5, 0.5, 1.5; of the medians 0.5
        table_row("titans-pytorch, default, depth 2", 2048, 1.4, 2.8, 12.0),  # 1.4, 1.4, 1.33
        table_row("titans-pytorch, paper's rule, depth 2", 512, 6.0, 6.0, 6.0),
        table_row(ours, 512, 0.1, 0.1, 0.2),
        table_row(ours, 8192, 4.0, 4.0, 4.0, extra_mb=299),
        table_row(yardstick, 8192, 10.0, 10.0, 10.0),
        table_row(ours, 65536, 40.0, 40.0, 40.0, extra_mb=2400),
        table_row(ours, 2048, 1.0, 1.0, 1.0, reference=True),
        {"part": "step", "contender": ours, "tokens_per_s": 9999},
        {"part": "stream", "tokens": 2**16, "peak_mb": 100},
        {"part": "stream", "tokens": 2**20, "peak_mb": 106},
    ]
    found = {t.target: (t.measured, t.reached) for t in targets(rows, "cpu")}

    def judged(start):
        return next(value for text, value in found.items() if text.startswith(start))

    assert judged("forward and backward at T = 2048") == ("0.5", True)
    assert judged("forward and backward at T = 8192") == ("0.4", False)
    assert judged("at least 1.5 times") == ("1.4", False)
    assert judged("at least 50 times that of its paper's rule") == ("60", True)
    assert judged("extra memory") == ("299", True)
    assert judged("the same at T = 65536") == ("1", True)
    assert judged("tokens/s at T = 65536") == ("0.8", True)
    assert judged("streaming") == ("1.06", False)
    assert judged("one token a step, batch 4, NeuralMemory") == ("9999", False)
    assert judged("depth 1: at least the throughput") == (NOT_MEASURED, None)
    assert {reached for _, reached in map(found.get, found)} == {True, False, None}


def test_targets_of_a_gpu():
    from speed.targets import targets

    shapes = {"width": 64, "dtype": "bfloat16"}
    rows = [
        table_row("triton, depth 1", 2048, 1.0, 1.0, 1.0, **shapes),
        table_row("triton, depth 2", 2048, 2.1, 2.1, 2.1, **shapes),
        table_row("gated delta rule (fla)", 2048, 1.0, 1.0, 1.0, **shapes),
        table_row("triton, depth 1", 2048, 9.0, 9.0, 9.0),  # of another width: not compared
    ]
    for depth in (1, 2):
        for name, error in (("chunked", 1e-3), ("triton", 3e-3 if depth == 2 else 1e-3)):
            errors = {"y": 1.0, "dq": error}  # of gradients alone
            row = {"part": "precision", "implementation": name, "depth": depth, "errors": errors}
            rows.append(row)
    assert [(t.measured, t.reached) for t in targets(rows, "cuda")] == [
        ("1", True), ("0.476", False), ("3", False),
    ]  # fmt: skip


def test_what_is_installed_is_recorded_and_a_missing_package_is_left_out(tmp_path):
    from record import record, versions

    assert versions("torch", "no-such-package") == {"torch": torch.__version__}
    path = record("x", "typed", [{"a": 1}], folder=tmp_path, peers={})
    assert json.loads(path.read_text())["rows"] == [{"a": 1}]
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_markdown_of_committed_rows_is_on_the_page():
    from speed.tables import tables

    page = " ".join((FOLDER / "README.md").read_text().split())  # wrapped in another way
    for path in (FOLDER / "results").glob("kernels-*.json"):
        for block in tables(json.loads(path.read_text()), markdown=True).split("\n\n"):
            assert " ".join(block.split()) in page, f"{path.name}: run kernels.py --markdown"


def test_gpu_script_says_that_there_is_no_gpu():
    script = FOLDER / "gpu.sh"
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "PYTHON": sys.executable}
    result = subprocess.run(
        ["bash", script], env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    assert "no torch that sees a CUDA device" in result.stderr


def test_dna_tasks_have_models_and_a_table(capsys):
    import dna
    from sklearn.base import clone

    for name, task in dna.TASKS.items():
        models = dna.contenders(task, 0)
        assert {"titans", "cnn", "words", *dna.CONTROLS} <= models.keys(), name
        assert models.keys() <= {*dna.MODELS, *dna.CONTROLS, *dna.PARTS, *dna.DEFAULT}, name
        for model in models.values():
            assert clone(model).get_params().keys() == model.get_params().keys()
    for which, start in (
        ("titans", "prom_core_tata | mcc | 0.760"),
        ("default", "tf_0 | mcc | 0.680"),
    ):
        dna.main(["--table", which])
        table = capsys.readouterr().out
        assert f"\n| {start} |" in table
        assert len({line.count("|") for line in table.splitlines()}) == 1


def test_single_letters_of_a_site_are_told_from_others():
    import numpy as np
    import variants

    data = variants.planted(0, n_train=20, n_test=12)
    for owner, sequence, inside in data.changes:
        before = data.test[owner]
        assert data.wanted[owner]
        assert sum(a != b for a, b in zip(before, sequence, strict=True)) == 1
        assert inside == (variants.MOTIF not in sequence)

    class Reader:
        classes_ = np.array([0, 1])

        def predict_proba(self, sequences):
            has = np.array([variants.MOTIF in s for s in sequences])
            return np.stack([1 - (share := np.where(has, 0.9, 0.2)), share], 1)

        def predict(self, sequences):
            return self.predict_proba(sequences).argmax(1)

    found = variants.sensitivity(Reader(), data)
    assert found["accuracy"] == found["auc"] == 1
    assert found["substitutions"] == 6 * 3 * 100
    assert found["fall_in_site"] == pytest.approx(np.log(9) + np.log(4), abs=1e-3)
    assert found["fall_elsewhere"] == 0


def test_variants_of_the_worm_are_on_the_strand_of_their_junction(monkeypatch):
    import variants

    folder = os.environ.get("TITANS_TS_DATA")
    if folder is None:
        pytest.skip("TITANS_TS_DATA names no folder with genomes")
    one, other = variants.worm(0), variants.worm(1)
    assert len(one.train) + len(one.test) == len(other.train) + len(other.test)
    assert (one.wanted != "none").sum() == (other.labels != "none").sum()
    for data in (one, other):
        assert 20 < sum(change.inside for change in data.changes) < len(data.changes) / 10
        for owner, sequence, inside in data.changes:
            _, site = variants.SITES[data.wanted[owner]]
            differ = [i for i, c in enumerate(data.test[owner]) if c != sequence[i]]
            assert len(differ) == 1
            assert inside == (site.start <= differ[0] < site.stop)
        own = [
            data.test[owner][variants.SITES[data.wanted[owner]][1]] for owner, *_ in data.changes
        ]
        assert sum(letters in ("GT", "AG") for letters in own) > 0.95 * len(own)


def test_dna_tasks_have_two_parts():
    import argparse

    import dna_tasks

    if os.environ.get("TITANS_TS_DATA") is None:
        pytest.skip("TITANS_TS_DATA names no folder of real data")
    small = ["mouse_3", "emp_H3", "ienhancer_1", "vista", "promoters_uci"]
    small += ["enhancers_cohn_foreign", "human_nontata_foreign"]
    for name in small:
        task = dna_tasks.TASKS[name]
        _, frame = next(dna_tasks.splits(task.read(argparse.Namespace()), task, 1))
        assert {"train", "test"} <= set(frame["split"]) <= {"train", "dev", "test"}, name
        both = set(frame.loc[frame["split"] == "train", "sequence"]) & set(
            frame.loc[frame["split"] == "test", "sequence"]
        )
        assert not both, name


@pytest.mark.parametrize("parts", [("train", "dev", "test"), ("train", "test")])
def test_dna_models_answer_together(parts):
    import dna
    import numpy as np
    import pandas as pd

    rng = np.random.default_rng(0)
    background = ["".join(rng.choice(list("ACG"), 30)) for _ in range(90)]
    split = np.repeat(["train", *parts], 2)  # twice as many to learn from; both labels in each
    frame = pd.DataFrame({"label": ["a", "b"] * 45, "split": np.resize(split, 90)})
    frame["sequence"] = [
        text if label == "a" else text[:10] + "TTTTT" + text[15:]
        for text, label in zip(background, frame["label"], strict=True)
    ]
    tiny = {"d_model": 16, "n_heads": 2, "n_layers": 1, "max_epochs": 1}
    task = dna.Task(lambda _: frame, tiny, words={"k": 3, "gaps": 1})
    run = dna.Run(frame, task, {"titans", "gapped words"})
    rows = [row for seed in range(2) for row in run.rows(seed)]
    first = ["titans", "titans + words", "gapped words"]
    second = ["titans", "titans + words", "seeds together", "seeds together + words"]
    assert [row["model"] for row in rows] == first + second
    assert min(row["mcc"] for row in rows if "words" in row["model"]) > 0.7  # five T tell b
    for row in rows:
        assert -1 <= row["mcc"] <= 1
        assert ("dev_mcc" in row) == ("dev" in parts)
    fold = dna.Run(frame, task, {"titans"}).rows(1)  # as of a second fold, which is no second seed
    assert [row["model"] for row in fold] == ["titans", "titans + words"]


def test_training_sequences_that_share_letters_with_a_test_are_not_pretrained_on(
    tmp_path, monkeypatch, capsys
):
    import numpy as np
    import pandas as pd
    import pretrain_dna

    from titans_ts.datasets import reverse_complement

    rng = np.random.default_rng(0)
    shared = "".join(rng.choice(list("ACGT"), 31))
    texts = ["".join(rng.choice(list("ACGT"), 60)) for _ in range(50)]
    other = reverse_complement(shared)
    leaks = [shared + texts[0], texts[1][:9] + other + texts[2], shared[:30] + "N" + shared[30:]]
    train = pd.DataFrame({"sequence": [*leaks, *texts[3:]], "split": "train"})
    test = pd.DataFrame({"sequence": ["ACG" + shared + "TTT"], "split": "test"})
    task = SimpleNamespace(read=lambda _: pd.concat([train, test], ignore_index=True))
    monkeypatch.setattr(pretrain_dna, "TASKS", {"a": task})
    monkeypatch.setattr(pretrain_dna, "MAMMALS", ("a",))
    monkeypatch.setattr(pretrain_dna, "TESTED", ("a",))
    path = pretrain_dna.without_labels(tmp_path / "m.fa")
    letters = path.read_text()
    assert shared not in letters
    assert other not in letters
    assert all(text in letters for text in [leaks[2], *texts[3:]])
    assert "a: 0.040 of the training part" in capsys.readouterr().out
    held_out = letters.split(">mammals\n")[0]
    assert sum(text in held_out for text in texts[3:]) == 1  # one in forty


@pytest.mark.slow
def test_the_models_of_pretraining_answer_from_few_labels(monkeypatch, tmp_path):
    import numpy as np
    import pandas as pd
    import pretraining

    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(list("ACG"), 30)) for _ in range(80)]
    frame = pd.DataFrame({"label": ["a", "b"] * 40, "split": ["train"] * 60 + ["test"] * 20})
    frame["sequence"] = [
        text if label == "a" else "T" * 12 + text[12:]
        for text, label in zip(texts, frame["label"], strict=True)
    ]
    task = SimpleNamespace(read=lambda _: frame, folds=0)
    monkeypatch.setattr(pretraining, "TASKS", {"planted": task})
    random = pretraining.random_model(tmp_path / "random")
    args = SimpleNamespace(
        labels=(40, 100), seeds=1, task="planted", controls=None, models="frozen;k-mers"
    )
    rows = list(pretraining.measure(args, random))
    assert [(row["labels"], row["model"]) for row in rows] == [(40, "frozen"), (40, "k-mers")]
    assert all(row["mcc"] > 0.7 and row["auc"] > 0.9 for row in rows)
    names = pretraining.models(random, None)
    assert {"fine-tuned", "from scratch", "default"} < names.keys()
    for folder in ("none", "nowrite", "swa"):
        pretraining.random_model(tmp_path / folder)
    args.controls, args.models, args.labels = tmp_path, None, (40,)
    rows = list(pretraining.measure(args, random))
    assert [row["model"] for row in rows] == [
        f"frozen, {name}" for name in ("never written", "attention alone", "no backbone", "random")
    ]


def test_the_official_split_of_human_promoters_is_made_of_a_genome(monkeypatch):
    import argparse

    import dna_tasks

    home = os.environ.get("TITANS_TS_DATA")
    if home is None:
        pytest.skip("TITANS_TS_DATA names no folder of real data")

    class Stub(dna_tasks.Genome):  # every contig, of A
        def __init__(self, path):
            self.path = Path(path)
            self.lengths = {f"chr{c}": 10**9 for c in (*range(1, 23), "X", "Y")}

        def fetch(self, chrom, start, end, strand="+"):
            return "A" * (end - start)

    monkeypatch.setattr(dna_tasks, "Genome", Stub)
    frame = dna_tasks.nontata(argparse.Namespace(genome="hg38.fa", intervals=None))
    assert frame["split"].value_counts().to_dict() == {"train": 27_097, "test": 9_034}
    assert set(frame["sequence"].str.len()) == {251}
    with pytest.raises(SystemExit, match="needs --genome"):
        dna_tasks.nontata(argparse.Namespace(genome=None, intervals=None))


def test_dna_names_of_models(capsys):
    import dna

    with pytest.raises(SystemExit):
        dna.main(["--models", "titans;cnm"])
    assert "--models has 'cnm'; choose of default; titans; cnn;" in capsys.readouterr().err
