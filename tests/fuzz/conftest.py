"""Property tests: the same few examples every time, or many random ones (`make fuzz`).

`TITANS_TS_FUZZ=50` runs fifty times as many examples of every property, with a random seed that is
printed; `--hypothesis-seed` gives it again. Nothing is kept on disk.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, configuration, settings

configuration.set_hypothesis_home_dir(Path(tempfile.gettempdir()) / "titans-ts-hypothesis")
COMMON = {
    "database": None,
    "deadline": None,  # an example that takes too long ends in properties.within
    "print_blob": False,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
}
settings.register_profile("test", derandomize=True, **COMMON)
settings.register_profile("fuzz", derandomize=False, **COMMON)
settings.load_profile("fuzz" if "TITANS_TS_FUZZ" in os.environ else "test")
