"""A retailer's panel, with prices and promotions, forecast from the shell."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from titans_ts import TitansForecaster
from titans_ts.pipelines.cli import app
from titans_ts.pipelines.ingest import Columns, read_plan, read_series
from titans_ts.pipelines.plan import split_plan

DATA = os.environ.get("TITANS_TS_DATA")


def sales(n, seed=0):
    """Sales of four products that fall with the price and rise with a promotion."""
    rng = np.random.default_rng(seed)
    days = pd.date_range("2024-01-01", periods=n)
    parts = []
    for number in range(4):
        price = rng.choice([1.0, 2.0, 3.0], n)
        promo = rng.random(n) < 0.2
        sold = 20 * (number + 1) - 5 * price + 20 * promo + rng.normal(size=n)
        parts.append(
            pd.DataFrame(
                {
                    "product": f"p{number}",
                    "day": days,
                    "sold": sold,
                    "price": price,
                    "promo": promo,
                    "kind": "ab"[number % 2],
                }
            )
        )
    return pd.concat(parts)


def test_a_retailer_forecasts_with_prices_and_promotions(tmp_path):
    frame = sales(130)
    now, later = frame["day"] < "2024-05-03", frame["day"] >= "2024-05-03"
    frame[now].to_csv(tmp_path / "sales.csv", index=False)
    frame[later].drop(columns="sold").to_csv(tmp_path / "plan.csv", index=False)
    out, model = tmp_path / "out", tmp_path / "model"
    command = ["forecast", str(tmp_path / "sales.csv"), "--prediction-length", "7"]
    command += ["--item-column", "product", "--target", "sold", "--static-covariates", "kind"]
    command += ["--known-covariates", "price,promo", "--future", str(tmp_path / "plan.csv")]
    command += ["--calendar", "week", "--quantiles", "0.05,0.95", "--coverage", "0.8"]
    command += ["--max-epochs", "3", "--preset", "fast", "--out", str(out), "--save", str(model)]
    result = CliRunner().invoke(app, [*command, "--report", str(out / "report.html"), "--json"])
    assert result.exit_code == 0, result.output
    assert "4 series, 1 variate, 492 rows" in result.output
    content = json.loads(result.output.splitlines()[-1])
    assert {Path(name).name for name in content["files"]} == {
        *("forecast.csv", "errors.csv", "forecast.png", "report.html", "model")
    }
    table = pd.read_csv(out / "forecast.csv", parse_dates=["day"])
    assert list(table) == [
        *("product", "day", "sold", "sold_q0.05", "sold_q0.5", "sold_q0.95"),
        *("sold_lower80", "sold_upper80"),
    ]
    assert len(content["forecast"]) == len(table) == 28
    assert content["forecast"][0]["sold"] == pytest.approx(table["sold"][0])
    assert content["held_out"]["independent_forecasts"] == 4
    expected = frame[later]
    assert list(table["day"]) == list(expected["day"])
    # the plan is used: the days of a promotion sell more
    promo = expected["promo"].to_numpy()
    level = table.groupby("product")["sold"].transform("mean")
    gain = (table["sold"] - level).to_numpy()
    assert gain[promo].mean() > gain[~promo].mean()
    loaded = TitansForecaster.load(model)
    assert loaded.known_covariates == ("price", "promo")
    assert (loaded.item_id, loaded.timestamp, loaded.calendar) == ("product", "day", ("week",))


def test_the_plan_may_stand_in_the_last_rows(tmp_path):
    frame = sales(60).astype({"promo": object})
    later = (frame["day"] >= "2024-02-23").to_numpy()
    whole = frame.assign(sold=frame["sold"].where(~later))
    whole.loc[5, "promo"] = None  # truth values with a gap
    whole.to_csv(tmp_path / "whole.csv", index=False)
    whole[later].drop(columns="sold").to_csv(tmp_path / "plan.csv", index=False)
    command = ["forecast", str(tmp_path / "whole.csv"), "--prediction-length", "7"]
    command += ["--item-column", "product", "--target", "sold", "--out", str(tmp_path)]
    command += ["--known-covariates", "price,promo", "--preset", "fast", "--max-epochs", "1"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert "28 last rows have no value of sold: they are the plan" in result.output
    assert list(pd.read_csv(tmp_path / "forecast.csv", parse_dates=["day"])["day"]) == list(
        frame[later]["day"]
    )
    columns = Columns(item=["product"], target=["sold"], known=["price", "promo"])
    series, plan = split_plan(read_series(tmp_path / "whole.csv", columns), columns.known)
    names = {"item_id": series.item_id, "timestamp": series.timestamp}
    expected = read_plan(tmp_path / "plan.csv", columns, **names)
    pd.testing.assert_frame_equal(plan.reset_index(drop=True), expected, check_dtype=False)
    assert series.frame["promo"].isna().sum() == 4  # row 5 of every product


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--known-covariates", "price"],
            "of the next 7 steps are missing; give them in a file by",
        ),
        (
            ["--known-covariates", "price", "--future", "{folder}/short.csv"],
            "known_covariates lacks ('p0', Timestamp('2024-01-22 00:00:00')); give the 7 steps",
        ),
        (["--future", "plan.csv"], "--future is given, but no --known-covariates"),
        (["--quantiles", "a"], "--quantiles is 'a'; give numbers separated by commas"),
        (["--calendar", "moon"], "calendar is ('moon',); give True, False or some of"),
        (["--item-column", "shop"], "--item-column: there is no column 'shop'"),
        (["--freq", "X"], "freq is 'X', which is no frequency of pandas"),
    ],
)
def test_mistakes_in_the_roles_are_named(options, message, tmp_path):
    sales(20).to_csv(tmp_path / "sales.csv", index=False)
    command = ["forecast", str(tmp_path / "sales.csv"), "--prediction-length", "7"]
    later = sales(30)
    later[later["day"] == "2024-01-21"].to_csv(tmp_path / "short.csv", index=False)
    command += ["--item-column", "product", "--target", "sold", "--out", str(tmp_path)]
    command += [option.format(folder=tmp_path) for option in options]
    result = CliRunner().invoke(app, command)
    assert isinstance(result.exception, ValueError)
    assert message in str(result.exception)
    assert not (tmp_path / "forecast.csv").exists()


@pytest.mark.slow
@pytest.mark.skipif(DATA is None, reason="TITANS_TS_DATA is not set")
def test_three_hundred_and_fifty_series_of_beer(tmp_path):
    frame = pd.read_parquet(Path(str(DATA)) / "timeseries" / "stallion.parquet")
    now = frame["date"] <= "2017-06-01"
    frame[now].to_parquet(tmp_path / "sales.parquet")
    frame[~now].drop(columns="volume").to_csv(tmp_path / "plan.csv", index=False)
    command = ["forecast", str(tmp_path / "sales.parquet"), "--prediction-length", "6"]
    command += ["--item-column", "agency,sku", "--target", "volume", "--preset", "fast"]
    command += ["--known-covariates", "price_actual,discount,easter_day", "--max-epochs", "1"]
    command += ["--past-covariates", "industry_volume", "--static-covariates", "agency,sku"]
    command += ["--future", str(tmp_path / "plan.csv"), "--out", str(tmp_path)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert "350 series, 1 variate, 18900 rows" in result.output
    table = pd.read_csv(tmp_path / "forecast.csv")
    assert len(table) == 350 * 6
    errors = pd.read_csv(tmp_path / "errors.csv", index_col=0)
    actual = frame[~now].astype({"agency": str, "sku": str, "date": str})
    actual["agency/sku"] = actual["agency"] + "/" + actual["sku"]
    both = actual.merge(table, on=["agency/sku", "date"])
    assert len(both) == 350 * 6
    error = (both["volume_x"] - both["volume_y"]).abs().mean()
    assert error < 1.2 * errors["theta"].mean()
