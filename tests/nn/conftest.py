"""Two test workers share two cores: more threads each would only make them wait for one another."""

import torch

torch.set_num_threads(1)
