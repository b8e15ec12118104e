"""Pretraining: language models learn the letters of genomes, without labels."""

from __future__ import annotations

import dataclasses
import numbers
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from titans_ts.config import SequenceConfig, TrainingConfig, from_dict, to_dict
from titans_ts.datasets import Genome
from titans_ts.estimator import model_weights
from titans_ts.genomics.contigs import ContigCodes
from titans_ts.nn.checkpoint import check_replaceable, load_directory, load_model, save_directory
from titans_ts.nn.dna.language_model import OBJECTIVES, LanguageModel, letter_loss
from titans_ts.nn.dna.model import SequenceModel
from titans_ts.nn.dna.nucleotides import complement_codes, pad_codes
from titans_ts.training import UnfinishedRun, batches, train

__all__ = [
    "FREEZE",
    "PRETRAINED",
    "TOKENS",
    "initialise",
    "load_body",
    "pretrain",
    "pretrained_config",
    "split_windows",
    "unfinished_seed",
]

FREEZE = ("none", "tokenizer", "backbone")
"""Which pretrained parts are frozen: none, the tokenizer, or tokenizer and backbone."""

PRETRAINED = ("dna-small",)
"""Names of the pretrained models in the package, in `weights`."""

TOKENS = (
    "tokenizer",
    "kernel_size",
    "stride",
    "position",
    "gaps",
    "all_offsets",
    "n_filters",
    "n_residual",
    "merges",
)
"""Fields of a :class:`titans_ts.config.SequenceConfig` that a pretrained model decides."""

_FOLDER = Path(__file__).parent / "weights"


