"""The memory as matrix products in PyTorch, on any device and of any depth."""
