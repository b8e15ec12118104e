"""A short description of an estimator: what it was given, what was fitted, how good it is."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

__all__ = ["EstimatorSummary"]


@dataclass(frozen=True, repr=False)
class EstimatorSummary:
    """What :meth:`titans_ts.TitansForecaster.summary` and its siblings return; notebooks show a table.

    Examples
    --------
    >>> EstimatorSummary("TitansForecaster, not fitted", {"settings": "d_model=32"})
    TitansForecaster, not fitted
      settings  d_model=32
    """

    title: str
    rows: dict[str, str]
    """Texts by name: `settings` that differ from their defaults, and after a fit `fitted to`, `network`,
    `validation`, `training`, and others of the estimator."""

    def __str__(self) -> str:
        width = max(map(len, self.rows), default=0)
        lines = (f"  {name:<{width}}  {text}" for name, text in self.rows.items())
        return "\n".join([self.title, *lines])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        rows = "".join(
            f'<tr><th scope="row" style="text-align:left">{escape(name)}</th>'
            f'<td style="text-align:left">{escape(text)}</td></tr>'
            for name, text in self.rows.items()
        )
        return f"<table><caption>{escape(self.title)}</caption>{rows}</table>"
