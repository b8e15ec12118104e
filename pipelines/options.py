"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["Quiet", "Seed", "Threads"]

Threads = Annotated[
    int, typer.Option(help="Processor threads; more than the free cores is much slower.", min=1)
]
Seed = Annotated[int, typer.Option(help="Seed: the same seed gives the same result.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress bar.")]
