"""What `kernels.py` measures the speed and the memory of the neural memory with."""
