#!/usr/bin/env bash
# Every check that needs a GPU, in one command of under eight minutes: the kernels' tests on CUDA, then speed,
# memory, precision and the share of the device's own matrix throughput and bandwidth.
#
#     bash benchmarks/gpu.sh
#
# Needs python with torch, triton and pytest (PYTHON names another interpreter), and no network. Peers are
# measured where they are installed. Rows go to benchmarks/results/, and to $OUT too if that is set.
# DEVICE=cpu walks the same path with tiny shapes on a machine without a GPU, and keeps no rows.
set -euo pipefail
cd "$(dirname "$0")/.."
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
python=${PYTHON:-python3}
device=${DEVICE:-cuda}
results=benchmarks/results
status=0

fail() {
    echo "gpu.sh: $*" >&2
    status=1
}

if [ "$device" = cpu ]; then
    results=$(mktemp -d)
    trap 'rm -rf "$results"' EXIT
    options="--quick"
else
    "$python" - <<'PYTHON' || { echo "gpu.sh: $python has no torch that sees a CUDA device" >&2; exit 1; }
import sys, torch
sys.exit(not torch.cuda.is_available())
PYTHON
    options="--budget 200 --limit 3"
fi

echo "== device and versions"
"$python" - "$device" <<'PYTHON'
import platform, sys
sys.path.insert(0, "benchmarks")
from record import PEERS, accelerator, versions
print("python", platform.python_version(), versions("torch", "pytest", *PEERS))
if sys.argv[1] == "cuda":
    print(accelerator())
PYTHON

echo "== tests of the kernels on $device"
if "$python" -c "import pytest" 2>/dev/null; then
    timeout 180 "$python" -m pytest -q --tb=short --maxfail=10 -p no:cacheprovider tests/kernels ||
        fail "the tests did not pass, or not in time (exit status $?)"
else
    fail "pytest is not installed: no test ran"
fi

echo "== benchmark on $device"
# shellcheck disable=SC2086  # options are words
timeout 270 "$python" benchmarks/kernels.py --device "$device" $options --results "$results" || {
    fail "the benchmark did not end well (exit status $?); what it had measured:"
    "$python" benchmarks/kernels.py --device "$device" --results "$results" --markdown || true
}

if [ -n "${OUT:-}" ]; then
    mkdir -p "$OUT"
    cp "$results"/kernels-*.json "$OUT"/
fi
exit "$status"