def pretrain(
    genomes: Sequence[str | Path | Genome],
    path: str | Path,
    config: SequenceConfig,
    training: TrainingConfig,
    generator: torch.Generator,
    *,
    seed: int,
    objective: str,
    window: int,
    validation_contigs: Sequence[str] | None,
    progress_bar: bool,
    trainer_kwargs: dict[str, Any],
) -> list[dict[str, float]]:
    """Train a :class:`LanguageModel` on genomes and save it; an interrupted run is resumed.

    The arguments are those of :meth:`titans_ts.TitansClassifier.pretrain`.
    """
    if objective not in OBJECTIVES:
        raise ValueError(f"objective is {objective!r}; choose one of {list(OBJECTIVES)}")
    if objective == "causal" and config.bidirectional != "none":
        raise ValueError(
            f"bidirectional is {config.bidirectional!r}, so the model would see the next letter; "
            "give objective='masked', or bidirectional='none'"
        )
    if not isinstance(window, numbers.Integral) or window < 4 * config.stride:
        raise ValueError(
            f"window is {window!r}; it must be a whole number of at least four tokens (of "
            f"{config.stride} letters each)"
        )
    if isinstance(validation_contigs, str):
        validation_contigs = [validation_contigs]
    check_replaceable(path)
    unfinished = _unfinished(path)
    opened = [g if isinstance(g, Genome) else Genome(g) for g in genomes]
    kept, held_out = split_windows(opened, window, training.validation_fraction, validation_contigs)
    request = {
        "genomes": [
            [str(g.path), g.path.stat().st_size, g.path.stat().st_mtime_ns, g.pad_invalid]
            for g in opened
        ],
        "objective": objective,
        "window": int(window),
        "contigs": None if validation_contigs is None else list(validation_contigs),
        "model": to_dict(config),
        "training": to_dict(dataclasses.replace(training, trainer_kwargs=None, resume=None)),
        "seed": seed,
    }
    max_samples = training.samples_per_epoch
    model = LanguageModel(config)
    unfinished.begin(request)
    augment = config.rc != "none"
    data = _Windows(opened, kept, config.soft_masked, generator if augment else None)
    validation = _Windows(opened, held_out, config.soft_masked, None)
    history = train(
        model,
        partial(letter_loss, objective=objective),
        batches(data, training.batch_size, generator, max_samples=max_samples),
        batches(validation, training.batch_size, max_samples=max(1, max_samples // 10))
        if held_out
        else None,
        training,
        progress_bar=progress_bar,
        trainer_kwargs=trainer_kwargs,
        resume=unfinished.folder,
        generator=generator,
    )
    content = {"model": LanguageModel.__name__, "config": to_dict(config), "objective": objective}
    save_directory(path, content, model.state_dict())
    unfinished.end()
    return history


def unfinished_seed(path: str | Path) -> int | None:
    """Return the seed of the unfinished run for `path`, or None without such a run."""
    return _unfinished(path).seed()


def _unfinished(path: str | Path) -> UnfinishedRun:
    """Return the folder beside `path` for an unfinished run."""
    return UnfinishedRun(Path(f"{Path(path)}.unfinished"))  # Path() removes a final slash


def initialise(model: SequenceModel, source: SequenceModel, freeze: str) -> None:
    """Copy the tokenizer and the backbone of a pretrained model, and freeze the parts in `freeze`."""
    if freeze not in FREEZE:
        raise ValueError(f"freeze is {freeze!r}; choose one of {list(FREEZE)}")
    model.tokenizer.load_state_dict(source.tokenizer.state_dict())
    model.backbone.load_state_dict(source.backbone.state_dict())
    if model.backwards is not None:
        model.backwards.load_state_dict((source.backwards or source.backbone).state_dict())
    if freeze != "none":
        model.tokenizer.requires_grad_(False).eval()
    if freeze == "backbone":
        model.backbone.requires_grad_(False)
        if model.backwards is not None:
            model.backwards.requires_grad_(False)


def pretrained_config(source: SequenceModel, config: SequenceConfig) -> SequenceConfig:
    """Return a configuration with tokenizer and backbone of a pretrained model."""
    own = source.config
    backbone = dataclasses.replace(own.backbone, dropout=config.backbone.dropout)
    values = {name: getattr(own, name) for name in TOKENS}
    if config.bidirectional == "none":  # reading backwards was also pretrained
        values["bidirectional"] = own.bidirectional
    return dataclasses.replace(config, backbone=backbone, **values)


def load_body(path: str | Path, soft_masked: str | None = None) -> SequenceModel:
    """Load a sequence model: one of :data:`PRETRAINED`, or what :func:`pretrain` or an estimator saved.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such model, or it reads lower case in another way than `soft_masked`.
    """
    with torch.random.fork_rng(devices=[]):  # its first weights are random
        model = _load_body(path)
    own = model.config.soft_masked
    if soft_masked not in (None, own):
        raise ValueError(
            f"soft_masked is {soft_masked!r}, but the pretrained model was trained with {own!r}; give "
            "that"
        )
    return model


def _load_body(path: str | Path) -> SequenceModel:
    folder = _FOLDER / path if path in PRETRAINED else path
    try:
        content, tensors = load_directory(folder)
    except FileNotFoundError as error:
        known = ", ".join(map(repr, PRETRAINED))
        raise FileNotFoundError(f"{error}, or one of the package ({known})") from error
    if content.get("model") == LanguageModel.__name__:
        return load_model(folder, LanguageModel).body
    kind, config = content.get("estimator"), content.get("model")
    if kind is None or not isinstance(config, dict) or "tokenizer" not in config:
        raise ValueError(
            f"pretrained is {str(path)!r}, which has a {kind or config}; give a model of `pretrain`, or "
            "a saved TitansClassifier or TitansRegressor"
        )
    model = SequenceModel(from_dict(SequenceConfig, config))
    model.load_state_dict(model_weights(tensors))
    return model


Place = tuple[int, str, int, int]


def split_windows(
    genomes: list[Genome], window: int, fraction: float, contigs: Sequence[str] | None
) -> tuple[list[Place], list[Place]]:
    """Return adjacent windows: those to train on, and those to hold out.

    Held out are `contigs`; by default those of :func:`_chosen`, or, if there are none, the end of every
    contig with several windows. A single window in total is not held out.
    """
    lengths = {(i, c): n for i, g in enumerate(genomes) for c, n in g.lengths.items()}
    if contigs is not None:
        unknown = set(contigs) - {c for _, c in lengths}
        if unknown:
            raise ValueError(
                f"validation_contigs has {min(unknown)!r}, which is in no genome; they have "
                f"{[c for _, c in lengths][:20]}"
            )
        chosen = {key for key in lengths if key[1] in contigs}
    else:
        chosen = _chosen(lengths, fraction, window)
    kept: list[Place] = []
    held_out: list[Place] = []
    for (i, contig), length in lengths.items():
        last = length
        if contigs is None and fraction > 0 and not chosen:
            last = int(length * (1 - fraction))
        for start in range(0, length, window):
            stop = min(start + window, length)
            if stop - start < window // 2 and start:
                continue  # a short rest would mostly be padding
            at_end = stop > last and start > 0  # the first window is for training
            part = held_out if (i, contig) in chosen or at_end else kept
            part.append((i, contig, start, stop))
    if not kept:
        raise ValueError(
            f"the genomes leave nothing to train on with validation_fraction {fraction} and "
            f"validation_contigs {contigs}; hold out less"
        )
    return kept, held_out


def _chosen(
    lengths: dict[tuple[int, str], int], fraction: float, window: int
) -> set[tuple[int, str]]:
    """Return contigs to hold out, small ones first: 0.5 to 2 times `fraction` of all letters, or none.

    The largest contig is never held out. If no contig has several windows, the smallest is held out.
    """
    chosen: set[tuple[int, str]] = set()
    target, total = fraction * sum(lengths.values()), 0
    by_length = sorted(
        (key for key in lengths if lengths[key]), key=lambda key: (lengths[key], key)
    )
    for key in by_length[:-1]:
        if total >= target or total + lengths[key] > 2 * target:
            break
        chosen.add(key)
        total += lengths[key]
    if total >= target / 2:
        return chosen
    no_end = all(n < window + window // 2 for n in lengths.values())
    return chosen | set(by_length[:-1][:1]) if no_end else set()


class _Windows:
    """Batches of windows of genomes as padded codes; with a generator, of a random strand each."""

    def __init__(
        self,
        genomes: list[Genome],
        places: list[Place],
        soft_masked: str,
        generator: torch.Generator | None,
    ) -> None:
        self._genomes, self._places = genomes, places
        self._soft_masked, self._generator = soft_masked, generator

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        return pad_codes(list(self._codes(indices)))

    def _codes(self, indices: list[int]) -> Iterator[NDArray[np.uint8]]:
        for i in indices:
            genome, contig, start, stop = self._places[i]
            codes = ContigCodes(self._genomes[genome], contig, self._soft_masked)[start:stop]
            flipped = (
                self._generator is not None and torch.rand((), generator=self._generator) < 0.5
            )
            yield complement_codes(codes) if flipped else codes
