"""One thread: two on a busy machine are many times slower, and xdist runs a worker a core."""

import torch

torch.set_num_threads(1)
