"""Every default, once: frozen dataclasses that a model is built from and saved with."""

from __future__ import annotations

import dataclasses
import os
import types
import typing
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeVar

from titans_ts.types import (
    Directions,
    DNATokenizerName,
    OutputName,
    PoolingName,
    ScalerName,
    SoftMasked,
    Strands,
    Tokens,
    Variant,
)

__all__ = [
    "PRESETS",
    "SEQUENCE_PRESETS",
    "BackboneConfig",
    "Candidate",
    "ForecasterConfig",
    "MemoryConfig",
    "ModelOptions",
    "Options",
    "SequenceCandidate",
    "SequenceConfig",
    "TrainingConfig",
    "TrainingOptions",
    "check_integer",
    "from_dict",
    "to_dict",
]

Config = TypeVar("Config")


class Options:
    """Base of options: a dataclass whose repr shows the fields that are not at their defaults."""

    def __repr__(self) -> str:
        default = type(self)()
        fields = [f.name for f in dataclasses.fields(self)]  # type: ignore[arg-type]
        changed = [n for n in fields if getattr(self, n) != getattr(default, n)]
        return f"{type(self).__name__}({', '.join(f'{n}={getattr(self, n)!r}' for n in changed)})"


@dataclass(frozen=True, repr=False)
class MemoryConfig(Options):
    """The neural long-term memory (arXiv 2501.00663, section 3)."""

    depth: int = 2
    """L_M, layers of the memory's MLP; 1 is a linear memory."""
    expansion: int = 2
    """Width of the MLP's hidden layers, in head widths."""
    chunk_size: int = 16
    """b, tokens that share a gradient point: shorter learns faster, longer computes faster."""
    conv_size: int = 4
    """Taps of the causal depthwise convolution after each of the q, k and v projections."""
    momentum: bool = True
    """Whether past surprise carries over (eta)."""
    forget: bool = True
    """Whether the memory decays (alpha)."""
    forget_to: Literal["init", "zero"] = "init"
    """Towards what: "init", the learned initial memory, or "zero", as the paper writes it."""
    error_at: Literal["token", "chunk"] = "token"
    """Which memory the output layer's error is taken of: the one just before each token, or the one at
    the start of the chunk (the paper's form)."""
    output_gate: Literal["sigmoid", "silu"] = "sigmoid"
    """Activation of the gate on the memory's output: twice a sigmoid, which starts at one, or SiLU, which
    starts near zero."""
    values: Literal["bounded", "unit"] = "bounded"
    """Values that are written: "bounded", shorter than one and in the order of their lengths; or "unit",
    of length one."""
    write: bool = True
    """False never writes nor forgets: the control that shows what the memory adds."""

    def __post_init__(self) -> None:
        _at_least(self, 1, "depth", "expansion", "chunk_size", "conv_size")
        _one_of(self, "forget_to", ("init", "zero"))
        _one_of(self, "error_at", ("chunk", "token"))
        _one_of(self, "output_gate", ("sigmoid", "silu"))
        _one_of(self, "values", ("bounded", "unit"))
        _switch(self, "momentum", "forget", "write")


@dataclass(frozen=True, kw_only=True)
class _RareBackboneOptions:
    """Fields of a backbone that have no argument of their own in an estimator."""

    ff_expansion: int = 2
    """Hidden width of the feed-forward sub-block, in model widths."""
    n_persistent: int = 4
    """N_p, learned tokens of persistent memory."""
    dropout: float = 0.1
    """Dropout rate of each sub-block's output, and inside the feed-forward."""
    gradient_checkpointing: bool = False
    """Recompute each block in the backward pass instead of storing its activations."""
    mac_output: Literal["sum", "gate"] = "sum"
    """How MAC combines attention and memory: "sum", and the memory reads the segment's tokens beside the
    attention to them; or "gate", the paper's gating of the attention by the memory."""
    memory: MemoryConfig = field(default_factory=MemoryConfig)
    """The long-term memory of every block."""

    def __post_init__(self) -> None:
        if isinstance(self.memory, dict):
            object.__setattr__(self, "memory", from_dict(MemoryConfig, self.memory))
        _at_least(self, 1, "ff_expansion")
        _at_least(self, 0, "n_persistent")
        _one_of(self, "mac_output", ("sum", "gate"))
        _share(self, "dropout")


