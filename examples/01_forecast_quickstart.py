"""Forecast tomorrow's weather, say how sure the forecast is, and keep the model.

Reads the hourly weather of New York that comes with the package, so it needs no network. A small
model learns from two and a half months, forecasts every day of the ten days after them, and is
compared with the simplest honest rival: "tomorrow will be like today".

    python examples/01_forecast_quickstart.py
"""

import tempfile
from pathlib import Path

import torch

from titans_ts import TitansForecaster
from titans_ts.datasets import DEMO_SEASON_LENGTH, load_demo

CONTEXT, HORIZON, TEST_ROWS = 96, 24, 240


def main() -> None:
    torch.set_num_threads(1)  # more threads than free cores is slower, not faster
    frame = load_demo().iloc[-2040:]  # a DataFrame [T, C]; the hours not measured are NaN
    train = frame.iloc[:-TEST_ROWS]
    print(f"{frame.shape[1]} variates, {len(frame)} hours; the last {TEST_ROWS} are for the test")

    forecaster = TitansForecaster(
        prediction_length=HORIZON,
        context_length=CONTEXT,
        patch_length=24,
        patch_stride=12,
        d_model=32,
        n_layers=1,
        max_epochs=6,
        learning_rate=3e-3,
        random_state=0,
        progress_bar=False,
    )
    forecaster.fit(train)

    # Every window of the test rows, beside the simplest rivals.
    rows = frame.iloc[-TEST_ROWS - CONTEXT :]
    backtest = forecaster.backtest(rows, stride=1, season_length=DEMO_SEASON_LENGTH)
    errors = backtest.metrics(by="variate")["mae"].unstack("model")
    print(f"\nmean absolute error of {backtest.n_windows} forecasts of {HORIZON} hours")
    print(errors.round(3).to_string())
    share = (errors["titans"] / errors["seasonal_naive"]).mean()
    print(f"on average {1 - share:.1%} lower than seasonal naive")
    inside = backtest.metrics()["coverage"]["titans"]
    print(f"{inside:.0%} of the hours fell between the 10 % and the 90 % quantile")

    # After the last row of a frame: a frame again, its index continued hour by hour.
    print("\nnext hours:")
    print(forecaster.predict(frame).head(3).round(1).to_string())
    print(forecaster.predict_quantiles(frame)["temperature"].head(3).round(1).to_string())

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weather"
        forecaster.save(path)
        same = TitansForecaster.load(path).predict(frame).equals(forecaster.predict(frame))
    print(f"\nsaved and loaded, it forecasts the same: {same}")


if __name__ == "__main__":
    main()
