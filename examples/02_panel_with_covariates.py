"""Forecast the sales of many shops with prices, promotions and the calendar.

Eight shops sell more on Saturdays, during a promotion and at a low price. All are rows of one long
frame; every column has a role. The prices and promotions of the next two weeks are known, because the
shops plan them. A second forecaster, which does not know them, shows what they are worth.

    python examples/02_panel_with_covariates.py
"""

import numpy as np
import pandas as pd
import torch

from titans_ts import TitansForecaster

HORIZON, DAYS = 14, 240


def make_sales(seed: int = 0) -> pd.DataFrame:
    """A row per shop and day: shop, day, region, price, promotion and units sold."""
    rng = np.random.default_rng(seed)
    days = pd.date_range("2024-01-01", periods=DAYS + HORIZON, freq="D")
    frames = []
    for number in range(8):
        price = rng.choice([2.0, 2.5, 3.0], len(days))
        promotion = (rng.random(len(days)) < 0.2).astype(float)
        saturday = 1 + 0.5 * (days.dayofweek == 5)
        level = 20 + 15 * number
        sold = level * saturday * (1 + 0.6 * promotion) * (2.5 / price)
        frames.append(
            pd.DataFrame(
                {
                    "shop": f"shop {number}",
                    "day": days,
                    "region": "north" if number < 4 else "south",
                    "price": price,
                    "promotion": promotion,
                    "sold": sold + 0.05 * level * rng.normal(size=len(days)),
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def main() -> None:
    torch.set_num_threads(1)  # more threads than free cores is slower, not faster
    sales = make_sales()
    last = sales["day"].max() - pd.Timedelta(days=HORIZON)
    past, future = sales[sales["day"] <= last], sales[sales["day"] > last]
    plan = future[["shop", "day", "price", "promotion"]]  # what is known for the next days

    settings = {
        "item_id": "shop",
        "timestamp": "day",
        "target": "sold",
        "static_covariates": "region",
        "calendar": ["week"],
        "max_epochs": 8,
        "learning_rate": 3e-3,
        "random_state": 0,
        "progress_bar": False,
    }
    informed = TitansForecaster(HORIZON, 28, known_covariates=["price", "promotion"], **settings)
    informed.fit(past)
    forecast = informed.predict(known_covariates=plan)  # columns shop, day, sold

    blind = TitansForecaster(HORIZON, 28, **settings)
    blind.fit(past.drop(columns=["price", "promotion"]))

    truth = future.set_index(["shop", "day"])["sold"]
    errors = {}
    for name, table in (("with the plan", forecast), ("without it", blind.predict())):
        errors[name] = (table.set_index(["shop", "day"])["sold"] - truth).abs().mean()
        print(f"mean absolute error {name}: {errors[name]:.2f} units")
    change = 1 - errors["with the plan"] / errors["without it"]
    print(f"prices and promotions lower the error by {change:.0%}")

    print("\nthe first shop:")
    print(forecast.head(3).round(1).to_string(index=False))


if __name__ == "__main__":
    main()