@dataclass(frozen=True)
class BackboneConfig(_RareBackboneOptions):
    """A stack of Titans blocks (arXiv 2501.00663, section 4)."""

    variant: Variant = "mac"
    """Which block: a key of `titans_ts.nn.BLOCKS`."""
    d_model: int = 64
    """D, width of a token."""
    n_layers: int = 2
    """Number of blocks; 0 is no backbone."""
    n_heads: int = 4
    """H, heads of the attention and of the memory."""
    window: int = field(default=64, kw_only=True)
    """Tokens a sliding-window attention sees, itself included (MAG, MAL, SWA)."""
    segment_length: int = field(default=32, kw_only=True)
    """Tokens in a segment of MAC."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _at_least(self, 1, "d_model", "n_heads", "window", "segment_length")
        _at_least(self, 0, "n_layers")
        if self.d_model % (2 * self.n_heads):
            raise ValueError(
                f"d_model is {self.d_model} and n_heads {self.n_heads}; "
                "d_model must be an even multiple of n_heads"
            )


@dataclass(frozen=True, kw_only=True, repr=False)
class ModelOptions(Options, _RareBackboneOptions):
    """Settings of a model that are rarely changed: `model_options` of an estimator.

    Every field is a parameter of its own for a search: `model_options__dropout`,
    `model_options__memory__depth`.
    """

    head_dropout: float = 0.2
    """Dropout rate of the head's input."""
    window: int | None = None
    """Tokens a sliding-window attention sees (MAG, MAL, SWA). None: 64, or as many as needed for every
    variate to see all others where a token is a variate."""
    segment_length: int | None = None
    """Tokens in a segment of MAC. None: 32, or the tokens of a window where the state is carried from
    window to window, or where a token is a variate."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _share(self, "head_dropout")
        for name in ("window", "segment_length"):
            if getattr(self, name) is not None:
                _at_least(self, 1, name)

    def backbone_fields(self) -> dict[str, Any]:
        """The fields of :class:`BackboneConfig` that are set here."""
        names = {f.name for f in dataclasses.fields(BackboneConfig)}
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {k: v for k, v in values.items() if k in names and v is not None}


@dataclass(frozen=True)
class ForecasterConfig:
    """A forecasting model: scaler, patch tokenizer, backbone and head."""

    context_length: int = 96
    """Steps of history a forecast reads."""
    prediction_length: int = 24
    """Steps it forecasts."""
    n_variates: int = 1
    """C, number of series in a frame."""
    n_past: int = 0
    """Covariates known up to the present."""
    n_known: int = 0
    """K, covariates known for the steps to forecast, too."""
    static_categories: tuple[int, ...] = ()
    """Categories of every categorical static covariate, one for unknown ones included."""
    n_static: int = 0
    """Real static covariates."""
    patch_length: int = 16
    """Steps in a token."""
    patch_stride: int = 8
    """Steps between the starts of two tokens."""
    tokens: Tokens = "patch"
    """What a token is, and how variates meet: one of `titans_ts.nn.TOKENS`."""
    stateful_windows: int = 0
    """0 starts every window with an empty memory. Otherwise the memory's state goes on from window to
    window, and training back-propagates through that many windows."""
    scaler: ScalerName = "standard"
    """Reversible normalisation of every window by itself: a key of `titans_ts.nn.SCALERS`."""
    season_length: int = 0
    """Steps of a season that is learned as persistent memory, one value a step and variate; 0: none.
    The last known covariate is a step's place in it then."""
    season_size: Literal["window", "fitted"] = "window"
    """How large that season is in a window: "window", the window decides in part; "fitted", as large as
    it was learned."""
    quantile_levels: tuple[float, ...] = (0.1, 0.5, 0.9)
    """Levels of the forecast quantiles, increasing, in (0, 1)."""
    output: OutputName = "quantiles"
    """What is forecast beside the mean: a key of `titans_ts.nn.OUTPUTS`."""
    head_dropout: float = ModelOptions.head_dropout
    """Dropout rate of the head's input."""
    backbone: BackboneConfig = field(default_factory=BackboneConfig)

    @property
    def streams(self) -> int:
        """Sequences of tokens that a window becomes."""
        return self.n_variates if self.tokens in ("patch", "mixed") else 1

    @property
    def n_covariates(self) -> int:
        """Covariates that tokens hold: all but the place in the learned season."""
        return self.n_past + self.n_known - (self.season_length > 0)

    def __post_init__(self) -> None:
        _at_least(self, 1, "context_length", "prediction_length", "n_variates")
        _at_least(self, 1, "patch_length", "patch_stride")
        _at_least(self, 0, "n_past", "n_known", "n_static", "stateful_windows", "season_length")
        _one_of(self, "season_size", ("window", "fitted"))
        _share(self, "head_dropout")
        levels = self.quantile_levels
        if not (
            isinstance(levels, tuple)
            and all(isinstance(q, (int, float)) and 0 < q < 1 for q in levels)
            and list(levels) == sorted(set(levels))
        ):
            raise ValueError(
                f"quantile_levels is {levels!r}; give increasing levels strictly between 0 and 1"
            )


