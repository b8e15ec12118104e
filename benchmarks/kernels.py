"""Speed and memory of the neural memory, compared with peers and a transformer layer in one run.

    python benchmarks/kernels.py                  # everything, on one thread of this machine's CPU
    python benchmarks/kernels.py --device cuda    # the same, with Triton and in bfloat16, on a GPU
    python benchmarks/kernels.py --markdown       # the tables of the last run; measures nothing

Every implementation of ours is checked against the recurrence first, and not timed if the check fails.
Contenders are timed in turn, round after round; ratios are medians over the rounds. Peers are optional:
the program prints the install command of missing ones. Rows and their samples are written to
`results/kernels-DEVICE.json`.
"""

from __future__ import annotations

import argparse
import json
import sys
import traceback
from pathlib import Path

import torch
from record import RESULTS, hardware
from speed.contenders import INSTALL, missing_peers
from speed.lengths import time_lengths
from speed.long import streams
from speed.precision import precision
from speed.run import Run
from speed.share import share_of_machine
from speed.step import one_token
from speed.tables import tables

LENGTHS = (512, 1024, 2048, 8192, 65536)
PARTS = {
    "precision": precision,
    "share": share_of_machine,
    "step": one_token,
    "table": time_lengths,
    "stream": streams,
}
"""The parts in the order of a run: quick ones come first, so that an interrupted run has them."""


def main(arguments: list[str] | None = None) -> None:
    arguments = sys.argv[1:] if arguments is None else arguments
    args = _parse(arguments)
    if args.device == "cuda" and not torch.cuda.is_available():
        sys.exit("no CUDA device: torch.cuda.is_available() is False")
    if args.markdown:
        path = args.results / f"kernels-{hardware(args.device)}.json"
        print(tables(json.loads(path.read_text()), markdown=True))
        return
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    for peer in missing_peers(args.device):
        print(f"{peer.replace('_', '-')} is not installed: {INSTALL[peer]}")
    run = Run(args, " ".join(["python benchmarks/kernels.py", *arguments]))
    for part in args.only or PARTS:
        try:
            for row in PARTS[part](run):
                run.add(row)
        except Exception as error:  # the other parts still run
            traceback.print_exc()
            run.failed(f"part {part}", error)
    print(tables(json.loads(run.path.read_text())))
    print(run.path)
    if any(row["part"] == "failure" or "failed" in row for row in run.rows):
        sys.exit("something of ours failed: see above")


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), help="parts to measure")
    parser.add_argument("--lengths", nargs="+", type=int, help="values of T in the table")
    parser.add_argument("--rounds", type=int, help="number of samples of each contender")
    parser.add_argument("--limit", type=float, default=60, help="maximum seconds of a pass")
    parser.add_argument(
        "--budget", type=float, default=float("inf"), help="approximate total seconds"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="tiny shapes: shows that it runs")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the rows")
    parser.add_argument("--markdown", action="store_true", help="print the last run's tables")
    args = parser.parse_args(arguments)
    args.lengths = sorted(args.lengths or ((32, 64) if args.quick else LENGTHS))
    args.rounds = args.rounds or (3 if args.quick else 5)
    if args.quick and args.results == RESULTS:
        parser.error("--quick measures nothing worth keeping: give --results FOLDER")
    return args


if __name__ == "__main__":
    main()
