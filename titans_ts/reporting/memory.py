"""The report of a model's memory: what it adds, how it writes and forgets, and a verdict."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from titans_ts.nn.memory_use import BlockUse

__all__ = ["IDLE", "MemoryReport", "idle_memory", "make_report"]

IDLE = 0.01
"""A memory is idle if the outputs change by less than this without its writing, in their standard
deviations: a hundredth is below what a forecast or a probability is usually rounded to."""

_HIGHER_IS_BETTER = ("r2", "mcc")
_STATISTICS = ("mean", "q10", "q50", "q90")
_PLACES = 24


def idle_memory(history: Sequence[dict[str, float]]) -> str | None:
    """Return the line of a fit's summary for a memory that is idle, or None.

    Parameters
    ----------
    history : sequence of dict
        `history_` of an estimator. `memory_change` of the last epoch is the change of the outputs without
        the memory's writing, in their standard deviations; it is not there without a memory.

    Examples
    --------
    >>> idle_memory([{"memory_change": 0.003}])
    'The memory is idle: with its write off the outputs change by 0.3 %.'
    """
    change = history[-1].get("memory_change", IDLE) if history else IDLE
    if change >= IDLE:
        return None
    return f"The memory is idle: with its write off the outputs change by {_percent(change)}."


@dataclass(frozen=True, repr=False)
class MemoryReport:
    """How much a model uses its memory; `print` shows it, and :meth:`plot` draws it.

    Attributes
    ----------
    title : str
        The model.
    blocks : DataFrame
        A row for each block. `share`: root mean square of the change of the mixer's output (before the
        residual connection) if the memory returns zeros, divided by that of the output. It is 1 where all
        of the output passes through the memory: in LMM, MAG, and MAC with a gate. `written`: the same
        change if the memory is empty and does not write, on the same tokens. Both may exceed 1.
    heads : DataFrame
        A row for each (block, head), with columns (quantity, statistic). The quantities: `strength`, the
        size of a write, theta / (1 - eta), as a share of its bound; `forget`, alpha; `momentum`, eta;
        `half_life`, in tokens, until half of what is written is forgotten: ln 2 / -ln(1 - alpha), for the
        mean the half-life at the mean rate -ln(1 - alpha); `distance` of the memory from its first state,
        in Frobenius norms of that state. The statistics over the stream: mean, q10, q50 and q90.
    stream : DataFrame
        A row for each (block, tokens since the beginning), a column for each head: the mean distance.
    scores : DataFrame
        Rows "write on", "write off" and "no memory" (zeros instead of what is read); a column for each
        score of the estimator; no column without a target.
    change, change_without : float
        Change of the network's outputs with the write off, and without a memory: its root mean square, in
        standard deviations of the outputs (of a forecaster: of the forecasts, normalised by window).
    n_tokens : int
        Tokens of a block that were observed.
    unit : str or None
        What a token stands for: "steps" or "letters". None if their number differs from token to token,
        or if a token is a whole variate.
    per_token : int
        How many of them are new in every token.
    """

    title: str
    blocks: pd.DataFrame
    heads: pd.DataFrame
    stream: pd.DataFrame
    scores: pd.DataFrame
    change: float
    change_without: float
    n_tokens: int
    unit: str | None
    per_token: int

    @property
    def idle(self) -> bool:
        """Whether there is no memory, or the outputs change by less than `IDLE` with its write off."""
        return self.blocks.empty or self.change < IDLE

    @property
    def verdict(self) -> str:
        """The result in one or two sentences."""
        if self.blocks.empty:
            return "The model has no memory."
        state = "idle" if self.idle else "in use"
        text = f"The memory is {state}: with its write off the outputs change by {_percent(self.change)}"
        score = next((name for name in self.scores if self.scores[name].notna().all()), None)
        if score is None:
            return f"{text}."
        on, off = self.scores.loc[["write on", "write off"], score]
        helps = off < on if score in _HIGHER_IS_BETTER else off > on
        name = score if " " in score else score.upper()
        text += f", and the {name} goes from {on:.4g} to {off:.4g}"
        if abs(off - on) < 10 * abs(on):
            text += f" ({(off - on) / abs(on):+.1%})".replace("%", " %")
        if self.idle or helps:
            return f"{text}."
        return f"{text}. Here its writing does not improve the {name}."

    def plot(self) -> Figure:
        """Draw shares, half-lives, write strengths, distance over the stream and scores.

        Raises
        ------
        ModuleNotFoundError
            If matplotlib is not installed.
        ValueError
            If the model has no memory.
        """
        from titans_ts.reporting.plots import plot_memory

        return plot_memory(self)

    @property
    def longest(self) -> int:
        """Tokens of the longest stream that was observed."""
        return 0 if self.stream.empty else int(self.stream.index.get_level_values(1).max())

    def half_lives(self) -> pd.DataFrame:
        """The half-lives of every head in :attr:`unit`, or in tokens; columns are the statistics."""
        return self.heads["half_life"] * (self.per_token if self.unit else 1)

    def _tables(self) -> dict[str, pd.DataFrame]:
        """The tables to print, each under a sentence that explains it."""
        if self.blocks.empty:
            return {}
        mean = self.heads.xs("mean", axis=1, level=1)
        unit = self.unit or "tokens"
        heads = mean[["strength", "forget", "momentum"]].assign(
            **{f"half-life [{unit}]": self.half_lives()["mean"], "distance": mean["distance"]}
        )
        tables = {
            "Change of a block's output without its memory (share), and with the memory empty and its "
            "write off (written), in root mean squares of the output:": self.blocks.map(_percent),
            "Means of the gates over the tokens (strength: size of a write in shares of its bound), "
            "half-life of what is written, and distance of the memory from its first state in norms of "
            "that state:": heads.map("{:.3g}".format),
        }
        if len(self.scores.columns):
            tables["Scores on these data:"] = self.scores.map("{:.4g}".format)
        return tables

    @property
    def _head(self) -> str:
        text = f"Memory of {self.title}"
        if self.n_tokens:
            unit = self.unit if self.unit is None or self.per_token > 1 else self.unit.rstrip("s")
            each = f" of {self.per_token} new {unit} each" if unit else ""
            text += f"; {self.n_tokens:,} tokens{each}, in streams of up to {self.longest:,}"
        return text

    def __str__(self) -> str:
        parts = [f"{text}\n{table.to_string()}" for text, table in self._tables().items()]
        return "\n\n".join([self._head, *parts, self.verdict])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        parts = [
            f"<p>{escape(text)}</p>{table.to_html(border=0)}"
            for text, table in self._tables().items()
        ]
        head, verdict = escape(self._head), escape(self.verdict)
        return "\n".join([f"<p><b>{head}</b></p>", *parts, f"<p><b>{verdict}</b></p>"])


def make_report(
    title: str,
    uses: Sequence[BlockUse],
    scores: dict[str, dict[str, float]],
    changes: tuple[float, float],
    token_unit: tuple[str | None, int],
) -> MemoryReport:
    """Build a report from the observations of blocks.

    Parameters
    ----------
    title, scores
        As in :class:`MemoryReport`; for each row of `scores` a dict.
    uses : sequence of BlockUse
        The observations of every block with a memory.
    changes : tuple of float
        `change` and `change_without`.
    token_unit : tuple
        `unit` and `per_token`.
    """
    blocks = {use.block: {"share": use.share, "written": use.written} for use in uses}
    rows = {
        (use.block, head): _statistics(use, head)
        for use in uses
        for head in range(use.gates.shape[2])
    }
    heads = pd.DataFrame.from_dict(rows, orient="index")
    if rows:
        heads.index = pd.MultiIndex.from_tuples(list(rows), names=["block", "head"])
        heads.columns = pd.MultiIndex.from_tuples(heads.columns, names=["quantity", "statistic"])
    streams = {use.block: _over_stream(use) for use in uses}
    return MemoryReport(
        title,
        pd.DataFrame.from_dict(blocks, orient="index", columns=["share", "written"]).rename_axis(
            "block"
        ),
        heads,
        pd.concat(streams, names=["block", "tokens"]) if streams else pd.DataFrame(),
        pd.DataFrame.from_dict(scores, orient="index"),
        *changes,
        max((use.n_tokens for use in uses), default=0),
        *token_unit,
    )


def _statistics(use: BlockUse, head: int) -> dict[tuple[str, str], float]:
    strength, forget, momentum = use.gates[:, :, head].T.astype(np.float64)
    with np.errstate(divide="ignore"):
        rate = -np.log1p(-forget)
        half_life = math.log(2) / rate
        mean = math.log(2) / rate.mean()
    quantities = {
        "strength": (strength, strength.mean()),
        "forget": (forget, forget.mean()),
        "momentum": (momentum, momentum.mean()),
        "half_life": (half_life, mean),
        "distance": (use.distance[:, head], use.distance[:, head].mean()),
    }
    values: dict[tuple[str, str], float] = {}
    for name, (sample, centre) in quantities.items():
        # "lower": between two infinite half-lives there is no number
        quantiles = np.quantile(sample, (0.1, 0.5, 0.9), method="lower")
        numbers = (centre, *quantiles)
        values |= {(name, s): float(v) for s, v in zip(_STATISTICS, numbers, strict=True)}
    return values


def _over_stream(use: BlockUse) -> pd.DataFrame:
    """Return the mean distance of every head at some numbers of tokens, and 0 at the beginning."""
    known = use.position >= 0
    position, distance = use.position[known], use.distance[known].astype(np.float64)
    if len(position):
        position = _rounded(position)
    frame = pd.DataFrame(distance).groupby(position).mean()
    frame.loc[0] = 0.0
    return frame.sort_index()


def _rounded(position: NDArray[np.int64]) -> NDArray[np.int64]:
    """Round numbers of tokens up to a few places."""
    width = max(1, -(-int(position.max()) // _PLACES))
    return np.minimum(-(-position // width) * width, position.max())


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
