"""Regression on DNA: strength of plant promoters in two cell systems, and a linear k-mer model.

    python benchmarks/starr.py --seeds 3

Jores et al. 2021 (Nature Plants, STARR-seq) measured core promoters of 170 letters in tobacco leaves and
in protoplasts of maize. One model predicts both; unmeasured values are missing. The row "titans" is the
network of "titans + words" alone, and its seconds are those of its predictions. `$TITANS_TS_DATA` has
only the test part of the paper, so this split is not the official one: a seed holds out a fifth of the
genes.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import torch
from controls import PLAIN_DNA
from record import data_file, record
from scipy.stats import spearmanr
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV, GroupShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer

from titans_ts import KmerModel, TitansRegressor
from titans_ts.genomics.kmers import KmerVectorizer

TITANS = {"tokenizer": "conv", "stride": 4, "pooling": "flatten", "n_layers": 1}
TITANS |= {"learning_rate": 0.005, "max_epochs": 10, "progress_bar": False}
TITANS |= {"kmer_model": KmerModel(6, 2)}


def read() -> pd.DataFrame:
    """Read one row per promoter: `sequence`, `gene`, and a column for each system."""
    path = data_file("genomics/regression/jores2021_plant_starr_170bp_testset.csv.gz")
    frame = pd.read_csv(path, keep_default_na=False, na_values={"label": [""]})
    table = frame.pivot_table(index=["sequence", "gene"], columns="system", values="label")
    return table.reset_index()


def fit_words(X: Any, y: Any, genes: Any) -> Any:
    """Fit a ridge regression on gapped k-mers per system; a fifth of the genes selects its alpha."""
    counts = make_pipeline(KmerVectorizer(k=6, gaps=2, both_strands=False), Normalizer())
    seen, models = counts.fit_transform(X), []
    for values in y.T:
        known = ~np.isnan(values)
        fifth = GroupShuffleSplit(1, test_size=0.2, random_state=0)
        model = GridSearchCV(Ridge(), {"alpha": [0.1, 0.3, 1, 3, 10]}, cv=fifth)
        models.append(model.fit(seen[known], values[known], groups=genes[known]))
    return lambda asked: np.stack([model.predict(counts.transform(asked)) for model in models], 1)


def fitted(X: list[str], y: Any, genes: Any, seed: int) -> Iterator[tuple[str, Any]]:
    """Yield names of models, and their prediction functions."""
    model = TitansRegressor(**(PLAIN_DNA | TITANS), random_state=seed).fit(X, y, groups=genes)
    yield "titans + words", model.predict
    model.kmer_model_ = None  # its network alone
    yield "titans", model.predict
    yield "gapped words", fit_words(X, y, genes)


def rows(frame: pd.DataFrame, seed: int) -> Iterator[dict[str, Any]]:
    """Yield a row for every model and system."""
    systems = [c for c in frame.columns if c not in ("sequence", "gene")]
    split = GroupShuffleSplit(1, test_size=0.2, random_state=seed)
    train, test = (frame.iloc[i] for i in next(split.split(frame, groups=frame["gene"])))
    genes, start = train["gene"].to_numpy(), time.perf_counter()
    for name, predict in fitted(train["sequence"].tolist(), train[systems].to_numpy(), genes, seed):
        predicted = predict(test["sequence"].tolist())
        seconds, start = round(time.perf_counter() - start, 1), time.perf_counter()
        for system, values in zip(systems, predicted.T, strict=True):
            known = test[system].notna().to_numpy()
            wanted = test[system].to_numpy()[known]
            yield {
                "model": name,
                "seed": seed,
                "system": system,
                "asked": int(known.sum()),
                "r2": round(float(r2_score(wanted, values[known])), 4),
                "spearman": round(float(spearmanr(wanted, values[known]).statistic), 4),
                "seconds": seconds,
            }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    frame, found = read(), []
    for seed in range(args.seeds):
        for row in rows(frame, seed):
            found.append(row)
            print(json.dumps(row), flush=True)
            record("starr", f"python benchmarks/starr.py --seeds {args.seeds}", found)


if __name__ == "__main__":
    main()
