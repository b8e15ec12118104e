"""Base of the estimators for DNA: reading sequences, holding out, training, prediction."""

from __future__ import annotations

import math
import numbers
import sys
import time
from abc import abstractmethod
from collections.abc import Sequence
from copy import copy
from dataclasses import KW_ONLY, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils import Tags, check_random_state
from sklearn.utils.validation import check_is_fitted
from torch import Tensor
from tqdm import tqdm

from titans_ts.config import (
    SEQUENCE_PRESETS,
    BackboneConfig,
    ModelOptions,
    SequenceCandidate,
    SequenceConfig,
    TrainingConfig,
    TrainingOptions,
    check_integer,
    from_dict,
)
from titans_ts.datasets import Genome
from titans_ts.estimator import TitansEstimator, plain, savable_params
from titans_ts.genomics.dataset import SequenceDataset
from titans_ts.genomics.defaults import (
    Look,
    default_epochs,
    default_kmer_model,
    network_defaults,
    pretrained_pooling,
    pretrained_rate,
    quick_look,
)
from titans_ts.genomics.genome_tools import GenomeTools
from titans_ts.genomics.inference import BATCH_TOKENS, network_logits
from titans_ts.genomics.kmer_model import FittedKmerModel, LinearFit, fit_linear, mix
from titans_ts.genomics.kmers import KmerVectorizer
from titans_ts.genomics.motif_filters import initialise_filters
from titans_ts.genomics.options import (
    TOKENIZER_OPTIONS,
    BPETokenizer,
    ConvTokenizer,
    KmerModel,
    KmerTokenizer,
    NucleotideTokenizer,
    ResidualTokenizer,
    read_kmer_model,
    read_tokenizer,
)
from titans_ts.genomics.parse import Codes, check_lengths, encode_sequences
from titans_ts.genomics.positions import n_position_features
from titans_ts.genomics.pretraining import (
    TOKENS,
    initialise,
    load_body,
    pretrain,
    pretrained_config,
    unfinished_seed,
)
from titans_ts.genomics.splitting import check_groups, hold_out
from titans_ts.nn.dna.model import STRANDS, SequenceModel
from titans_ts.nn.dna.nucleotides import SOFT_MASKED
from titans_ts.nn.dna.tokenizers import learn_merges
from titans_ts.training import begin_fit, bucketed_batches, memory_change, sequence_loss, train
from titans_ts.types import (
    Directions,
    DNATokenizerName,
    Freeze,
    PoolingName,
    RandomState,
    SequencePresetName,
    SequencesLike,
    SoftMasked,
    Strands,
    Variant,
)

__all__ = ["SequenceEstimator"]

_PLAIN: dict[str, Any] = {
    "tokenizer": SequenceConfig.tokenizer,
    "stride": SequenceConfig.stride,
    "position": SequenceConfig.position,
    "rc": SequenceConfig.rc,
    "pooling": SequenceConfig.pooling,
    "kmer_model": None,
    "n_layers": BackboneConfig.n_layers,
    "learning_rate": TrainingConfig.learning_rate,
}
"""Values of open parameters where nothing decides about them: in :meth:`SequenceEstimator.pretrain`."""

_MAX_WEIGHTS = 2**24
"""Largest number of weights of a k-mer model."""


