"""One thread: two on a busy machine are many times slower, and xdist runs a worker a core.

`TITANS_TS_TEST_THREADS=2` sets another number; `make test-portable` does.
"""

import os

import torch

torch.set_num_threads(int(os.environ.get("TITANS_TS_TEST_THREADS", "1")))
