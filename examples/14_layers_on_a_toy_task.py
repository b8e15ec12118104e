"""Use the layers alone: recall a symbol that was seen long ago.

A stream begins with one of eight symbols; a hundred tokens of noise follow, then a question: which
symbol was it? A block with the neural memory learns to answer. A block of the same width whose attention
sees the last 16 tokens, and the same memory that never writes, stay at chance.

    python examples/14_layers_on_a_toy_task.py
"""

import torch
import torch.nn.functional as F
from torch import nn

from titans_ts.config import BackboneConfig, MemoryConfig
from titans_ts.nn import TitansBackbone

N_SYMBOLS, WIDTH, DISTANCE, BATCH = 8, 32, 100, 32


class Recall(nn.Module):
    """A backbone that reads a stream of tokens, and a map from its last output to a symbol."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.symbols = nn.Embedding(N_SYMBOLS, WIDTH)
        self.question = nn.Parameter(torch.randn(WIDTH))
        self.backbone = TitansBackbone(config)
        self.head = nn.Linear(WIDTH, N_SYMBOLS)

    def forward(self, symbol: torch.Tensor) -> torch.Tensor:
        """Scores of the symbols `[B, N]` after streams that begin with `symbol` `[B]`."""
        noise = 0.3 * torch.randn(len(symbol), DISTANCE, WIDTH)
        first = self.symbols(symbol)[:, None]  # [B, 1, D]
        last = self.question.expand(len(symbol), 1, WIDTH)
        y, _ = self.backbone(torch.cat([first, noise, last], 1))  # [B, T, D]
        return self.head(y[:, -1])


def accuracy_of(config: BackboneConfig, steps: int = 150) -> float:
    """Train for some steps, and return the accuracy on new streams."""
    torch.manual_seed(0)
    model = Recall(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(steps):
        symbol = torch.randint(N_SYMBOLS, (BATCH,))
        loss = F.cross_entropy(model(symbol), symbol)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    model.eval()
    with torch.no_grad():
        symbol = torch.randint(N_SYMBOLS, (512,))
        return float((model(symbol).argmax(-1) == symbol).float().mean())


def main() -> None:
    torch.set_num_threads(1)  # more threads than free cores is slower, not faster
    size = {"d_model": WIDTH, "n_layers": 1, "n_heads": 2}
    memory = accuracy_of(BackboneConfig(variant="lmm", **size))
    print(f"with a memory: {memory:.1%} after {DISTANCE} tokens (chance 12.5%)")
    silent = BackboneConfig(variant="lmm", memory=MemoryConfig(write=False), **size)
    print(f"with a memory that never writes: {accuracy_of(silent):.1%}")
    attention = BackboneConfig(variant="swa", window=16, **size)
    print(f"with attention over 16 tokens: {accuracy_of(attention):.1%}")


if __name__ == "__main__":
    main()
