"""The commands of `titans-ts` by product, with their lines in the list of commands and examples."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from titans_ts.pipelines.dna.classify import classify
from titans_ts.pipelines.dna.pretrain import pretrain
from titans_ts.pipelines.dna.scan import scan
from titans_ts.pipelines.dna.surprise import surprisal, surprise
from titans_ts.pipelines.dna.variants import variants
from titans_ts.pipelines.info import info
from titans_ts.pipelines.memory import memory
from titans_ts.pipelines.series.anomalies import anomalies
from titans_ts.pipelines.series.backtest import backtest
from titans_ts.pipelines.series.check import check
from titans_ts.pipelines.series.forecast import demo, forecast
from titans_ts.pipelines.series.predict import predict
from titans_ts.pipelines.series.stream import stream
from titans_ts.pipelines.tune import tune

__all__ = ["COMMANDS", "Command"]


class Command(NamedTuple):
    """A command."""

    run: Callable[..., None]
    """Its function, whose name is that of the command."""
    line: str
    """Its line in the list of commands."""
    examples: tuple[str, ...]
    """Command lines, without `titans-ts`."""

    @property
    def name(self) -> str:
        """Its name."""
        return self.run.__name__

    @property
    def epilog(self) -> str:
        """The examples as the last part of its help."""
        lines = (f"  titans-ts {line}" for line in self.examples)
        return "\n".join(["\b", "Examples:", *lines])


COMMANDS: dict[str, tuple[Command, ...]] = {
    "Time series": (
        Command(
            forecast,
            "Forecast the series of a file.",
            (
                "forecast data.csv --prediction-length 24 --report out.html",
                "forecast sales.csv --prediction-length 4 --item-column shop --target sold \\\n"
                "    --known-covariates price,promo --future plan.csv --coverage 0.9 --save model",
            ),
        ),
        Command(
            predict,
            "Forecast from a saved model, after new rows.",
            (
                "predict model new.csv > forecast.csv",
                "predict model new.csv --prediction-length 48 --quantiles 0.05,0.95",
                "predict model new.csv --future plan.csv --coverage 0.9 --save model --json",
            ),
        ),
        Command(
            stream,
            "Forecast after every row that arrives on the standard input.",
            (
                "stream model --state state < rows.csv",
                "stream model --state state --surprise --out forecasts.jsonl < rows.jsonl",
            ),
        ),
        Command(
            backtest,
            "Compare rolling forecasts with what came, and with simple ones.",
            (
                "backtest data.csv --prediction-length 24 --windows 20",
                "backtest recent.csv --model model --by step --out tested",
            ),
        ),
        Command(
            anomalies,
            "Find unusual values.",
            (
                "anomalies data.csv > anomalies.csv",
                "anomalies recent.csv --model model --risk 0.0001 --method evt --json",
            ),
        ),
        Command(
            check,
            "Look for problems of a file before it is forecast.",
            (
                "check data.csv",
                "check sales.csv --item-column shop --target sold --json",
            ),
        ),
        Command(
            demo,
            "Run an example: forecast New York's weather, offline, in a minute.",
            ("demo", "demo --out weather --seed 1"),
        ),
    ),
    "DNA": (
        Command(
            classify,
            "Classify the DNA sequences of a file.",
            (
                "classify train.csv test.csv --save model",
                "classify few.csv test.csv --pretrained dna-small",
                "classify peaks.bed --genome genome.fa --label-column name --groups-column chrom",
            ),
        ),
        Command(
            pretrain,
            "Train a language model on genomes without labels.",
            (
                "pretrain genome.fa --out model --no-position",
                "pretrain a.fa b.fa --out model --objective masked --bidirectional shared",
            ),
        ),
        Command(
            scan,
            "Score windows along a genome.",
            (
                "scan genome.fa --model model --out scores.bedgraph --window 200",
                "scan genome.fa --model model --out peaks.bed --window 200 --stride 50 --strand both",
            ),
        ),
        Command(
            variants,
            "Score the effects of variants.",
            (
                "variants genome.fa calls.vcf --model model --out effects.csv --window 200",
                "variants genome.fa calls.vcf --model model --out effects.csv --window 200 \\\n"
                "    --rename '*=chr*' --outside drop",
            ),
        ),
        Command(
            surprise,
            "Write a memory's surprise along a genome.",
            (
                "surprise genome.fa --model model --out surprise.bedgraph",
                "surprise genome.fa --model model --out surprise.bw --bin 100 --contigs chr1",
            ),
        ),
        Command(
            surprisal,
            "Write the surprisal of a genome's nucleotides.",
            (
                "surprisal genome.fa --model model --out surprisal.bedgraph",
                "surprisal genome.fa --model model --out surprisal.bw --bin 100 --contigs chr1",
            ),
        ),
    ),
    "Time series and DNA": (
        Command(
            tune,
            "Search for good parameters.",
            (
                "tune data.csv --prediction-length 24 --n-trials 50 --out tuned",
                "tune train.csv --groups-column chrom --n-trials 30 --storage sqlite:///study.db",
            ),
        ),
        Command(
            memory,
            "Report whether a saved model uses its memory.",
            (
                "memory data.csv --model weather --plot memory.png",
                "memory test.fa --model classifier --labels labels.csv",
            ),
        ),
        Command(
            info,
            "Describe a saved model, or the installation.",
            ("info model", "info --json"),
        ),
    ),
}
"""The commands of every product."""
