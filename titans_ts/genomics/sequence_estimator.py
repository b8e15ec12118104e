"""What the estimators for DNA share: reading sequences, holding out, training, answering."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split
from sklearn.utils import Tags, check_random_state
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from titans_ts.config import (
    BackboneConfig,
    ModelOptions,
    SequenceConfig,
    TrainingConfig,
    TrainingOptions,
    from_dict,
)
from titans_ts.datasets import FastaRegions, Genome
from titans_ts.estimator import TitansEstimator
from titans_ts.genomics.genome_tools import GenomeTools
from titans_ts.genomics.inference import network_logits
from titans_ts.genomics.kmer_model import CountedWords, learn_words
from titans_ts.genomics.kmers import KmerCounts, telling_words
from titans_ts.genomics.pretraining import (
    initialise,
    pretrain,
    pretrained_config,
    unfinished_seed,
)
from titans_ts.nn.dna.model import STRANDS, SequenceModel
from titans_ts.nn.dna.nucleotides import LOWER_CASE, encode_nucleotides, pad_codes
from titans_ts.nn.dna.tokenizers import ConvTokenizer, learn_merges
from titans_ts.training import bucketed_batches, cut_by_length, sequence_loss, train

__all__ = [
    "Codes",
    "SequenceEstimator",
    "check_lengths",
    "check_target",
    "encode_sequences",
    "keep_every_class",
]

Codes = NDArray[np.uint8]

_COUNTED = 3_000_000
"""Letters, about, whose words are counted to begin with."""

_COUNTS = 200_000_000
"""Counts of words to learn from, about: of more sequences, some at random tell them."""

_WEIGHTS = 2**24
"""Of counted words, at most."""

_TOKENS = 32_768
"""Tokens of a batch at most, padding included."""


@dataclass(eq=False, repr=False)
class SequenceEstimator(GenomeTools, TitansEstimator):
    """Base of the estimators for DNA; the parameters are described where they are used."""

    tokenizer: str = SequenceConfig.tokenizer
    _: KW_ONLY
    kernel_size: int | None = SequenceConfig.kernel_size
    stride: int = SequenceConfig.stride
    position: bool = SequenceConfig.position
    gaps: int = SequenceConfig.gaps
    every_word: bool = SequenceConfig.every_word
    n_filters: int = SequenceConfig.n_filters
    first_filters: str = "random"
    counted_words: int = 0
    counted_gaps: int = 0
    n_merges: int = 1000
    lower_case: str = SequenceConfig.lower_case
    rc: str = SequenceConfig.rc
    bidirectional: str = SequenceConfig.bidirectional
    read_out: str = SequenceConfig.read_out
    variant: str = "mag"
    d_model: int = BackboneConfig.d_model
    n_layers: int = BackboneConfig.n_layers
    n_heads: int = BackboneConfig.n_heads
    max_length: int | None = None
    max_epochs: int | None = TrainingConfig.max_epochs
    batch_size: int = TrainingConfig.batch_size
    learning_rate: float = TrainingConfig.learning_rate
    pretrained: str | Path | None = None
    freeze: str = "none"
    model_options: ModelOptions | dict[str, Any] | None = None
    training_options: TrainingOptions | dict[str, Any] | None = None
    device: str = "auto"
    random_state: int | np.random.RandomState | None = None
    progress_bar: bool = True

    model_: SequenceModel = field(init=False)
    words_: CountedWords | None = field(init=False)

    def __sklearn_tags__(self) -> Tags:
        """X is one str a sequence."""
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False  # but for a single column, as of a ColumnTransformer
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
        """Learn the letters of genomes, and save what was learned for ``pretrained=path``.

        The tokenizer, the backbone and how to train are this estimator's; it is not fitted by this. With
        `rc` other than "none", windows of either strand are read. A run that was interrupted leaves
        ``PATH.unfinished``, from which the same call goes on after the last full pass.

        Parameters
        ----------
        genomes : str, Path, Genome, or a list of them
            FASTA files.
        path : str or Path
            Directory to write.
        objective : {"causal", "masked"}
            Tell the letters of the next token from all before it, or hidden letters from those around.
        window : int
            Letters of a window; windows lie side by side.
        validation_contigs : sequence of str, optional
            Contigs to hold out; default: small ones that make up `validation_fraction`; where there are
            none, the end of every contig of several windows; where there is none of these either, the
            smallest of several contigs.

        Returns
        -------
        list of dict
            Losses of every epoch, in nats a letter (at random: ln 4 = 1.386).

        Raises
        ------
        TypeError, ValueError
            If something cannot be used, or `path` holds no model or another run's rest.
        """
        training = self._training_config()
        self._check_rc()
        rc = "augment" if self.rc != "none" else "none"
        config = self._config(SequenceConfig, backbone=self._backbone_config(), rc=rc)
        one = isinstance(genomes, (str, Path, Genome))
        seed = None
        if not isinstance(self.random_state, numbers.Integral):
            seed = unfinished_seed(path)  # any will do: that of the run to go on with
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
        wanted: NDArray[Any],
        *,
        groups: Any,
        validation: tuple[list[Codes], NDArray[Any]] | None,
        weight: NDArray[np.float64] | None = None,
        **outputs: Any,
    ) -> None:
        """Train `model_` to answer `wanted` `[N, ...]`; nothing changes if it fails."""
        training = self._training_config()
        self._check_rc()
        self._check_max_length(outputs)
        self._check_first_filters()
        self._check_counted_words(outputs)
        if self.freeze != "none" and self.pretrained is None:
            raise ValueError(
                f"freeze is {self.freeze!r}, but there is no pretrained model to freeze"
            )
        data = _Labelled(sequences, wanted)
        if groups is not None:
            groups = _read_groups(groups, len(data))
        longest = max(len(s) for s in sequences)
        told = data.told()
        if not told.all():  # from the others nothing can be learned
            data = data.some(np.flatnonzero(told))
            groups = None if groups is None else groups[told]
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        if validation is None:
            n_held_out = int(training.validation_fraction * len(data))
            if groups is not None and training.validation_fraction > 0:
                n_held_out = max(1, n_held_out)  # a group, which may be large
            kept, held_out = _split(
                data.wanted if outputs["output"] == "classes" else None,
                groups,
                n_held_out,
                len(data),
                seed,
            )
            parts = data.some(kept), data.some(held_out)
        else:
            if groups is not None:
                raise ValueError(
                    "groups say what to hold out, but a validation part is given; drop one"
                )
            longest = max(longest, *(len(s) for s in validation[0]))
            others = _Labelled(*validation)
            parts = data, others.some(np.flatnonzero(others.told()))
        if self.rc == "auto" and len(parts[1]) == 0:
            raise ValueError(
                "rc is 'auto', but no validation part is held out to choose by; raise "
                "validation_fraction, or choose another rc"
            )
        if self.counted_words and len(parts[1]) == 0:
            raise ValueError(
                f"counted_words is {self.counted_words}, but no sequence is held out to tell what they "
                "are worth; raise validation_fraction, give a validation part, or count no words (0)"
            )
        parts = parts[0], parts[1].at_most(training.samples_per_epoch, seed)
        # of one seed, so that they differ in nothing else
        choices = ("average", "none") if self.rc == "auto" else (self.rc,)
        model, history = min(
            (self._trained(*parts, training, rc, weight, seed, longest, outputs) for rc in choices),
            key=lambda trained: min(e.get("validation_loss", np.inf) for e in trained[1]),
        )
        model.to(self._device())
        words = None
        if self.counted_words:
            words = self._count_words(model, *parts, weight, seed, refit=validation is None)
        self.model_, self.history_, self.words_ = model, history, words

    def _trained(
        self,
        data: _Labelled,
        held_out: _Labelled,
        training: TrainingConfig,
        rc: str,
        weight: NDArray[np.float64] | None,
        seed: int,
        longest: int,
        outputs: dict[str, Any],
    ) -> tuple[SequenceModel, list[dict[str, float]]]:
        """A model and its history."""
        merges: tuple[str, ...] = ()
        if self.tokenizer == "bpe" and self.pretrained is None:
            merges = learn_merges(data.sequences, self.n_merges)
        config: SequenceConfig = self._config(
            SequenceConfig,
            backbone=self._backbone_config(),
            rc=rc,
            merges=merges,
            length=longest if self.read_out == "flatten" or "n_bins" in outputs else 0,
            **outputs,
        )
        source = None
        if self.pretrained is not None:
            config, source = pretrained_config(self.pretrained, config)
        with self._seeded(seed) as generator:
            model = SequenceModel(config)
            if self.first_filters == "words":
                self._begin_with_words(model, data, outputs["output"], generator)
            if source is not None:
                initialise(model, source, self.freeze)
            validation = None
            if len(held_out):
                part = held_out.cropped(self.max_length)
                validation = part.in_order(4 * training.batch_size, config.stride)
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
                    max_tokens=_TOKENS if max(cropped.lengths) > 512 else None,
                ),
                validation,
                training,
                progress_bar=self.progress_bar,
                trainer_kwargs=self._trainer_kwargs(),
            )
        return model, history

    def _count_words(
        self,
        model: SequenceModel,
        data: _Labelled,
        held_out: _Labelled,
        weight: NDArray[np.float64] | None,
        seed: int,
        refit: bool,
    ) -> CountedWords:
        """Learn what words tell beside the model."""
        k, gaps = int(self.counted_words), int(self.counted_gaps)
        counter = KmerCounts(k, gaps, both_strands=model.config.rc != "none")
        classes = model.config.output == "classes"
        some, others = (part.few(counter, classes, seed) for part in (data, held_out))
        return learn_words(
            counter,
            (some.sequences, some.wanted),
            (others.sequences, others.wanted),
            network_logits(model, others.sequences),
            model.config.output,
            weight,
            refit=refit,
        )

    def _begin_with_words(
        self, model: SequenceModel, data: _Labelled, output: str, generator: torch.Generator
    ) -> None:
        """Let the motif filters begin as words that tell what is wanted."""
        assert isinstance(model.tokenizer, ConvTokenizer)
        chosen: list[int] = []
        counted: list[Codes] = []
        letters = 0
        for i in torch.randperm(len(data), generator=generator).tolist():
            if letters < _COUNTED:  # of more, a part tells them
                chosen.append(i)
                counted.append(data.sequences[i][: _COUNTED - letters])
                letters += len(counted[-1])
        wanted = data.wanted[chosen]
        if output == "classes":
            wanted = np.eye(model.config.n_outputs)[wanted]
        wanted = wanted.reshape(len(chosen), -1, wanted.shape[-1])
        known = ~np.isnan(wanted)
        total = np.where(known, wanted, 0).sum(1)  # of a track, what is known of it
        wanted = np.where(known.any(1), total / np.maximum(known.sum(1), 1), np.nan)
        k = min(6, model.tokenizer.kernel_size)
        words = telling_words(
            counted,
            wanted,
            model.config.n_filters,
            k=k,
            gaps=min(2, model.tokenizer.kernel_size - k),
            both_strands=self.rc != "none",
        )
        model.tokenizer.begin_with(words)

    def _logits(self, X: Any) -> NDArray[np.float64]:
        """The model's outputs `[N, ...]`; a sequence too long for a batch is read in pieces."""
        check_is_fitted(self, "model_")
        return self._logits_of_codes(self._read_fitted(X))

    def _logits_of_codes(self, codes: Codes | list[Codes]) -> NDArray[np.float64]:
        """As :meth:`_logits`, for codes `[N, T]`, or N arrays `[T]`."""
        if self.model_.config.n_bins:
            check_lengths(codes, self.model_.config.length)
        logits = network_logits(self.model_, codes)
        return logits if self.words_ is None else self.words_.beside(logits, list(codes))

    def _saved(self, **fitted: Any) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """What was fitted beside the network, and the words that are counted, if any."""
        if self.words_ is None:
            return fitted, {}
        words, tensors = self.words_.saved()
        return fitted | {"words": words}, tensors

    def _restore(
        self, model: dict[str, Any], fitted: dict[str, Any], tensors: dict[str, Tensor]
    ) -> None:
        saved = fitted.get("words")
        self.words_ = None if saved is None else CountedWords.restored(saved, tensors)
        self.model_ = SequenceModel(from_dict(SequenceConfig, model))

    def _check_rc(self) -> None:
        if self.rc not in (*STRANDS, "auto"):
            raise ValueError(f"rc is {self.rc!r}; choose one of {[*STRANDS, 'auto']}")

    def _check_first_filters(self) -> None:
        if self.first_filters not in ("random", "words"):
            raise ValueError(
                f"first_filters is {self.first_filters!r}; choose one of ['random', 'words']"
            )
        if self.first_filters == "words" and (
            self.tokenizer != "conv" or self.pretrained is not None
        ):
            raise ValueError(
                "first_filters is 'words', which needs the tokenizer 'conv', and no pretrained model; "
                "give 'random'"
            )

    def _check_counted_words(self, outputs: dict[str, Any]) -> None:
        k, gaps = self.counted_words, self.counted_gaps
        for name, value in (("counted_words", k), ("counted_gaps", gaps)):
            whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
            if not whole or not 0 <= value <= 10:
                raise ValueError(f"{name} is {value!r}; give a whole number of letters, 0 to 10")
        if not k:
            return
        if "n_bins" in outputs:
            raise ValueError(
                f"counted_words is {k!r}, but words of a whole sequence do not tell bins of a track; "
                "give 0"
            )
        n_words = math.comb(k + gaps - 1, gaps) * 4**k
        if n_words * outputs["n_outputs"] > _WEIGHTS:
            raise ValueError(
                f"counted_words is {k!r} and counted_gaps {gaps!r}: {n_words} words for each of "
                f"{outputs['n_outputs']} answers are more than {_WEIGHTS} weights; give less of either"
            )

    def _check_max_length(self, outputs: dict[str, Any]) -> None:
        if self.max_length is None:
            return
        if not isinstance(self.max_length, numbers.Integral) or self.max_length < 1:
            raise ValueError(f"max_length is {self.max_length!r}; give a whole number, or None")
        if "n_bins" in outputs or self.read_out == "flatten":
            what = "a track's bins" if "n_bins" in outputs else "the read-out 'flatten'"
            raise ValueError(
                f"max_length is {self.max_length!r}, but {what} need whole sequences; give None"
            )

    def _read(self, X: Any, name: str = "X") -> list[Codes]:
        """The sequences to learn from."""
        if self.lower_case not in LOWER_CASE:
            raise ValueError(f"lower_case is {self.lower_case!r}; choose one of {list(LOWER_CASE)}")
        return encode_sequences(X, self.lower_case, name)

    def _read_fitted(self, X: Any, name: str = "X") -> list[Codes]:
        """The sequences to answer for, read as those that were fitted."""
        return encode_sequences(X, self.model_.config.lower_case, name)


