"""The memory compiled from C, on a CPU."""
