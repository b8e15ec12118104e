"""Add a block of your own to the registry, and forecast with it.

A block is a `Mixer` (how tokens of a stream are mixed) and a row of `BLOCKS`. This one keeps an
exponential moving average of the tokens. Its state makes streams continue, and the estimators take its
name like those of the blocks in the package.

    python examples/15_custom_block.py
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from titans_ts import TitansForecaster
from titans_ts.config import BackboneConfig
from titans_ts.datasets import make_series
from titans_ts.nn import BLOCKS, Mixer, MixerOutput, TitansBackbone


class AverageState(NamedTuple):
    """What a stream carries: the average so far, `[B, D]`."""

    average: Tensor


class MovingAverage(Mixer):
    """Exponential moving averages, with a learned rate for every channel."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__(config)
        self.memory_heads = 0  # it has no memory whose surprise could be reported
        self.rate = nn.Parameter(torch.linspace(-3, 3, config.d_model))
        self.out_proj = nn.Linear(config.d_model, config.d_model, bias=False)

    @property
    def output_weight(self) -> Tensor:
        """Weights that the output is proportional to."""
        return self.out_proj.weight

    def initial_state(self, batch_size: int) -> AverageState:
        """Return the state at the beginning of `batch_size` streams."""
        return AverageState(self.rate.new_zeros(batch_size, len(self.rate)))

    def forward(self, x: Tensor, state: AverageState, lengths: Tensor | None = None) -> MixerOutput:
        """Read the next tokens `[B, T, D]`; of each sample, only the first `lengths` are present."""
        rate, average, outputs = self.rate.sigmoid(), state.average, []
        for t in range(x.shape[1]):
            new = average + rate * (x[:, t] - average)
            if lengths is not None:  # an absent token changes nothing
                new = torch.where((t < lengths)[:, None], new, average)
            average = new
            outputs.append(average)
        y = self.out_proj(torch.stack(outputs, 1))
        return MixerOutput(y, AverageState(average), x.new_zeros(*x.shape[:2], 0))


def main() -> None:
    torch.set_num_threads(1)  # more threads than free cores is slower, not faster
    BLOCKS["average"] = MovingAverage

    # Two pieces of a stream, with the state carried, give what the whole stream gives.
    torch.manual_seed(0)
    config = BackboneConfig(variant="average", d_model=32, n_layers=2)
    backbone = TitansBackbone(config).eval()
    x = torch.randn(1, 50, 32)
    with torch.no_grad():
        whole, _ = backbone(x)
        first, state = backbone(x[:, :20])
        second, _ = backbone(x[:, 20:], state)
    difference = (torch.cat([first, second], 1) - whole).abs().max()
    print(f"read in two pieces, the stream gives the same: {bool(difference < 1e-5)}")

    frame = make_series(400, 1, seasons=(12,), regime_changes=0, random_state=2)
    forecaster = TitansForecaster(
        12,
        36,
        variant="average",
        n_layers=1,
        d_model=32,
        blend=False,  # the network alone
        max_epochs=15,
        learning_rate=3e-3,
        random_state=0,
        progress_bar=False,
    )
    forecaster.fit(frame.iloc[:-60])
    backtest = forecaster.backtest(frame.iloc[-96:], stride=4, progress_bar=False)
    errors = backtest.metrics()["mae"]
    print(errors.round(3).to_string())
    change = 1 - errors["titans"] / errors["seasonal_naive"]
    print(f"the network with this block is {change:.0%} better than seasonal naive")


if __name__ == "__main__":
    main()
