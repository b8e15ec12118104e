"""Tables of the benchmarks page, from benchmarks/results/ and benchmarks/README.md."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import mean
from typing import Any

FOLDER = Path(__file__).parents[2] / "benchmarks"
OURS = {  # models of the leaderboard, and what the page calls them
    "default": "`TitansForecaster`, defaults",
    "blocks": 'defaults with two memory blocks (`variant="mac"`)',
    "default, write off": "defaults, the write of the pretrained memory off",
    "default, attention alone": "defaults, pretrained with attention instead of a memory",
    "default, no backbone": "defaults, pretrained without blocks",
    "not pretrained": "defaults without the pretrained model",
    "simple alone": "the simple forecasters of the blend alone",
    "zero-shot": "the pretrained model alone, without a fit",
    "zero-shot, attention alone": "without a fit, trained with attention instead of a memory",
    "zero-shot, no backbone": "without a fit, trained without blocks",
}

METRICS = {  # of DNA tasks; the others have Matthews' correlation
    "gene_family": "accuracy",
    "mtdna": "f1",
    "organelle": "f1",
    "plasmid": "f1",
    "uci_splice": "accuracy",
}


def rows(name: str) -> list[dict[str, Any]]:
    """Return the rows of a committed result."""
    content = json.loads((FOLDER / "results" / f"{name}.json").read_text(encoding="utf-8"))
    found: list[dict[str, Any]] = content["rows"]
    return found


def table(head: Iterable[str], body: Iterable[Iterable[Any]]) -> str:
    """Return a Markdown table."""
    lines = [list(head), ["---"] * len(list(head)), *body]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def scores() -> dict[str, tuple[float, float, float]]:
    """MASE and WQL relative to seasonal naive, and CPU seconds, of every model of the leaderboard.

    Geometric means over the sets, of the means over the seeds.
    """
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for row in rows("leaderboard"):
        found.setdefault(row["model"], {}).setdefault(row["set"], []).append(row)
    naive = found["seasonal_naive"]

    def ratio(sets: dict[str, list[dict[str, Any]]], key: str) -> float:
        logs = [
            mean(math.log(row[key] / naive[name][0][key]) for row in some)
            for name, some in sets.items()
        ]
        return math.exp(mean(logs))

    return {
        model: (
            ratio(sets, "mase"),
            ratio(sets, "wql"),
            sum(mean(row["seconds"] for row in some) for some in sets.values()),
        )
        for model, sets in found.items()
    }


def published() -> dict[str, tuple[float, float]]:
    """MASE and WQL of the models of other authors, which benchmarks/README.md lists."""
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    part = page.partition("## Forecasting: eleven sets of the literature")[2].partition("\n## ")[0]
    found = re.findall(r"^\| (\w[^|*]*?) \| (\d\.\d+) \| (\d\.\d+) \|", part, re.MULTILINE)
    return {name: (float(mase), float(wql)) for name, mase, wql in found}


def leaderboard() -> str:
    """Our models and those of other authors, in the order of their MASE."""
    ours = scores()
    body = {name.replace("_", " "): (*figures, None) for name, figures in published().items()}
    body |= {f"**{name}**": ours[model] for model, name in OURS.items()}
    body["seasonal naive"] = ours["seasonal_naive"]
    return table(
        ("model", "MASE", "quantile loss", "CPU seconds"),
        (
            (name, f"{mase:.3f}", f"{wql:.3f}", "" if seconds is None else f"{seconds:.0f}")
            for name, (mase, wql, seconds) in sorted(body.items(), key=lambda item: item[1][0])
        ),
    )


def single_series() -> str:
    """MASE and CPU seconds of six series, ours beside statistical methods and LightGBM."""
    found = rows("single_series")
    series = list(dict.fromkeys(row["series"] for row in found))
    cells = {(row["series"], row["model"]): row for row in found}

    def cell(name: str, model: str) -> str:
        row = cells.get((name, model))
        if row is None:
            return ""
        return f"{row['mase']:.3f}, {row['seconds']:.1f} s" if "mase" in row else "stopped"

    def ratio(model: str) -> float:
        shares = [
            math.log(cells[name, model]["mase"] / cells[name, "seasonal_naive"]["mase"])
            for name in series
            if "mase" in cells.get((name, model), {})
        ]
        return math.exp(mean(shares))

    ours = ("default", "fast", "zero-shot", "not pretrained")
    models = sorted({row["model"] for row in found}, key=ratio)
    return table(
        ("model", *series),
        (
            (
                f"**{m}**" if m in ours else m.replace("_", " "),
                *(cell(name, m) for name in series),
            )
            for m in models
        ),
    )


def panels() -> str:
    """Two panels beside the models of GluonTS, means over the seeds."""
    body = []
    for panel in ("stallion", "m4"):
        found: dict[str, list[dict[str, Any]]] = {}
        for row in rows(f"panels-{panel}"):
            found.setdefault(row["model"], []).append(row)
        for model, some in sorted(
            found.items(), key=lambda item: mean(row["mean_wQuantileLoss"] for row in item[1])
        ):
            figures = [mean(row[key] for row in some) for key in ("mean_wQuantileLoss", "MASE")]
            seconds = mean(row["seconds"] for row in some)
            name = "**titans**" if model == "titans" else model
            body.append((panel, name, f"{figures[0]:.4f}", f"{figures[1]:.3f}", f"{seconds:.0f}"))
    return table(("panel", "model", "quantile loss", "MASE", "seconds of training"), body)


def adapt() -> str:
    """What learning from forecast errors is worth: squared errors beside the frozen model."""
    return table(
        ("set", "steps ahead", "frozen", "adapted", "change"),
        (
            (
                row["set"],
                row["horizon"],
                f"{row['frozen']:.3f}",
                f"{row['adapted']:.3f}",
                f"{row['adapted'] / row['frozen'] - 1:+.1%}",
            )
            for row in sorted(rows("adapt"), key=lambda row: (row["set"], row["horizon"]))
        ),
    )


def covariates() -> str:
    """Electricity prices with and without two covariates that are known a day ahead."""
    return table(
        ("market", "MAE without", "MAE with", "lower by", "seasonal naive"),
        (
            (
                row["market"],
                f"{row['without_mae']:.3f}",
                f"{row['with_mae']:.3f}",
                f"{row['lower']:.1%}",
                f"{row['naive_mae']:.3f}",
            )
            for row in rows("covariates-epf")
        ),
    )


def speed() -> str:
    """The targets of the memory's speed, and what was measured."""
    content = json.loads((FOLDER / "results" / "kernels-cpu.json").read_text(encoding="utf-8"))
    return table(
        ("target", "measured", "reached"),
        (
            (t["target"], t["measured"], {True: "yes", False: "no"}.get(t["reached"], ""))
            for t in content["targets"]
        ),
    )


