"""Recall: what a memory keeps, and over how many tokens, beside two delta rules and attention.

    python benchmarks/recall.py                          # every task and row, three seeds
    python benchmarks/recall.py --tasks recall-16 copy --rows "lmm 1" swa --seeds 1
    python benchmarks/recall.py --markdown               # the table of the last run; measures nothing

Every model is trained on one length and then asked at 1, 4, 16 and 64 times that length, as far as 4 096
tokens. Reported are the training steps and the CPU seconds until 95 % of the answers of the last 20
batches were right, and the accuracy at every length, as the median over the seeds. `recall-N` are N
key-value pairs, then the N keys in another order among noise; with a `--length` of 3 N there is no noise.

A row is a variant and the depth of its memory, "swa" for attention alone, or one of the delta rules
of :mod:`delta_rules`. `--set` changes the memory or the backbone of every row: `--set chunk_size=64
n_persistent=0`. `--ablation` leaves out or changes one part of every row's layer after the other.
Results are added to `results/recall.json` after every row.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import json
import shlex
import statistics
import sys
import time
from typing import Any

import torch
import torch.nn.functional as F
from controls import ABLATION
from delta_rules import GatedDelta, MomentumDelta
from recall_tasks import TASKS, Task
from record import RESULTS, record
from torch import Tensor, nn

from titans_ts.config import BackboneConfig, MemoryConfig
from titans_ts.nn import TitansBackbone
from titans_ts.nn.blocks import BLOCKS

DELTA = {"gated-delta": GatedDelta, "momentum-delta": MomentumDelta}
ROWS = [f"{variant} {depth}" for variant in ("lmm", "mac", "mag", "mal") for depth in (1, 2)]
ROWS += ["swa", *DELTA]
TIMES = (1, 4, 16, 64)
LONGEST = 4096
ENOUGH = 0.95


class Model(nn.Module):
    """Embedding, backbone and a linear head for every token."""

    def __init__(self, task: Task, config: BackboneConfig) -> None:
        super().__init__()
        embed = nn.Linear if task.numbers else nn.Embedding
        self.embed: Any = embed(task.inputs, config.d_model)
        self.backbone = TitansBackbone(config)
        self.head = nn.Linear(config.d_model, task.classes)

    def forward(self, x: Tensor) -> Tensor:
        """Inputs `[n, T]` or `[n, T, F]` to logits `[n, T, classes]`."""
        return self.head(self.backbone(self.embed(x))[0])


def build(task: Task, row: str, args: argparse.Namespace) -> Model:
    """Build the model of a row."""
    variant, _, depth = row.partition(" ")
    names = {f.name for f in dataclasses.fields(MemoryConfig)}
    memory = MemoryConfig(
        depth=int(depth or 1), **{k: v for k, v in args.set.items() if k in names}
    )
    config = BackboneConfig(
        variant=variant,  # type: ignore[arg-type]
        d_model=args.width,
        n_layers=args.layers,
        n_heads=args.heads,
        dropout=0.0,
        memory=memory,
        **{k: v for k, v in args.set.items() if k not in names},
    )
    return Model(task, config)


def train(model: Model, task: Task, args: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Train a model; return how long it took to answer 95 % of the questions."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, args.learning_rate, total_steps=args.steps
    )
    right: list[float] = []
    start, reached = time.process_time(), None
    for step in range(1, min(args.steps, args.stop) + 1):
        x, y = task.make(args.batch, args.length or task.length, generator)
        output, asked = model(x), y >= 0
        loss = F.cross_entropy(output[asked], y[asked])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        right.append(float((output[asked].argmax(-1) == y[asked]).float().mean()))
        recent = statistics.mean(right[-20:])
        if step >= 20 and recent >= ENOUGH and reached is None:
            reached = {"steps": step, "seconds": round(time.process_time() - start, 1)}
        if step in args.marks:
            print(f"    step {step}: {recent:.3f}", flush=True)
    return {
        "reached": reached,
        "steps": args.steps,
        "seconds": round(time.process_time() - start, 1),
        "training": {str(m): round(statistics.mean(right[m - 20 : m]), 4) for m in args.marks},
    }


@torch.no_grad()
def accuracy(model: Model, task: Task, length: int, samples: int) -> float:
    """The share of right answers at a length, on sequences that no training batch held."""
    generator = torch.Generator().manual_seed(2**40 + length)
    hits = total = 0
    size = max(1, min(samples, 2**14 // length))
    for first in range(0, samples, size):
        x, y = task.make(min(size, samples - first), length, generator)
        asked = y >= 0
        hits += int((model(x)[asked].argmax(-1) == y[asked]).sum())
        total += int(asked.sum())
    return hits / total


def run(args: argparse.Namespace) -> None:
    path = RESULTS / f"{args.name}.json"
    old = json.loads(path.read_text())["rows"] if path.is_file() else []
    BLOCKS.update(DELTA)
    for name in args.tasks:
        task = TASKS[name]
        base = args.length or task.length
        for row in args.rows:
            key = {
                "task": name,
                "row": row,
                "memory": args.set,
                "width": args.width,
                "length": base,
            }
            known = [r for r in old if all(r[k] == key[k] for k in key)]
            runs = known[0]["runs"] if known and not args.again else []
            for seed in range(len(runs), args.seeds):
                torch.manual_seed(seed)
                model = build(task, row, args)
                result = train(model, task, args, seed)
                lengths = [base * t for t in TIMES if base * t <= max(base, LONGEST)]
                result["accuracy"] = {
                    str(n): round(accuracy(model.eval(), task, n, args.samples), 4) for n in lengths
                }
                runs.append(result)
                print(name, row, args.set, seed, result, flush=True)
                parameters = sum(p.numel() for p in model.parameters())
                old = [r for r in old if any(r[k] != key[k] for k in key)]
                old.append({**key, "parameters": parameters, "runs": runs})
                record(args.name, args.command, old)


def table(rows: list[dict[str, Any]]) -> str:
    """Lay the rows out as a Markdown table, medians over the seeds."""
    marks = list(rows[0]["runs"][0]["training"])
    head = ["task", "row", "seeds", "steps to .95", "CPU s", *(f"step {m}" for m in marks)]
    head += ["at that length", *(f"{n} times" for n in TIMES[1:])]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    order = {name: i for i, name in enumerate([*TASKS, *ROWS])}
    for r in sorted(rows, key=lambda r: (order[r["task"]], order[r["row"]])):
        runs = r["runs"]
        reached = [run["reached"] for run in runs]
        cells = [
            "-" if None in reached else f"{statistics.median(x[k] for x in reached):.0f}"
            for k in ("steps", "seconds")
        ]
        cells += [_median([run["training"].get(m) for run in runs]) for m in marks]
        lengths = [str(r["length"] * n) for n in TIMES]
        cells += [_median([run["accuracy"].get(n) for run in runs]) for n in lengths]
        row = " ".join([r["row"], *(f"{name}={value}" for name, value in r["memory"].items())])
        lines.append(f"| {' | '.join([r['task'], row, str(len(runs)), *cells])} |")
    return "\n".join(lines)


def _median(values: list[float | None]) -> str:
    """Format the median without a leading zero; empty where nothing was measured."""
    known = [value for value in values if value is not None]
    return f"{statistics.median(known):.3f}".removeprefix("0") if known else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--rows", nargs="+", default=ROWS)
    parser.add_argument("--seeds", type=int, default=3, help="measured ones are kept")
    parser.add_argument("--again", action="store_true", help="measure the kept seeds once more")
    parser.add_argument("--steps", type=int, default=1000, help="training steps (default: 1000)")
    parser.add_argument(
        "--stop", type=int, default=2**31, help="end training here (default: --steps)"
    )
    parser.add_argument("--length", type=int, help="tokens of a training sequence")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--heads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--samples", type=int, default=64, help="test sequences of a length")
    parser.add_argument("--marks", nargs="*", type=int, default=[300, 600, 1000])
    parser.add_argument("--set", nargs="*", default=[], metavar="FIELD=VALUE")
    parser.add_argument("--ablation", action="store_true", help="leave out one part at a time")
    parser.add_argument("--name", default="recall", help="file of the results")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--markdown", action="store_true")
    args = parser.parse_args()
    if args.markdown:
        print(table(json.loads((RESULTS / f"{args.name}.json").read_text())["rows"]))
        return
    given = {k: _value(v) for k, v in (pair.split("=") for pair in args.set)}
    args.marks = [m for m in args.marks if m <= args.steps]
    args.command = shlex.join(["python", "benchmarks/recall.py", *sys.argv[1:]])
    torch.set_num_threads(args.threads)
    for left_out in [{}, *(ABLATION.values() if args.ablation else [])]:
        args.set = given | left_out
        run(args)


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text


if __name__ == "__main__":
    main()
