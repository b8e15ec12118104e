"""Find unusual values in a series without training anything.

A memory reads the series and measures how much every value surprises it, in usual errors of the series
so far. On six days, the sensor shows the median of the day at the hour of its peak: a value that is
usual at other hours, so no fixed limit finds it. The memory does; it is surprised a second time when
the sensor shows the right value again.

    python examples/04_anomalies.py
"""

import pandas as pd
import torch

from titans_ts import TitansForecaster
from titans_ts.datasets import make_series

DAYS = [16, 23, 30, 36, 41, 47]


def make_sensor() -> tuple[pd.DataFrame, pd.DatetimeIndex]:
    """Hours of a sensor with a daily swing, and the times at which it shows a wrong value."""
    frame = make_series(1200, 1, seasons=(24,), regime_changes=0, noise=0.1, random_state=3)
    times = []
    for day in DAYS:
        hours = frame["y0"].iloc[24 * day : 24 * (day + 1)]
        times.append(hours.idxmax())
        frame.loc[times[-1], "y0"] = hours.median()
    return frame, pd.DatetimeIndex(times)


def main() -> None:
    torch.set_num_threads(1)  # more threads than free cores is slower, not faster
    frame, wrong = make_sensor()

    forecaster = TitansForecaster.from_pretrained(1)
    table = forecaster.detect_anomalies(frame, score="surprise", risk=0.0125)
    found = table[table["anomaly"]]  # timestamp, variate, value, score, threshold
    print(found.drop(columns=["variate", "anomaly"]).round(2).to_string(index=False))

    right = found["timestamp"].isin(wrong).sum()
    low, high = frame["y0"].quantile([0.01, 0.99])
    outside = ~frame.loc[wrong, "y0"].between(low, high)
    print(f"\n{len(found)} values are called unusual; {right} of the {len(wrong)} wrong ones")
    print(f"a limit at {low:.1f} and {high:.1f} finds {outside.sum()} of them")


if __name__ == "__main__":
    main()