@dataclass(frozen=True)
class SequenceConfig:
    """A model of DNA sequences: tokenizer, backbone, pooling and a linear head."""

    n_outputs: int = 2
    """Classes, labels or values of a sequence (of a bin, for a track)."""
    output: str = "classes"
    """What they are: "classes" that exclude one another, "labels" that do not, or "values"."""
    n_bins: int = 0
    """Bins of a track: equal parts of a sequence with values of their own; 0 is one answer a sequence."""
    tokenizer: DNATokenizerName = "nucleotide"
    """How a sequence becomes tokens: a key of `titans_ts.nn.DNA_TOKENIZERS`."""
    kernel_size: int | None = None
    """Letters a token sees; None is what is usual for the tokenizer: 9, for "conv" and "residual" 15,
    for "kmer" 6."""
    stride: int = 1
    """Letters a token stands for: more of them make a long sequence short."""
    position: bool = True
    """Whether a token knows its place from the sequence's beginning."""
    gaps: int = 0
    """Letters that a k-mer of the tokenizer "kmer" may skip."""
    all_offsets: bool = False
    """Whether a token of "kmer" sees the k-mers that end at each of its letters, or only at the last."""
    n_filters: int = 128
    """Motifs of the tokenizers "conv" and "residual"."""
    n_residual: int = 3
    """Convolutions over the tokens of "residual"."""
    merges: tuple[str, ...] = ()
    """Pairs of tokens that the tokenizer "bpe" merges."""
    soft_masked: SoftMasked = "keep"
    """What lower-case letters are: one of `titans_ts.nn.SOFT_MASKED`."""
    rc: Strands = "none"
    """What is done with the other strand: one of `titans_ts.nn.STRANDS`."""
    bidirectional: Directions = "none"
    """Whether tokens are read backwards, too: one of `titans_ts.nn.DIRECTIONS`."""
    pooling: PoolingName = "attention"
    """How tokens become one vector: a key of `titans_ts.nn.POOLINGS`."""
    length: int = 0
    """Letters of the longest sequence that the pooling "flatten" can take."""
    head_dropout: float = ModelOptions.head_dropout
    """Dropout rate of the head's input."""
    backbone: BackboneConfig = field(default_factory=BackboneConfig)

    def __post_init__(self) -> None:
        _at_least(self, 1, "n_outputs", "stride", "n_filters")
        _at_least(self, 0, "n_bins", "gaps", "length")
        check_integer("n_residual", self.n_residual, 0, 8)
        _one_of(self, "output", ("classes", "labels", "values"))
        _switch(self, "position", "all_offsets")
        if self.output == "classes":
            _at_least(self, 2, "n_outputs")
        if self.kernel_size is not None:
            _at_least(self, 1, "kernel_size")
        _share(self, "head_dropout")


