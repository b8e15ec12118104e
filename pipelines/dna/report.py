"""The pages of DNA: classifications, tracks along genomes, variants."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from titans_ts.reporting.charts import Chart, Mark
from titans_ts.reporting.evaluation import class_charts, training_chart
from titans_ts.reporting.html import Page, Section, Table, render
from titans_ts.reporting.logos import Logo, letters_of
from titans_ts.reporting.pages import changed_settings, memory_section, run_section

if TYPE_CHECKING:
    from titans_ts.genomics import TitansClassifier
    from titans_ts.pipelines.classify import ClassifyJob

__all__ = ["classify_page", "track_page", "variants_page"]

_MOST_CONTIGS = 50
_BEST = 50
"""Number of windows or variants in a table at most."""
_LETTERS = 120
"""Letters of a sequence that a logo shows at most: those with the largest contributions."""
_MUTATED = 400
"""Length of the longest sequence whose letters are all replaced, one after the other."""
_FILTERS = 8
"""Number of motif filters that are drawn at most."""
_READ = 200
"""Number of sequences that a memory is measured on at most."""


def classify_page(job: ClassifyJob) -> str:
    """Return the report of a classification as HTML."""
    model = job.classifier
    where = "held-out" if job.held_out else "test"
    n = len(job.predictions)
    verdict: tuple[tuple[str, str], ...] = ()
    sections = []
    if job.scores is not None:
        ours, words = (float(job.scores.loc[name, "mcc"]) for name in ("titans", "k-mers"))
        compared = "higher than" if ours > words else "lower than" if ours < words else "equal to"
        kind = {"higher than": "good", "lower than": "bad"}.get(compared, "")
        text = (
            f"The Matthews correlation of {ours:.3f} on {n:,} {where} sequences is {compared} that of a "
            f"linear k-mer model, {words:.3f}."
        )
        verdict = ((text, kind),)
        board = job.scores.sort_values("mcc", ascending=False).rename_axis("model").reset_index()
        classes = list(model.classes_)
        truth = job.predictions["label"].to_numpy()
        columns = job.predictions[[f"p_{c}" for c in classes]]
        charts, confusion = class_charts(truth, columns.to_numpy(float), classes)
        tables = (
            Table("Scores (mcc: Matthews correlation, 1 at best, 0 at random)", board),
            Table("Confusion matrix", confusion),
        )
        sections.append(Section("Scores", (), tuple(charts), tables=tables))
    sections += [_contributions(job), _motifs(model)]
    chart = training_chart(model.history_)
    if chart is not None:
        sections.append(Section("Training", charts=(chart,)))
    memory = memory_section(model.memory_report(list(job.sequences[:_READ])))
    if memory is not None:
        sections.append(memory)
    if job.findings is not None:
        text = "Possible data leakage between the parts, which makes scores look better."
        found = job.findings[["kind", "part", "count", "share", "detail"]]
        table = Table("Findings", found, {"share": "{:.1%}".format})
        none = "No repeated or similar sequences, and no difference in length, were found."
        sections.append(
            Section(
                "Data check",
                (text if len(found) else none,),
                tables=(table,) * bool(len(found)),
            )
        )
    rest = "they are in predictions.csv"
    sections.append(
        Section("Predictions", tables=(Table("Predictions", job.predictions, rest=rest),))
    )
    sections.append(run_section(changed_settings(model)))
    kept = tuple(s for s in sections if s.text or s.charts or s.tables or s.logos or s.code)
    title = f"Classification of {n:,} sequences"
    classes_text = ", ".join(str(c) for c in list(model.classes_)[:10])
    return render(Page(title, f"Classes: {classes_text}", verdict, kept))


def track_page(
    frame: pd.DataFrame, what: str, subtitle: str, settings: Mapping[str, Any], text: str = ""
) -> str:
    """Return the report of scores along a genome as HTML.

    Parameters
    ----------
    frame : DataFrame
        Columns `chrom`, `start`, `end`, `score` and, of windows, `strand`.
    what : str
        What the score is, such as "surprisal [nats]".
    subtitle : str
        The genome and the model.
    settings : mapping
        Names and values for the last section.
    text : str
        What a reader should know of the score (default: nothing).
    """
    lengths = frame.groupby("chrom", sort=False)["end"].max().sort_values(ascending=False)
    words = (text,) * bool(text)
    if len(lengths) > _MOST_CONTIGS:
        words += (f"{len(lengths) - _MOST_CONTIGS:,} shorter contigs are not shown.",)
    charts = [
        _track(str(contig), part, what)
        for contig, part in frame[frame["chrom"].isin(lengths.index[:_MOST_CONTIGS])].groupby(
            "chrom", sort=False
        )
    ]
    best = frame.nlargest(_BEST, "score")
    sections = (
        Section("Along the genome", words, tuple(charts), picker="Contig"),
        Section("Highest scores", tables=(Table(f"The {len(best)} highest scores", best),)),
        run_section(settings),
    )
    n = int(frame["score"].notna().sum())
    values = frame["score"].dropna()
    verdict = f"{n:,} scores" + (
        f" from {values.min():.4g} to {values.max():.4g}, with a median of {values.median():.4g}."
        if n
        else "."
    )
    return render(
        Page(f"{what[0].upper()}{what[1:]} along a genome", subtitle, ((verdict, ""),), sections)
    )


def variants_page(effects: pd.DataFrame, subtitle: str, settings: Mapping[str, Any]) -> str:
    """Return the report of the effects of variants as HTML.

    Parameters
    ----------
    effects : DataFrame
        As `variant_effect` of an estimator returns it.
    subtitle : str
        The genome and the model.
    settings : mapping
        Names and values for the last section.
    """
    known = effects[effects["effect"].notna()]
    order = known["effect"].abs().sort_values(ascending=False, kind="stable").index
    charts = []
    if len(known):
        counts, edges = np.histogram(known["effect"], bins=min(41, 5 + len(known) // 4))
        middle = pd.Index((edges[1:] + edges[:-1]) / 2)
        bars = Mark("bars", "variants", middle, counts.astype(float), role="past")
        charts.append(Chart("Effects of all variants", (bars,), "effect", "number of variants"))
        place = pd.Index(known["ref_score"].to_numpy(float))
        points = Mark("points", "variants", place, known["alt_score"].to_numpy(float), role="past")
        ends = np.array([place.min(), place.max()])
        same = Mark("line", "no effect", pd.Index(ends), ends, role="quiet", dash="dot")
        charts.append(
            Chart(
                "Both alleles",
                (same, points),
                "score of the reference",
                "score of the alternative",
            )
        )
    mismatch = int((~effects["ref_match"].astype(bool)).sum())
    verdict = [(f"{len(effects):,} variants, {len(known):,} of them scored.", "")]
    if mismatch:
        verdict.append((f"The genome has another reference at {mismatch:,} of them.", "bad"))
    text = "Scores are log-odds of the class, or values of a regressor; the effect is their difference."
    table = Table(
        "Variants by the size of their effect",
        effects.loc[order],
        rest="they are in the file that the command writes",
    )
    sections = (
        Section("Effects", (text,), tuple(charts)),
        Section("Variants", tables=(table,)),
        run_section(settings),
    )
    return render(Page("Effects of variants", subtitle, tuple(verdict), sections))


def _track(contig: str, part: pd.DataFrame, what: str) -> Chart:
    marks = []
    strands = part["strand"].unique() if "strand" in part else [None]
    for strand, role in zip(strands, ("past", "forecast", "a"), strict=False):
        rows = part if strand is None else part[part["strand"] == strand]
        x = pd.Index((rows["start"].to_numpy() + rows["end"].to_numpy()) // 2)
        name = "score" if strand is None else f"strand {strand}"
        marks.append(Mark("line", name, x, rows["score"].to_numpy(float), role=role))
    return Chart(contig, tuple(marks), "position", what)


def _contributions(job: ClassifyJob) -> Section:
    """Return a logo for each class, of the sequence with the highest probability of it."""
    model = job.classifier
    classes = list(model.classes_)[:4]
    logos = []
    for label in classes:
        sure = job.predictions[f"p_{label}"].to_numpy(float)
        place = int(sure.argmax())
        sequence = str(job.sequences[place])
        scores = _letter_scores(model, sequence, label)
        if scores is None:
            continue
        sums = np.convolve(np.abs(scores), np.ones(min(_LETTERS, len(scores))), "valid")
        first = int(sums.argmax())
        shown = slice(first, first + _LETTERS)
        row = job.predictions.index[place]
        title = f"Class {label}: row {row}, probability {sure[place]:.3f}, from letter {first}"
        logos.append(Logo(title, letters_of(scores[shown], sequence[shown]), first))
    if not logos:
        return Section("What the model reads")
    text = (
        "For each class, the sequence with the highest probability of it. Letters above the line raise "
        "the score of the class, and letters below it lower it; a letter is as high as the score falls, "
        "on average, when it is replaced (in long sequences: the gradient of the score)."
    )
    return Section("What the model reads", (text,), logos=tuple(logos))


def _letter_scores(
    model: TitansClassifier, sequence: str, label: Any
) -> np.ndarray[Any, np.dtype[np.float64]] | None:
    """Return the contribution of every letter `[T]`; None if it cannot be computed."""
    try:
        if len(sequence) <= _MUTATED:
            return -np.asarray(model.mutagenesis(sequence, label=label)).sum(1) / 3
        gradient = model.saliency(sequence, label=label)
    except (TypeError, ValueError):  # a tokenizer without a gradient of letters, several labels
        return None
    own = np.array(["ACGT".find(letter) for letter in sequence.upper()])
    return np.where(own >= 0, gradient[np.arange(len(own)), own], 0.0)


def _motifs(model: TitansClassifier) -> Section:
    """Return logos of the motif filters of a tokenizer that has some."""
    filters = getattr(model.model_.tokenizer, "filters", None)
    if filters is None:
        return Section("Motif filters")
    weights = filters.detach().cpu().double().numpy()[:, :4]  # [F, 4, K]
    weights = weights - weights.mean(1, keepdims=True)
    strongest = np.argsort(-np.linalg.norm(weights, axis=(1, 2)))[:_FILTERS]
    logos = tuple(Logo(f"Filter {i}", letters_of(weights[i].T, None)) for i in strongest.tolist())
    text = "The filters with the largest weights: letters above the line fit a filter."
    return Section("Motif filters", (text,), logos=logos)
