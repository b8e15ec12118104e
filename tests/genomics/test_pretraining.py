"""Pretraining: what is asked cannot be seen, an interrupted run ends the same, and it helps."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.support import small_dna_settings
from titans_ts import (
    BPETokenizer,
    ResidualTokenizer,
    TitansClassifier,
    TitansForecaster,
    TitansRegressor,
)
from titans_ts.config import BackboneConfig, MemoryConfig, SequenceConfig
from titans_ts.datasets import Genome
from titans_ts.genomics.pretraining import split_windows
from titans_ts.nn import TitansBackbone, save_model
from titans_ts.nn.dna.language_model import LanguageModel, letter_loss

pytest.importorskip("pyfaidx")

SETTINGS = small_dna_settings(max_epochs=3, batch_size=8, learning_rate=0.01)


def small(**params):
    return TitansClassifier(**(SETTINGS | params))


@pytest.fixture(scope="module")
def genome(tmp_path_factory):
    """Two contigs in which a word of twelve letters comes again and again."""
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("genome") / "g.fa"
    with path.open("w") as file:
        for name, n in (("one", 200), ("two", 40)):
            words = ["TTGACATATAAT" + "".join(rng.choice(list("ACGT"), 4)) for _ in range(n)]
            file.write(f">{name}\n{''.join(words)}\n")
    return path


def letter_model(**values):
    torch.manual_seed(0)
    memory = MemoryConfig(chunk_size=4)
    backbone = BackboneConfig("mag", 8, 1, 2, window=8, dropout=0.0, memory=memory)
    return LanguageModel(SequenceConfig(kernel_size=6, backbone=backbone, **values)).eval()


@pytest.mark.parametrize("tokenizer", ["nucleotide", "conv", "residual", "kmer"])
@pytest.mark.parametrize("stride", [1, 3])
def test_the_next_letters_are_not_seen(tokenizer, stride):
    model = letter_model(tokenizer=tokenizer, stride=stride)
    codes = torch.randint(4, (1, 24), generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([24])
    with torch.inference_mode():
        before = model(codes, lengths)
        assert before.shape == (1, 24 // stride, stride, 4)
        codes[0, 12] = (codes[0, 12] + 1) % 4
        moved = (model(codes, lengths) - before).abs().amax((0, 2, 3)) > 1e-7
    token = 12 // stride  # asked for by the token before it
    assert not moved[:token].any()
    assert moved[token:].any()


@pytest.mark.parametrize("bidirectional", ["none", "shared", "separate"])
@pytest.mark.parametrize("stride", [1, 3])
def test_hidden_letters_are_not_seen(bidirectional, stride):
    model = letter_model(bidirectional=bidirectional, stride=stride, tokenizer="conv")
    codes = torch.randint(4, (2, 31), generator=torch.Generator().manual_seed(0))
    batch = codes, torch.tensor([31, 31])
    seen = []
    model.body.tokenizer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.inference_mode():
        _, n = letter_loss(model, batch, "masked")
    hidden = seen[0] != codes
    assert (seen[0][hidden] == 4).all()  # N
    letters = [i for i in range(31) if i // stride % 7 == 3]
    assert hidden.sum() == n == 2 * len(letters)
    assert (seen[0][0] == 4).nonzero()[:, 0].tolist() == letters


def test_the_loss_is_the_mean_over_letters_that_are_asked():
    model = letter_model(stride=2)
    codes = torch.tensor([[0, 1, 4, 3, 0, 20, 2]])  # N, and a lower-case N
    lengths = torch.tensor([7])
    with torch.inference_mode():
        loss, n = letter_loss(model, (codes, lengths), "causal")
        told = model(codes, lengths)[0].log_softmax(-1)
    expected = [-told[0, 1, 3], -told[1, 0, 0], -told[2, 0, 2]]
    assert n == 3
    torch.testing.assert_close(loss, torch.stack(expected).mean())


def test_repeats_are_learned_and_a_classifier_begins_with_them(genome, tmp_path):
    estimator = small(max_epochs=10)
    history = estimator.pretrain(genome, tmp_path / "p", window=128)
    # nothing is told of 4 letters of 16: 0.25 ln 4 = 0.35
    assert history[-1]["validation_loss"] < 0.8
    assert not hasattr(estimator, "model_")
    assert not (tmp_path / "p.unfinished").exists()

    sequences, labels = ["ACGTACGT", "TTGACATATAAT"] * 10, [0, 1] * 10
    options = {"pretrained": tmp_path / "p", "max_epochs": 1, "n_layers": 2, "d_model": 64}
    for freeze, same in (
        ("none", ()),
        ("tokenizer", ("tokenizer",)),
        ("backbone", ("tokenizer", "b")),
    ):
        fitted = small(freeze=freeze, bidirectional="separate", **options).fit(sequences, labels)
        model = fitted.model_
        assert (model.config.backbone.d_model, model.config.backbone.n_layers) == (16, 1)
        letters = pretrained(tmp_path / "p").body
        for part in ("tokenizer", "backbone", "backwards"):
            own, source = getattr(model, part), getattr(letters, part) or letters.backbone
            pairs = zip(own.parameters(), source.parameters(), strict=True)
            assert all(torch.equal(a, b) for a, b in pairs) == part.startswith(same or "-")
    fitted.save(tmp_path / "m")
    loaded = TitansClassifier.load(tmp_path / "m")  # needs the pretrained model no more
    np.testing.assert_array_equal(loaded.predict_proba(sequences), fitted.predict_proba(sequences))
    values = TitansRegressor(**(SETTINGS | options)).fit(sequences, np.arange(20.0))
    assert values.model_.config.backbone.d_model == 16


@pytest.mark.parametrize("former", ["classifier", "regressor"])
@pytest.mark.parametrize(
    "tokenizer",
    ["nucleotide", BPETokenizer(n_merges=5), ResidualTokenizer(n_filters=4, n_residual=2)],
)
def test_a_saved_estimator_is_begun_with(tmp_path, former, tokenizer):
    sequences = ["ACGTACGT", "TTGACATATAAT"] * 10
    cls, y = {
        "classifier": (TitansClassifier, list("ab") * 10),
        "regressor": (TitansRegressor, np.arange(20.0)),
    }[former]
    options = {"tokenizer": tokenizer, "max_epochs": 1, "bidirectional": "separate"}
    source = cls(**(SETTINGS | options))
    source.fit(sequences, y).save(tmp_path / "p")
    # other answers, another pooling, and parameters that do not count
    later = small(pretrained=tmp_path / "p", freeze="backbone", pooling="mean", max_epochs=1)
    later.fit([s + "GGGGG" for s in sequences], list("xyzx") * 5)
    assert later.model_.config.tokenizer == source.model_.config.tokenizer
    assert later.model_.config.merges == source.model_.config.merges
    for part in ("tokenizer", "backbone", "backwards"):
        own, theirs = (getattr(e.model_, part).state_dict() for e in (later, source))
        assert own.keys() == theirs.keys()
        assert all(torch.equal(own[name], theirs[name]) for name in own)
    assert later.predict(["ACGT"]).shape == (1,)


def pretrained(path):
    from titans_ts.nn import load_model

    return load_model(path, LanguageModel)


def test_what_is_not_there_is_not_hidden():
    model = letter_model(bidirectional="shared")
    codes = torch.tensor([[0, 1, 2, 5, 0, 1, 2, 3, 0, 1, 3, 2]])  # place 3 is asked, and is absent
    seen = []
    model.body.tokenizer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs))
    with torch.inference_mode():
        _, n = letter_loss(model, (codes, torch.tensor([12])), "masked")
    assert n == 1  # place 10
    assert seen[0][0][0, 3] == 5
    assert not seen[0][1][0, 3]


@pytest.mark.parametrize("objective", ["causal", "masked"])
def test_an_interrupted_run_ends_as_if_it_had_not_been(genome, tmp_path, objective):
    options = {"rc": "augment", "model_options": {"dropout": 0.1}}
    small(**options).pretrain(genome, tmp_path / "whole", window=128, objective=objective)

    class Crash(Exception):
        pass

    import lightning.pytorch as pl

    class Stop(pl.Callback):
        def on_train_epoch_start(self, trainer, module):
            if trainer.current_epoch == 2:
                raise Crash

    crashing = small(training_options={"trainer_kwargs": {"callbacks": [Stop()]}}, **options)
    ask = {"window": 128, "objective": objective}
    with pytest.raises(Crash):
        crashing.pretrain(genome, tmp_path / "p", **ask)
    assert not (tmp_path / "p").exists()
    with pytest.raises(ValueError, match="has an unfinished run, from which .* in: model; del"):
        small(d_model=32).pretrain(genome, tmp_path / "p", **ask)
    history = small(**options).pretrain(genome, tmp_path / "p", **ask)
    assert [row["epoch"] for row in history] == [0, 1, 2]
    one, two = (pretrained(tmp_path / name).state_dict() for name in ("whole", "p"))
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_a_path_may_end_in_a_slash(genome, tmp_path):
    small(max_epochs=1).pretrain(genome, f"{tmp_path}/p/", window=128)
    assert pretrained(tmp_path / "p") is not None
    assert [p.name for p in tmp_path.iterdir()] == ["p"]


def test_a_run_that_could_not_begin_is_no_other_run(genome, tmp_path):
    with pytest.raises(ValueError, match="bpe"):
        small(tokenizer="bpe").pretrain(genome, tmp_path / "p", window=128)
    assert not (tmp_path / "p.unfinished").exists()
    bad = tmp_path / "bad.fa"
    bad.write_text(">a\n" + "ACGT*" * 200 + "\n")
    with pytest.raises(ValueError, match="has '\\*'"):
        small(max_epochs=1).pretrain(bad, tmp_path / "p", window=128)
    small(max_epochs=1).pretrain(genome, tmp_path / "p", window=128)
    assert not (tmp_path / "p.unfinished").exists()


def test_a_run_without_a_seed_goes_on_with_its_own(genome, tmp_path):
    import lightning.pytorch as pl

    class Stop(pl.Callback):
        def on_train_epoch_start(self, trainer, module):
            if trainer.current_epoch == 1:
                raise KeyError

    crashing = small(
        random_state=None, training_options={"trainer_kwargs": {"callbacks": [Stop()]}}
    )
    with pytest.raises(KeyError):
        crashing.pretrain(genome, tmp_path / "p", window=128)
    history = small(random_state=None).pretrain(genome, tmp_path / "p", window=128)
    assert [row["epoch"] for row in history] == [0, 1, 2]


def test_small_contigs_are_held_out_too():
    genome = SimpleNamespace(lengths={f"c{i}": 900 for i in range(4)})
    kept, held_out = split_windows([genome], 1024, 0.2, None)
    assert (len(kept), len(held_out)) == (3, 1)


@pytest.mark.parametrize(
    ("lengths", "fraction", "expected"),
    [
        ([900, 900], 0.1, [0]),
        ([0, 900, 800, 1000], 0.05, [2]),  # an empty one is no validation
        ([100, 900, 900], 0.2, [0]),
        ([900, 900], 0.9, [0]),
        ([900], 0.1, []),
        ([1500], 0.5, []),  # the rest is no window
        ([900, 900], 0.0, []),
        ([900, 3000], 0.1, [1]),  # the end of the longer
        ([3000], 0.9, [0]),
        ([900, 3000], 0.2, [0]),
    ],
)
def test_something_is_held_out_and_something_left(lengths, fraction, expected):
    genome = SimpleNamespace(lengths={str(i): n for i, n in enumerate(lengths)})
    kept, held_out = split_windows([genome], 1024, fraction, None)
    assert sorted({int(place[1]) for place in held_out}) == expected
    assert kept
    assert len(kept) + len(held_out) == sum(max(1, round(n / 1024)) for n in lengths if n)


def test_contigs_are_held_out_whole(genome, tmp_path):
    opened = Genome(genome)
    kept, held_out = split_windows([opened], 100, 0.2, None)
    assert {p[1] for p in kept} == {"one"}
    assert {p[1] for p in held_out} == {"two"}
    assert sum(p[3] - p[2] for p in kept + held_out) == 3840 - 40  # the rest is no half window
    kept, held_out = split_windows([opened], 50, 0.05, None)  # "two" is more than that
    assert {p[1] for p in kept} == {p[1] for p in held_out} == {"one", "two"}
    assert (
        max(p[3] for p in kept if p[1] == "one") <= min(p[2] for p in held_out if p[1] == "one") + 1
    )
    kept, held_out = split_windows([opened], 100, 0.05, ["one"])
    assert ({p[1] for p in kept}, {p[1] for p in held_out}) == ({"two"}, {"one"})


@pytest.mark.parametrize(
    ("params", "options", "message"),
    [
        ({}, {"objective": "next"}, "objective is 'next'; choose one of"),
        ({"bidirectional": "shared"}, {}, "bidirectional is 'shared', so the model would see"),
        ({}, {"window": 3}, "window is 3; it must be a whole number of at least four tokens .of 1"),
        ({"tokenizer": "bpe"}, {}, "tokenizer is 'bpe', whose tokens have no fixed number"),
        (
            {},
            {"validation_contigs": ["six"]},
            "validation_contigs has 'six', which is in no genome",
        ),
        ({}, {"validation_contigs": ["one", "two"]}, "the genomes leave nothing to train on"),
        ({"rc": "x"}, {}, "rc is 'x'"),
    ],
)
def test_what_cannot_be_pretrained(genome, tmp_path, params, options, message):
    with pytest.raises(ValueError, match=message):
        small(**params).pretrain(genome, tmp_path / "p", **options)
    assert not (tmp_path / "p").exists()


def test_what_cannot_be_begun_with(genome, tmp_path):
    small(max_epochs=1, soft_masked="flag").pretrain(genome, tmp_path / "p", window=128)
    data = ["ACGT", "TTTT"] * 5, [0, 1] * 5
    with pytest.raises(
        ValueError, match="soft_masked is 'keep', but the pretrained model was trained"
    ):
        small(pretrained=tmp_path / "p").fit(*data)
    with pytest.raises(ValueError, match="freeze is 'all'; choose one of"):
        small(pretrained=tmp_path / "p", freeze="all", soft_masked="flag").fit(*data)
    with pytest.raises(FileNotFoundError, match="has no config.json"):
        small(pretrained=tmp_path / "q").fit(*data)
    forecaster = TitansForecaster(max_epochs=1, n_layers=1, progress_bar=False)
    forecaster.fit(np.arange(300.0)).save(tmp_path / "f")
    save_model(tmp_path / "b", TitansBackbone(BackboneConfig(n_layers=1)))
    for name, what in (("f", "TitansForecaster"), ("b", "TitansBackbone")):
        with pytest.raises(ValueError, match=f"pretrained is .*, which has a {what}; give a model"):
            small(pretrained=tmp_path / name).fit(*data)


def test_a_folder_with_the_name_of_a_model_of_the_package_stays_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = ["ACGT", "TTTT"] * 5, [0, 1] * 5
    save_model("dna-small", letter_model())
    small(pretrained=Path("dna-small"), max_epochs=1).fit(*data).save("fitted")
    again = TitansClassifier.load("fitted").fit(*data)
    assert again.model_.config.backbone.d_model == 8  # the package's has 64