@dataclass(frozen=True, kw_only=True, repr=False)
class TrainingOptions(Options):
    """Settings of training that are rarely changed: `training_options` of an estimator.

    Every field is a parameter of its own for a search: `training_options__weight_decay`.
    """

    validation_fraction: float = 0.2
    """Share of the data held out for early stopping; 0 trains for `max_epochs`."""
    patience: int | None = None
    """Epochs without a better validation loss before training stops; None is a fifth of all, but at least
    3, or 5 if `max_epochs` is None."""
    max_steps_per_epoch: int = 1000
    """Most steps in an epoch. With more samples than that, an epoch draws some of them at random, and
    validation uses some of them at even distances."""
    weight_decay: float = 0.01
    """AdamW's decoupled weight decay."""
    gradient_clip: float = 1.0
    """Largest norm of the gradient of all weights."""
    trainer_kwargs: dict[str, Any] | None = None
    """More arguments for `lightning.pytorch.Trainer`; not saved with a model."""
    resume: str | os.PathLike[str] | None = None
    """A folder for a checkpoint after every epoch of a fit. The same fit resumes from it after an
    interruption, to the same result, and removes it at the end; not saved with a model. None: no
    checkpoints."""

    def __post_init__(self) -> None:
        _at_least(self, 1, "max_steps_per_epoch")
        if not (
            self.resume is None
            or (isinstance(self.resume, (str, os.PathLike)) and str(self.resume))
        ):
            raise ValueError(f"resume is {self.resume!r}; give the path of a folder, or None")
        if self.patience is not None:
            _at_least(self, 1, "patience")
        _share(self, "validation_fraction")
        if not isinstance(self.weight_decay, (int, float)) or not self.weight_decay >= 0:
            raise ValueError(f"weight_decay is {self.weight_decay!r}; it must not be negative")
        if not isinstance(self.gradient_clip, (int, float)) or not self.gradient_clip > 0:
            raise ValueError(f"gradient_clip is {self.gradient_clip!r}; it must be positive")


