"""What pytest leaves out where an optional package is missing."""

import importlib.util

# Triton is there for Linux alone; the modules that hold its kernels import it at the top.
if importlib.util.find_spec("triton") is None:
    collect_ignore_glob = ["*/kernels/triton/[!_o]*.py"]
