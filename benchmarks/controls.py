"""Controls of a model with a memory: what it is worth without one."""

from __future__ import annotations

from typing import Any

__all__ = ["CONTROLS"]

CONTROLS: dict[str, dict[str, Any]] = {
    "write off": {"model_options__memory": {"write": False}},
    "attention alone": {"variant": "swa"},
    "no backbone": {"n_layers": 0},
}
"""Parameters of an estimator that are set in a control, by the control's name."""
