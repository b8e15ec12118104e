"""Forecast a new series at once, without a fit.

The package has a small network that was trained on random series alone. It reads a series and forecasts
any number of steps with quantiles, in milliseconds. Here it forecasts every day of a month of hourly
weather that it has never seen, beside simple forecasts, and then weeks ahead.

    python examples/05_zero_shot.py
"""

import torch

from titans_ts import TitansForecaster
from titans_ts.datasets import load_demo


def main() -> None:
    torch.set_num_threads(1)  # more threads than free cores is slower, not faster
    frame = load_demo()[["temperature", "humidity"]].tail(2000)

    forecaster = TitansForecaster.from_pretrained(24)
    backtest = forecaster.backtest(frame, n_windows=30, stride=24, progress_bar=False)
    errors = backtest.metrics()[["mase", "wql", "coverage"]]
    print(f"{backtest.n_windows} forecasts of a day, without a fit:")
    print(errors.round(3).to_string())
    share = errors["mase"]["titans"] / errors["mase"]["seasonal_naive"]
    print(f"its MASE is {1 - share:.0%} lower than that of seasonal naive")

    fortnight = TitansForecaster.from_pretrained(336).predict_quantiles(frame)
    print("\ntwo weeks ahead:")
    print(fortnight["temperature"].iloc[[0, 167, 335]].round(1).to_string())


if __name__ == "__main__":
    main()