@dataclass(eq=False, repr=False)
class SequenceEstimator(GenomeTools, TitansEstimator):
    """Base of the estimators for DNA; its subclasses describe the parameters."""

    tokenizer: (
        DNATokenizerName
        | NucleotideTokenizer
        | ConvTokenizer
        | ResidualTokenizer
        | KmerTokenizer
        | BPETokenizer
        | None
    ) = None
    _: KW_ONLY
    preset: SequencePresetName = "default"
    stride: int | None = None
    position: bool | None = None
    soft_masked: SoftMasked = SequenceConfig.soft_masked
    rc: Strands | None = None
    bidirectional: Directions = SequenceConfig.bidirectional
    pooling: PoolingName | None = None
    kmer_model: KmerModel | int | Literal["auto"] | None = "auto"
    variant: Variant = "mag"
    d_model: int = BackboneConfig.d_model
    n_layers: int | None = None
    n_heads: int = BackboneConfig.n_heads
    max_length: int | None = None
    max_epochs: int | None = TrainingConfig.max_epochs
    time_limit: float | None = TrainingConfig.time_limit
    batch_size: int = TrainingConfig.batch_size
    learning_rate: float | None = None
    pretrained: str | Path | None = None
    freeze: Freeze = "none"
    model_options: ModelOptions | dict[str, Any] | None = None
    training_options: TrainingOptions | dict[str, Any] | None = None
    device: str = "auto"
    random_state: RandomState = None
    progress_bar: bool = True

    model_: SequenceModel = field(init=False)
    kmer_model_: FittedKmerModel | None = field(init=False)
    chosen_: dict[str, Any] = field(init=False)

    option_types: ClassVar[dict[str, tuple[type[Any], ...]]] = {
        **TitansEstimator.option_types,
        "tokenizer": tuple(TOKENIZER_OPTIONS.values()),
        "kmer_model": (KmerModel,),
    }

    def options(self, name: str) -> Any:
        """As :meth:`TitansEstimator.options`, also for a tokenizer's name and a k-mer model's k.

        Options that a fit chooses are None.
        """
        if name == "tokenizer":
            return None if self.tokenizer is None else read_tokenizer(self.tokenizer)
        if name == "kmer_model":
            return None if self._is_open(name) else read_kmer_model(self.kmer_model)
        return super().options(name)

    def candidates(self) -> tuple[SequenceCandidate, ...]:
        """Return the networks that a fit trains: those of the preset, with `n_layers` if it is given.

        Raises
        ------
        ValueError
            If there is no preset of that name.
        """
        return tuple(dict.fromkeys(self._of_preset(SEQUENCE_PRESETS)))

    def _is_open(self, name: str) -> bool:
        """Return whether a fit chooses a parameter."""
        value = getattr(self, name)
        if name == "kmer_model":
            return isinstance(value, str) and value == "auto"
        return value is None

    def _settled(self, chosen: dict[str, Any]) -> SequenceEstimator:
        """Return a copy with chosen values of open parameters, and plain ones of the others."""
        settled = copy(self)
        for name, value in _PLAIN.items():
            if self._is_open(name):
                setattr(settled, name, chosen.get(name, value))
        # an epoch's length and number, and a crop: None is a value of theirs, too
        return settled.set_params(**{k: v for k, v in chosen.items() if k not in _PLAIN})

    def _sequence_config(self, **values: Any) -> SequenceConfig:
        tokenizer = {k: plain(v) for k, v in self.options("tokenizer").fields().items()}
        config: SequenceConfig = self._config(
            SequenceConfig, backbone=self._backbone_config(), **tokenizer, **values
        )
        return config

    def __sklearn_tags__(self) -> Tags:
        """X has one str per sequence."""
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False  # except a single column, as from a ColumnTransformer
        return tags

    def pretrain(
        self,
        genomes: Any,
        path: str | Path,
        *,
        objective: str = "causal",
        window: int = 1024,
        validation_contigs: Sequence[str] | None = None,
    ) -> list[dict[str, float]]:
        """Train a language model on genomes, and save it for ``pretrained=path``.

        The tokenizer, backbone and training settings are those of this estimator, which stays unfitted.
        With an `rc` other than "none", windows of both strands are read. An interrupted run leaves
        ``PATH.unfinished``, from which the same call resumes after the last complete epoch.

        Parameters
        ----------
        genomes : str, Path, Genome, or a list of them
            FASTA files.
        path : str or Path
            Directory to write.
        objective : {"causal", "masked"}
            What is predicted: the letters of the next token ("causal", default), or hidden letters from
            their context ("masked").
        window : int
            Letters of a window (default 1024); windows do not overlap.
        validation_contigs : sequence of str, optional
            Contigs to hold out. Default: small contigs with about `validation_fraction` of the letters;
            without such contigs, the end of every contig with several windows; without these, the
            smallest of several contigs.

        Returns
        -------
        list of dict
            The losses of every epoch, in nats per letter (at random: ln 4 = 1.386).

        Raises
        ------
        TypeError, ValueError
            If an argument is invalid, or `path` has something other than a model, or an unfinished run
            with other arguments.
        """
        settled = self._settled({})
        training = settled._training_config()
        settled._check_rc()
        rc = "augment" if settled.rc != "none" else "none"
        config = settled._sequence_config(rc=rc)
        one = isinstance(genomes, (str, Path, Genome))
        seed = None
        if not isinstance(self.random_state, numbers.Integral):
            seed = unfinished_seed(path)  # use the seed of the run to resume
        if seed is None:
            seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        with self._seeded(seed) as generator:
            return pretrain(
                [genomes] if one else list(genomes),
                path,
                config,
                training,
                generator,
                seed=seed,
                objective=objective,
                window=window,
                validation_contigs=validation_contigs,
                progress_bar=self.progress_bar,
                trainer_kwargs=self._trainer_kwargs(),
            )

    def _fit(
        self,
        sequences: list[Codes],
        target: NDArray[Any],
        *,
        groups: Any,
        validation: tuple[list[Codes], NDArray[Any]] | None,
        weight: NDArray[np.float64] | None = None,
        **outputs: Any,
    ) -> None:
        """Train `model_` to predict `target` `[N, ...]`; a failure does not change the estimator."""
        started = time.monotonic()
        plain_one = self._settled({})
        training = plain_one._training_config()
        source = None
        if self.pretrained is not None:
            source = load_body(self.pretrained, self.soft_masked)
        plain_one._check_rc()
        plain_one._check_max_length(outputs)
        plain_one._check_filter_init()
        self.candidates()
        if self.options("kmer_model") is not None:
            _check_kmer_model(self.options("kmer_model"), outputs)
        if self.freeze != "none" and self.pretrained is None:
            raise ValueError(
                f"freeze is {self.freeze!r}, but there is no pretrained model to freeze"
            )
        data = SequenceDataset(sequences, target)
        if groups is not None:
            groups = check_groups(groups, len(data))
        longest = max(len(s) for s in sequences)
        known = data.has_target()
        if not known.all():  # sequences without a target are left out
            data = data.take(np.flatnonzero(known))
            groups = None if groups is None else groups[known]
        run = begin_fit(
            self,
            X=sequences,
            y=target,
            groups=groups,
            weight=weight,
            validation=None if validation is None else [*validation[0], validation[1]],
        )
        state = self.random_state if run is None else run.seed()
        seed = int(check_random_state(state).randint(2**31 - 1))
        if validation is None:
            n_held_out = int(training.validation_fraction * len(data))
            if groups is not None and training.validation_fraction > 0:
                n_held_out = max(1, n_held_out)  # at least one group
            kept, held_out = hold_out(
                len(data),
                n_held_out,
                seed,
                classes=data.target if outputs["output"] == "classes" else None,
                groups=groups,
            )
            parts = data.take(kept), data.take(held_out)
        else:
            if groups is not None:
                raise ValueError(
                    "groups and validation both define the validation part; give only one of them"
                )
            longest = max(longest, *(len(s) for s in validation[0]))
            others = SequenceDataset(*validation)
            parts = data, others.take(np.flatnonzero(others.has_target()))
        if self.rc == "auto" and len(parts[1]) == 0:
            raise ValueError(
                "rc is 'auto', which needs a validation part, but none is held out; raise "
                "validation_fraction, or choose another rc"
            )
        if self.options("kmer_model") is not None and len(parts[1]) == 0:
            raise ValueError(
                f"kmer_model is {self.kmer_model!r}, but no sequence is held out to fit the mixing "
                "weights on; raise validation_fraction, give a validation part, or kmer_model=None"
            )
        parts = parts[0], parts[1].subsample(training.samples_per_epoch, seed)
        drawn = groups is None and validation is None
        chosen = self._choose(*parts, outputs, weight, seed, drawn)
        settled = self._settled(chosen)
        settled._check_max_length(outputs)
        options = settled.options("kmer_model")

        def kmers(rc: str) -> LinearFit | None:
            if options is None:
                return None
            return settled._fit_kmers(
                options, rc, *parts, weight, seed, outputs, refit=validation is None
            )

        # with "auto", the strands are known after the network
        strands = str(settled.rc)
        linear = None if strands == "auto" else kmers(strands)
        choices = ("average", "none") if strands == "auto" else (strands,)
        networks = [
            (rc, chosen | more)
            for rc in choices
            for more in self._networks(parts[0], settled, source)
        ]
        limit = training.time_limit
        if limit is not None:  # what is left of it, in equal parts
            limit = max(1.0, limit - (time.monotonic() - started)) / len(networks)
        if self.progress_bar and networks[0][1]:
            tqdm.write(_summary(networks[0][1]), file=sys.stderr)
        # the same seed, so the runs differ only in their parameters
        trained = (
            (
                *self._settled(own)._trained(
                    *parts,
                    limit,
                    rc,
                    weight,
                    seed,
                    longest,
                    outputs,
                    source,
                    run.network(number) if run else None,
                ),
                own,
            )
            for number, (rc, own) in enumerate(networks)
        )
        model, history, own = min(
            trained, key=lambda one: min(e.get("validation_loss", np.inf) for e in one[1])
        )
        model.to(self._device())
        if strands == "auto":
            linear = kmers(model.config.rc)
        fitted = None
        if linear is not None:
            counted = _counted(linear.vectorizer, parts[1], outputs["output"], seed)
            logits = network_logits(model, counted.sequences)
            fitted = mix(linear, logits, counted.target, outputs["output"], weight)
        self.model_, self.history_, self.kmer_model_, self.chosen_ = model, history, fitted, own
        if run is not None:
            run.end()
        self._print_idle_memory()

    def _choose(
        self,
        data: SequenceDataset,
        held_out: SequenceDataset,
        outputs: dict[str, Any],
        weight: NDArray[np.float64] | None,
        seed: int,
        drawn: bool,
    ) -> dict[str, Any]:
        """Return the values of the open parameters, except those of :meth:`_networks`."""
        names = [name for name in _PLAIN if self._is_open(name)]
        if self.pretrained is not None:
            names = [name for name in names if name not in (*TOKENS, "n_layers")]
        if not names:
            return {}
        if "n_bins" in outputs:  # a track: plain tokens, and no k-mer model
            return {name: _PLAIN[name] for name in names}
        look = Look.of(data)
        if self.rc != "auto" and {"rc", "kmer_model", "tokenizer", "pooling"} & set(names):
            size = outputs["output"], outputs["n_outputs"]
            look = quick_look(data, held_out, *size, seed=seed, weight=weight, drawn=drawn)
        rc = look.strands if self.rc is None else self.rc
        values: dict[str, Any] = {"rc": rc}
        if self.pretrained is None:
            values |= network_defaults(look, rc, self.tokenizer, self.stride)
        else:
            values["pooling"] = pretrained_pooling(look, rc)
        if values["pooling"] == "flatten" and self.max_length is not None:
            values["pooling"] = "max"  # random parts have no fixed positions
        pooling = self.pooling or values["pooling"]
        if self.pretrained is not None:
            values["learning_rate"] = pretrained_rate(pooling)
        values["kmer_model"] = default_kmer_model(look, rc) if len(held_out) else None
        chosen = {name: values.get(name, _PLAIN[name]) for name in names}
        if self.max_length is None and values.get("max_length") and pooling != "flatten":
            chosen["max_length"] = values["max_length"]
        return chosen

    def _networks(
        self, data: SequenceDataset, settled: SequenceEstimator, source: SequenceModel | None
    ) -> list[dict[str, Any]]:
        """Return the number of blocks and of epochs of every network to train, where they are open.

        A pretrained network has its blocks, so there is one, for as many letters as the preset allows.
        A single network of residual tokens has none: after these, they overfit.
        """
        networks = []
        lengths = data.cropped(settled.max_length).lengths
        tokens: tuple[Any, int] = settled.tokenizer, int(settled.stride or 1)
        candidates, given = self.candidates(), self.n_layers is not None
        if source is not None:
            tokens, given = (source.config.tokenizer, source.config.stride), True
            most = max(candidates, key=lambda one: one.letters)
            candidates = (most._replace(n_layers=source.config.backbone.n_layers),)
        residual = isinstance(settled.options("tokenizer"), ResidualTokenizer)
        if residual and not given and len(candidates) == 1:
            candidates = (candidates[0]._replace(n_layers=0),)
        for one in candidates:
            own: dict[str, Any] = {} if given else {"n_layers": one.n_layers}
            if self.max_epochs is None:
                own |= default_epochs(
                    lengths,
                    *tokens,
                    one,
                    settled._training_config(),
                    pretrained=source is not None,
                )
            if own not in networks:
                networks.append(own)
        return networks

    def _trained(
        self,
        data: SequenceDataset,
        held_out: SequenceDataset,
        time_limit: float | None,
        rc: str,
        weight: NDArray[np.float64] | None,
        seed: int,
        longest: int,
        outputs: dict[str, Any],
        source: SequenceModel | None,
        resume: Path | None,
    ) -> tuple[SequenceModel, list[dict[str, float]]]:
        """Train a model; return it and its history."""
        training = self._training_config(time_limit=time_limit)
        merges: tuple[str, ...] = ()
        tokenizer = self.options("tokenizer")
        if isinstance(tokenizer, BPETokenizer) and self.pretrained is None:
            merges = learn_merges(data.sequences, tokenizer.n_merges)
        config = self._sequence_config(
            rc=rc,
            merges=merges,
            length=longest if self.pooling == "flatten" or "n_bins" in outputs else 0,
            **outputs,
        )
        if source is not None:
            config = pretrained_config(source, config)
        with self._seeded(seed) as generator:
            model = SequenceModel(config)
            if isinstance(tokenizer, ConvTokenizer) and tokenizer.init == "kmers":
                initialise_filters(model, data, generator, both_strands=self.rc != "none")
            if source is not None:
                initialise(model, source, self.freeze)
            validation = None
            if len(held_out):
                part = held_out.cropped(self.max_length)
                validation = part.sorted_loader(4 * training.batch_size, config.stride)
            cropped = data.cropped(self.max_length, generator)
            history = train(
                model,
                partial(sequence_loss, weight=None if weight is None else torch.from_numpy(weight)),
                bucketed_batches(
                    cropped,
                    [-(-n // config.stride) for n in cropped.lengths],
                    training.batch_size,
                    generator,
                    max_samples=training.samples_per_epoch,
                    max_tokens=BATCH_TOKENS if max(cropped.lengths) > 512 else None,
                ),
                validation,
                training,
                progress_bar=self.progress_bar,
                trainer_kwargs=self._trainer_kwargs(),
                resume=resume,
                generator=generator,
            )
            history[-1] |= memory_change(model, sequence_loss, validation)
        return model, history

    def _fit_kmers(
        self,
        options: KmerModel,
        rc: str,
        data: SequenceDataset,
        held_out: SequenceDataset,
        weight: NDArray[np.float64] | None,
        seed: int,
        outputs: dict[str, Any],
        refit: bool,
    ) -> LinearFit:
        """Fit the linear k-mer model."""
        vectorizer = KmerVectorizer(
            int(options.k), int(options.gaps), rc != "none", int(options.positions), merged=True
        )
        output = outputs["output"]
        data, held_out = (_counted(vectorizer, part, output, seed) for part in (data, held_out))
        return fit_linear(
            vectorizer,
            (data.sequences, data.target),
            (held_out.sequences, held_out.target),
            output,
            outputs["n_outputs"],
            weight,
            refit=refit,
        )

    def _logits(self, X: Any) -> NDArray[np.float64]:
        """Return the model's outputs `[N, ...]`; sequences too long for a batch are read in pieces."""
        check_is_fitted(self, "model_")
        return self._logits_of_codes(self._read_fitted(X))

    def _logits_of_codes(self, codes: Codes | list[Codes]) -> NDArray[np.float64]:
        """As :meth:`_logits`, for codes `[N, T]`, or N arrays `[T]`."""
        if self.model_.config.n_bins:
            check_lengths(codes, self.model_.config.length)
        logits = network_logits(self.model_, codes)
        return logits if self.kmer_model_ is None else self.kmer_model_.combine(logits, list(codes))

    @property
    def _token_unit(self) -> tuple[str | None, int]:
        config = self.model_.config
        return (None if config.tokenizer == "bpe" else "letters"), config.stride

    def _facts(self) -> dict[str, str]:
        facts = {}
        classes = getattr(self, "classes_", None)
        if classes is not None:
            shown = ", ".join(str(name) for name in classes[:6]) + ", ..." * (len(classes) > 6)
            facts["fitted to"] = f"{len(classes)} classes ({shown})"
        if self.chosen_:
            facts["chosen"] = ", ".join(f"{name}={value!r}" for name, value in self.chosen_.items())
        return facts

    def export(
        self,
        path: str | Path,
        length: int | None = None,
        *,
        format: Literal["torch", "onnx"] | None = None,
    ) -> None:
        """Write the fitted model as one file that runs without this package.

        The file holds a graph of the whole forward pass: with torch.export it needs torch alone, with
        ONNX a runtime of that. docs/deployment.md says what is exported, what is not, and how the file
        is used.

        Parameters
        ----------
        path : str or Path
            The file, which ends with .pt2 or .onnx; one that exists is replaced.
        length : int, optional
            Largest number of letters of a sequence; shorter ones are padded. Default: the one that the
            model was fitted for, if it has one (a track, or ``pooling="flatten"``).
        format : {"torch", "onnx"}, optional
            torch.export or ONNX (default: that of the path). ONNX needs the packages of
            ``pip install 'titans-ts[onnx]'``.

        Raises
        ------
        NotFittedError
            If it is not fitted.
        ValueError
            If a part of the model cannot be exported; the message names it and what to do.
        """
        self._write_portable(path, format, length=length)

    def _portable_of(
        self,
        name: str,
        columns: list[Any],
        scale: tuple[Any, Any] | None = None,
        *,
        length: int | None,
    ) -> Any:
        """Return a :class:`titans_ts.exporting.Portable` with a result `name` of these columns."""
        from titans_ts.genomics.portable import portable_sequence_model

        own = self.model_.config.length
        if length is None and not own:
            raise ValueError(
                "length is None, but a graph reads a fixed number of letters; give that of the longest "
                "sequence"
            )
        if length is not None:
            check_integer("length", plain(length), 1, own or None)
        chosen = own if length is None else plain(length)
        return portable_sequence_model(
            self.model_, self.kmer_model_, chosen, (name, columns), scale
        )

    def _saved(self, **fitted: Any) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Return the fitted attributes, and the tensors of the k-mer model, if there is one."""
        fitted = fitted | {"chosen": savable_params(self.chosen_)}
        if self.kmer_model_ is None:
            return fitted, {}
        params, tensors = self.kmer_model_.to_tensors()
        return fitted | {"kmer_model": params}, tensors

    def _restore(
        self, model: dict[str, Any], fitted: dict[str, Any], tensors: dict[str, Tensor]
    ) -> None:
        chosen = fitted.get("chosen", {})  # earlier versions chose nothing
        self.chosen_ = {name: self._unpacked(name, value) for name, value in chosen.items()}
        saved = fitted.get("kmer_model")
        self.kmer_model_ = None if saved is None else FittedKmerModel.from_tensors(saved, tensors)
        self.model_ = SequenceModel(from_dict(SequenceConfig, model))

    @abstractmethod
    def predict(self, X: SequencesLike) -> Any:
        """Return a prediction for every sequence."""

    def _try_restored(self) -> None:
        """Predict one sequence, so that parts that do not fit are found when a model is loaded."""
        config = self.model_.config
        self.predict(["A" * (config.length if config.n_bins else 16)])

    def _check_rc(self) -> None:
        if self.rc not in (*STRANDS, "auto"):
            raise ValueError(f"rc is {self.rc!r}; choose one of {[*STRANDS, 'auto']}")

    def _check_filter_init(self) -> None:
        tokenizer = self.options("tokenizer")
        if getattr(tokenizer, "init", "random") != "random" and self.pretrained is not None:
            raise ValueError(
                f"tokenizer is {tokenizer!r}, but the filters come from the pretrained model; give "
                "init='random'"
            )

    def _check_max_length(self, outputs: dict[str, Any]) -> None:
        if self.max_length is None:
            return
        if not isinstance(self.max_length, numbers.Integral) or self.max_length < 1:
            raise ValueError(f"max_length is {self.max_length!r}; give a whole number, or None")
        if "n_bins" in outputs or self.pooling == "flatten":
            what = "a track's bins" if "n_bins" in outputs else "the pooling 'flatten'"
            raise ValueError(
                f"max_length is {self.max_length!r}, but {what} need whole sequences; give None"
            )

    def _read(self, X: Any, name: str = "X") -> list[Codes]:
        """Return the codes of the training sequences."""
        if self.soft_masked not in SOFT_MASKED:
            raise ValueError(
                f"soft_masked is {self.soft_masked!r}; choose one of {list(SOFT_MASKED)}"
            )
        return encode_sequences(X, self.soft_masked, name)

    def _read_fitted(self, X: Any, name: str = "X") -> list[Codes]:
        """Return the codes of sequences to predict, read as in training."""
        return encode_sequences(X, self.model_.config.soft_masked, name)


def _counted(
    vectorizer: KmerVectorizer, data: SequenceDataset, output: str, seed: int
) -> SequenceDataset:
    """Return the sequences whose k-mers are counted: all, or a random part of very many."""
    return data.subsample_for_counts(vectorizer, output == "classes", seed)


def _summary(chosen: dict[str, Any]) -> str:
    """Return a line with the chosen parameters."""
    return "chosen: " + ", ".join(f"{name}={value!r}" for name, value in chosen.items())


def _check_kmer_model(model: KmerModel, outputs: dict[str, Any]) -> None:
    if "n_bins" in outputs:
        raise ValueError(
            f"kmer_model is {model!r}, but k-mer counts of a whole sequence cannot predict the bins of "
            "a track; give None"
        )
    n_kmers = math.comb(model.k + model.gaps - 1, model.gaps) * 4**model.k
    n_kmers += n_position_features(model.positions)
    if n_kmers * outputs["n_outputs"] > _MAX_WEIGHTS:
        raise ValueError(
            f"kmer_model is {model!r}: {n_kmers} k-mers for each of {outputs['n_outputs']} outputs are "
            f"more than {_MAX_WEIGHTS} weights; reduce k or gaps"
        )
