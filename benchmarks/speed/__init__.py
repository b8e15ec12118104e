"""The modules with which `kernels.py` measures speed and memory of the neural memory."""