def dna() -> str:
    """Classification of DNA: the model, its network alone, and simpler models."""
    body = []
    for path in sorted((FOLDER / "results").glob("dna-*.json")):
        name = path.stem.partition("-")[2]
        metric = METRICS.get(name, "mcc")
        found: dict[str, list[float]] = {}
        for row in rows(path.stem):
            found.setdefault(row["model"], []).append(row[metric])

        def cell(*models: str, found: dict[str, list[float]] = found) -> str:
            known = [mean(found[m]) for m in models if m in found]
            return f"{max(known):.3f}" if known else ""

        body.append(
            (
                name.replace("_", " "),
                metric,
                cell("default"),
                cell("titans + words"),
                cell("titans"),
                cell("gapped words", "words"),
                cell("cnn"),
            )
        )
    head = (
        "task",
        "metric",
        "default",
        "network and k-mers",
        "network alone",
        "k-mers",
        "small CNN",
    )
    return table(head, body)


def recall() -> str:
    """Recall of a motif from the beginning of a sequence, by length."""
    found = rows("long-dna-recall-beginning")
    lengths = list(dict.fromkeys(row["letters"] for row in found))
    cells = {(row["model"], row["letters"]): f"{row['accuracy']:.2f}" for row in found}
    return table(
        ("model", *(f"{n:,}".replace(",", " ") for n in lengths)),
        (
            (model, *(cells.get((model, n), "") for n in lengths))
            for model in dict.fromkeys(row["model"] for row in found)
        ),
    )


TABLES: dict[str, Callable[[], str]] = {
    "adapt": adapt,
    "covariates": covariates,
    "dna": dna,
    "leaderboard": leaderboard,
    "panels": panels,
    "recall": recall,
    "single series": single_series,
    "speed": speed,
}
"""Every table by name."""