@dataclass(frozen=True)
class TrainingConfig(TrainingOptions):
    """How a model is trained."""

    max_epochs: int | None = None
    """Most epochs; None makes about `total_steps` steps (640: in 10 to 400 epochs). More steps are made
    only for large data sets of sequences: an epoch of a forecaster has at most 64 steps then."""
    total_steps: int = 640
    """Steps of training, about, if `max_epochs` is None."""
    time_limit: float | None = None
    """Seconds of training; None is no limit. The learning rate is annealed within them."""
    batch_size: int = 64
    """Samples in a step."""
    learning_rate: float = 1e-3
    """Peak of the one-cycle schedule of AdamW."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _at_least(self, 1, "batch_size")
        _at_least(self, 64, "total_steps")
        if self.max_epochs is not None:
            _at_least(self, 1, "max_epochs")
        limit = self.time_limit
        if limit is not None and (not isinstance(limit, (int, float)) or not limit > 0):
            raise ValueError(f"time_limit is {limit!r}; give a positive number of seconds, or None")
        if not isinstance(self.learning_rate, (int, float)) or not self.learning_rate > 0:
            raise ValueError(f"learning_rate is {self.learning_rate!r}; it must be positive")

    @property
    def samples_per_epoch(self) -> int:
        """Samples of a pass at most."""
        return self.max_steps_per_epoch * self.batch_size

    def schedule(self, n_steps: int) -> tuple[int, int, int]:
        """Epochs to train for, to wait and from one validation to the next, with `n_steps` steps each.

        A short series has a step or two an epoch, and needs many; a long one learns in a few. If
        `max_epochs` is None, about 32 short steps are made from one validation to the next.

        Examples
        --------
        >>> TrainingConfig().schedule(2), TrainingConfig().schedule(500)
        ((320, 64, 16), (10, 5, 1))
        """
        epochs, every = self.max_epochs, 1
        if epochs is None:
            every = max(1, 32 // n_steps)
            total = self.total_steps
            epochs = min(5 * total // 8, max(total // 64, -(-total // n_steps)))
            epochs -= epochs % every  # the last one is validated
        least = 3 if self.max_epochs else 5
        patience = max(least, epochs // 5) if self.patience is None else self.patience
        return epochs, patience, every


class Candidate(NamedTuple):
    """A network that a forecaster may train; of several, the best one is kept."""

    n_layers: int = 0
    """Number of blocks."""
    total_steps: int = TrainingConfig.total_steps
    """Steps of training, about."""


PRESETS: dict[str, tuple[Candidate, ...]] = {
    "zero-shot": (),
    "fast": (Candidate(0, 320),),
    "default": (Candidate(),),
    "best": (Candidate(BackboneConfig.n_layers), Candidate(0, 1280)),
}
"""The networks that a fit of a forecaster trains, by the name of the preset."""


class SequenceCandidate(NamedTuple):
    """A network that an estimator for DNA may train; of several, the best one is kept."""

    n_layers: int = 1
    """Number of blocks."""
    letters: int = 10_000_000
    """Maximum number of letters that training reads; two or three times as many with faster tokens."""


SEQUENCE_PRESETS: dict[str, tuple[SequenceCandidate, ...]] = {
    "fast": (SequenceCandidate(0, 5_000_000),),
    "default": (SequenceCandidate(),),
    "best": (SequenceCandidate(), SequenceCandidate(0, 30_000_000)),
}
"""The networks that a fit of an estimator for DNA trains, by the name of the preset."""


def to_dict(config: Any) -> dict[str, Any]:
    """Return a configuration as plain dictionaries, ready for json."""
    return dataclasses.asdict(config)


def from_dict(cls: type[Config], values: dict[str, Any]) -> Config:
    """Build a configuration from :func:`to_dict`'s result, nested ones included.

    Raises
    ------
    ValueError
        If a key is unknown; it is named, with the known ones.

    Examples
    --------
    >>> from_dict(MemoryConfig, {"depth": 3}).depth
    3
    >>> from_dict(MemoryConfig, {"dept": 3})
    Traceback (most recent call last):
    ...
    ValueError: MemoryConfig has no key 'dept'; known: chunk_size, conv_size, depth, error_at, \
expansion, forget, forget_to, momentum, output_gate, values, write
    """
    known = typing.get_type_hints(cls)
    if not isinstance(values, dict):
        raise ValueError(f"{cls.__name__} is given as {values!r}; give a dict of its fields")
    for key in values:
        if key not in known:
            raise ValueError(
                f"{cls.__name__} has no key {key!r}; known: {', '.join(sorted(known))}"
            )
    return cls(**{key: _convert(known[key], value) for key, value in values.items()})


def _convert(kind: Any, value: Any) -> Any:
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return value if isinstance(value, kind) else from_dict(kind, value)
    if isinstance(kind, types.GenericAlias) and typing.get_origin(kind) is tuple:
        return tuple(value)
    return value


def check_integer(name: str, value: Any, low: int, high: int | None = None) -> int:
    """Return a value that is an int of at least `low`, and at most `high` (default: no limit).

    Raises
    ------
    ValueError
        If it is not; the message has its name.
    """
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or value < low or (high is not None and value > high):
        limits = f"of at least {low}" if high is None else f"from {low} to {high}"
        raise ValueError(f"{name} is {value!r}; it must be an integer {limits}")
    return int(value)


def _at_least(config: Any, low: int, *names: str) -> None:
    for name in names:
        check_integer(name, getattr(config, name), low)


def _share(config: Any, name: str) -> None:
    value = getattr(config, name)
    if not isinstance(value, (int, float)) or not 0 <= value < 1:
        raise ValueError(f"{name} is {value!r}; it must lie in [0, 1)")


def _switch(config: Any, *names: str) -> None:
    for name in names:
        if not isinstance(getattr(config, name), bool):
            raise ValueError(f"{name} is {getattr(config, name)!r}; it must be True or False")


def _one_of(config: Any, name: str, choices: tuple[str, ...]) -> None:
    if getattr(config, name) not in choices:
        raise ValueError(f"{name} is {getattr(config, name)!r}; choose one of {list(choices)}")
