"""Format a run's rows as tables, for the terminal or as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["setting", "tables"]

Row = dict[str, Any]
Lines = list[list[str]]


def tables(content: dict[str, Any], markdown: bool = False) -> str:
    """Format everything in a results file, table after table.

    Parameters
    ----------
    content : dict
        Content of a file of :func:`record.record`.
    markdown : bool
        Whether to write Markdown; default: plain text.
    """
    rows = content["rows"]
    settings = dict.fromkeys(setting(r) for r in rows if r["part"] == "table")
    parts = [_machine(content)]
    for title in settings:
        mine = [r for r in rows if r["part"] == "table" and setting(r) == title]
        parts += [title, _render(_TABLE, [_table_line(r) for r in mine], markdown)]
    for part, (title, header, line) in _PARTS.items():
        mine = [r for r in rows if r["part"] == part and not r.keys() & {"error", "skipped"}]
        if mine:
            parts += [title, _render(header, [line(r) for r in mine], markdown)]
    lines = [
        [r["part"], r.get("contender", ""), r.get("error") or r["skipped"]]
        for r in rows
        if r["part"] != "table" and r.keys() & {"error", "skipped"}
    ]
    if lines:
        parts += ["Not measured", _render(["part", "what", "why"], lines, markdown)]
    lines = [[t["target"], t["measured"], _reached(t["reached"])] for t in content["targets"]]
    parts += ["Targets", _render(["target", "measured", "reached"], lines, markdown)]
    return "\n\n".join(parts)


def _machine(content: dict[str, Any]) -> str:
    gpu = f"{content['gpu']}, " if "gpu" in content else ""
    threads = f"{content['threads']} thread" + "s" * (content["threads"] != 1)
    packages = {"torch": content["versions"].get("torch"), **content["peers"]}
    installed = ", ".join(f"{name} {version}" for name, version in packages.items())
    return f"{gpu}{content['processor']}, {threads}; {installed}; {content['date']}"


def setting(row: Row) -> str:
    """Describe shapes and dtype in words."""
    shapes = f"Batch {row['batch']}, {row['heads']} heads of width {row['width']}"
    return f"{shapes}, chunk {row['chunk']}, {row['dtype']}"


_TABLE = [
    "contender",
    "T",
    "forward, tokens/s",
    "yardsticks",
    "forward + backward, tokens/s",
    "yardsticks",
    "ms (quartiles)",
    "extra MB",
    "",
]


def _table_line(row: Row) -> list[str]:
    train = row.get("train", {})
    return [
        row["contender"],
        _number(row["tokens"]),
        *_speed(row.get("forward", {})),
        *_speed(train),
        _milliseconds(train),
        "" if "extra_mb" not in row else f"{row['extra_mb']:.0f}",
        _remark(row),
    ]


def _speed(figures: Row) -> list[str]:
    if not figures:
        return ["", ""]
    ratio = figures.get("yardsticks")
    return [_number(figures["tokens_per_s"]), "" if ratio is None else f"{ratio:.2f}"]


def _milliseconds(figures: Row) -> str:
    if not figures:
        return ""
    middle, low, high = (f"{1e3 * s:.4g}" for s in (figures["seconds"], *figures["quartiles"]))
    return f"{middle} ({low} to {high})"


def _remark(row: Row) -> str:
    remarks = [
        f"{word}: {row[key]}"
        for key, word in (("failed", "not timed"), ("skipped", "not timed"), ("error", "failed"))
        if key in row
    ]
    if not row.get("finite", True):
        remarks.append("output not finite")
    if "note" in row:
        remarks.append(row["note"])
    return "; ".join(remarks)


def _share_line(row: Row) -> list[str]:
    return [
        row["contender"],
        "forward + backward" if row["mode"] == "train" else "forward",
        f"{row['memories']} of width {row['width']}, {row['dtype']}",
        f"{row['gflops_per_s']:.1f}",
        ", ".join(
            f"{limit.removeprefix('product ')} {x:.1%}" for limit, x in row["shares"].items()
        ),
        f"{max(row['shares'].values()) * row['triangles_as_half']:.1%}",
        f"{row['share_of_bandwidth']:.1%}",
    ]


def _gap_line(row: Row) -> list[str]:
    others = ", ".join(
        f"{k.removeprefix('aten::')} {v:.1%}" for k, v in row["share_in_others"].items()
    )
    return [
        row["contender"],
        f"{1e3 * row['seconds']:.0f}",
        f"{1e3 * row['seconds_of_products_alone']:.0f}",
        _number(row["calls"]),
        f"{row['share_in_products']:.1%}",
        others,
    ]


def _step_line(row: Row) -> list[str]:
    low, high = row["quartiles"]
    return [
        row["contender"],
        str(row["batch"]),
        f"{row['milliseconds']:.3g} ({low:.3g} to {high:.3g})",
        _number(row["tokens_per_s"]),
    ]


def _stream_line(row: Row) -> list[str]:
    figures = (row["tokens"], row["batch"], row["piece"], row["tokens_per_s"])
    return [
        row["contender"],
        *map(_number, figures),
        f"{row['extra_mb']:.1f}",
        f"{row['peak_mb']:.0f}",
    ]


def _precision_line(row: Row) -> list[str]:
    errors = ", ".join(f"{name} {error:.1e}" for name, error in row["errors"].items())
    return [row["contender"], row["dtype"], errors]


_PARTS = {
    "share": (
        "Share of the machine's own throughput",
        [
            "implementation",
            "pass",
            "memories",
            "GFLOP/s",
            "share",
            "triangles as half",
            "bandwidth",
        ],
        _share_line,
    ),
    "gap": (
        "What a forward and backward pass is made of",
        ["implementation", "ms", "products alone, ms", "calls", "share in products", "in others"],
        _gap_line,
    ),
    "step": (
        "One token at a time",
        ["what", "batch", "ms a step (quartiles)", "tokens/s"],
        _step_line,
    ),
    "stream": (
        "Streaming forward, in pieces",
        ["what", "T", "batch", "piece", "tokens/s", "extra MB", "process MB"],
        _stream_line,
    ),
    "precision": (
        "Relative errors against the recurrence in float64",
        ["implementation", "dtype", "errors"],
        _precision_line,
    ),
}


def _reached(reached: bool | None) -> str:
    return {None: "", True: "yes", False: "no"}[reached]


def _number(value: float) -> str:
    return f"{value:,.0f}".replace(",", " ")


def _render(header: Sequence[str], lines: Lines, markdown: bool) -> str:
    if markdown:
        return "\n".join(
            "| " + " | ".join(line) + " |" for line in [header, ["---"] * len(header), *lines]
        )
    widths = [max(len(line[i]) for line in [header, *lines]) for i in range(len(header))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in [header, *lines]
    )
