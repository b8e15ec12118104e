"""The memory as Triton kernels, on a GPU."""