class _Labelled:
    """Sequences and what is wanted of them, as padded tensors, a batch at a time."""

    def __init__(
        self,
        sequences: list[Codes],
        wanted: NDArray[Any],
        most: int | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        self.sequences, self.wanted = sequences, wanted
        self._most, self._generator = most, generator
        self.lengths = [min(len(s), most or len(s)) for s in sequences]

    def __len__(self) -> int:
        return len(self.sequences)

    def __getitem__(self, indices: list[int]) -> tuple[Tensor, Tensor, Tensor]:
        codes, lengths = pad_codes([self._part(self.sequences[i]) for i in indices])
        return codes, lengths, torch.from_numpy(self.wanted[indices])

    def some(self, chosen: NDArray[np.int64]) -> _Labelled:
        """Those of these numbers."""
        return _Labelled([self.sequences[i] for i in chosen], self.wanted[chosen])

    def told(self) -> NDArray[np.bool_]:
        """`[N]`: of which anything is wanted."""
        known: NDArray[np.bool_] = ~np.isnan(self.wanted.reshape(len(self), -1)).all(1)
        return known

    def at_most(self, most: int, seed: int) -> _Labelled:
        """All, or so many at random."""
        if len(self) <= most:
            return self
        return self.some(np.sort(np.random.default_rng(seed).permutation(len(self))[:most]))

    def few(self, counter: KmerCounts, classes: bool, seed: int) -> _Labelled:
        """All, or as many as `_COUNTS` words are in, at random; of classes, one of each first."""
        order = np.random.default_rng(seed).permutation(len(self))
        first = np.unique(self.wanted[order], return_index=True)[1] if classes else np.array([0])
        order = np.concatenate([order[first], np.delete(order, first)])
        each = (1 + counter.both_strands) * len(counter.places())
        counts = np.minimum(np.array([len(s) for s in self.sequences]), 4**counter.k) * each
        last = max(len(first), int(np.searchsorted(counts[order].cumsum(), _COUNTS, side="right")))
        return self.some(np.sort(order[:last]))

    def cropped(self, most: int | None, generator: torch.Generator | None = None) -> _Labelled:
        """Of longer sequences a stretch of `most` letters: a random one each time, or the middle."""
        return _Labelled(self.sequences, self.wanted, most, generator)

    def in_order(self, batch_size: int, stride: int) -> Any:
        """Batches from short to long."""
        order = np.argsort(self.lengths, kind="stable")
        lengths = [-(-self.lengths[i] // stride) for i in order]
        chosen = [
            [int(order[j]) for j in cut] for cut in cut_by_length(lengths, batch_size, _TOKENS)
        ]
        source: Any = self
        return torch.utils.data.DataLoader(source, sampler=chosen, batch_size=None)

    def _part(self, codes: Codes) -> Codes:
        if self._most is None or len(codes) <= self._most:
            return codes
        start = (len(codes) - self._most) // 2
        if self._generator is not None:
            start = int(torch.randint(len(codes) - self._most + 1, (), generator=self._generator))
        return codes[start : start + self._most]


def encode_sequences(X: Any, lower_case: str = "same", name: str = "X") -> list[Codes]:
    """Codes of sequences, one `[T]` each.

    Parameters
    ----------
    X : list, array or Series of str, a frame of one column, or FastaRegions
        N sequences. Whatever has a `to_pandas` method (polars, pyarrow) is a Series or a frame.
    lower_case : {"same", "marked", "absent"}
        What lower-case letters are.
    name : str
        What X is called in an error.

    Raises
    ------
    TypeError, ValueError
        If X is something else, is empty, or has a letter outside IUPAC.
    """
    if hasattr(X, "to_pandas"):
        X = X.to_pandas()
    if isinstance(X, (str, bytes)) or not isinstance(
        X, (Sequence, np.ndarray, pd.Series, pd.Index, pd.DataFrame)
    ):
        raise TypeError(
            f"{name} is a {type(X).__name__}; give a list, array or Series of str, or a frame of one "
            "column"
        )
    values: Any = X
    if not isinstance(X, FastaRegions) or len(X) == 0:  # which are read a place at a time
        values = np.asarray(list(X) if isinstance(X, Sequence) else X, dtype=object)
        if values.ndim == 2 and values.shape[1] == 1:
            values = values[:, 0]
        if values.ndim != 1 or len(values) == 0:
            raise ValueError(
                f"{name} has shape {values.shape}; give N >= 1 sequences, one str each"
            )
    sequences = []
    for i, value in enumerate(values):
        if not isinstance(value, str):
            raise TypeError(f"{name}[{i}] is {value!r}, a {type(value).__name__}; give a str")
        try:
            sequences.append(encode_nucleotides(value, lower_case))
        except ValueError as error:
            raise ValueError(f"{name}[{i}]: {error}") from None
    return sequences


def check_lengths(sequences: Codes | list[Codes], length: int) -> None:
    """Raise ValueError unless all sequences have this length, as the bins of a track need."""
    for i, sequence in enumerate(sequences):
        if len(sequence) != length:
            raise ValueError(
                f"X[{i}] has {len(sequence)} letters, not {length}; a track is of sequences of one length"
            )


def check_target(y: Any) -> None:
    """Raise ValueError if there is nothing to learn, in the words that scikit-learn looks for."""
    if y is None:
        raise ValueError(
            "fit requires y to be passed, but the target y is None; give what each sequence is to answer"
        )


def _read_groups(groups: Any, n: int) -> NDArray[Any]:
    groups = np.asarray(groups)
    if groups.shape != (n,):
        raise ValueError(f"groups has shape {groups.shape}, but X has {n} sequences; give one each")
    if pd.isna(groups).any():
        raise ValueError(
            f"groups[{int(pd.isna(groups).argmax())}] is missing; give every sequence one"
        )
    return groups


def _some_groups(
    groups: NDArray[Any], classes: NDArray[np.int64], n_held_out: int, seed: int
) -> NDArray[np.bool_]:
    """Which sequences to hold out: groups drawn at random, about so many sequences, no class's last."""
    names, group = np.unique(groups, return_inverse=True)
    if len(names) < 2:
        raise ValueError(
            f"groups are all {str(names[0])!r}; a part cannot be held out, give groups=None"
        )
    counts = np.zeros((len(names), classes.max() + 1), np.int64)
    np.add.at(counts, (group, classes), 1)
    kept, sizes = counts.sum(0), counts.sum(1)
    chosen: list[int] = []
    total = 0
    for i in np.random.default_rng(seed).permutation(len(names)):
        nearer = abs(total + sizes[i] - n_held_out) < abs(total - n_held_out)
        if nearer and (kept > counts[i]).all():
            chosen.append(i)
            total, kept = total + sizes[i], kept - counts[i]
    if not chosen:  # all are too large: the smallest that may be
        may = (kept > counts).all(1)
        if not may.any():
            raise ValueError(
                "groups hold out every sequence of a class; merge groups, or give a validation part"
            )
        chosen = [int(np.where(may, sizes, sizes.max() + 1).argmin())]
    return np.isin(group, chosen)


def _split(
    classes: NDArray[np.int64] | None,
    groups: NDArray[Any] | None,
    n_held_out: int,
    n: int,
    seed: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which of n sequences to train on and which to hold out.

    Whole groups, if there are some; otherwise stratified where every class allows it; where one is too
    rare, at random, but nothing of a class that training would be without.
    """
    everything = np.arange(n)
    if n_held_out == 0:
        return everything, everything[:0]
    if groups is not None:
        same = np.zeros(n, np.int64)
        chosen = _some_groups(groups, same if classes is None else classes, n_held_out, seed)
        return everything[~chosen], everything[chosen]
    by_class = (
        classes is not None
        and np.bincount(classes).min() >= 2
        and min(n_held_out, n - n_held_out) >= classes.max() + 1
    )
    kept, held_out = train_test_split(
        everything,
        test_size=n_held_out,
        stratify=classes if by_class else None,
        random_state=seed,
    )
    return (kept, held_out) if classes is None else keep_every_class(kept, held_out, classes)


def keep_every_class(
    kept: NDArray[np.int64], held_out: NDArray[np.int64], classes: NDArray[Any]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows to learn from and rows to hold out, nothing of a class that the former would be without."""
    known = np.isin(classes[held_out], classes[kept])
    return np.append(kept, held_out[~known]), held_out[known]
