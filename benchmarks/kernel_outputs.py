"""Hash the outputs of fixed memory and backbone calls, to prove that a change alters no bit.

Run it before a change that must not alter results, and again after it::

    python benchmarks/kernel_outputs.py record before.json
    python benchmarks/kernel_outputs.py compare before.json

Every call is hashed on one thread: outputs, final state, surprise and all gradients. The hashes hold
for one machine and one build of torch, so the file is not committed. `compare` exits with status 1
and names the calls that differ.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from titans_ts.config import BackboneConfig, MemoryConfig
from titans_ts.kernels import IMPLEMENTATIONS, MemoryState, neural_memory
from titans_ts.nn import BLOCKS, TitansBackbone

B, H, K, HIDDEN = 2, 3, 8, 12
LENGTHS, CHUNKS, DEPTHS = (1, 7, 16, 50, 100), (1, 4, 16, 64), (1, 2, 3)
DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16}


def digest(tensors: Any) -> str:
    """Hash the bytes of tensors, or of nested tuples of them."""
    sha = hashlib.sha256()

    def add(x: Any) -> None:
        if isinstance(x, Tensor):
            sha.update(x.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        elif isinstance(x, (tuple, list)):
            for part in x:
                add(part)

    add(tensors)
    return sha.hexdigest()


def memory_calls() -> Iterator[tuple[str, str]]:
    """Call every implementation on the CPU, at awkward lengths, with and without each option."""
    names = [name for name in ("native", "chunked", "recurrent") if name in IMPLEMENTATIONS]
    options = itertools.product(names, DEPTHS, LENGTHS, CHUNKS, (True, False), (True, False))
    for name, depth, length, chunk, gates, carried in options:
        if name == "recurrent" and length > 16:
            continue
        yield memory_call(name, depth, length, chunk, gates, carried)
    for name, dtype, forget_to in itertools.product(names, DTYPES, ("init", "zero")):
        for masked in (True, False):
            yield memory_call(name, 2, 40, 16, True, True, dtype, forget_to, masked)


def memory_call(
    name: str,
    depth: int,
    length: int,
    chunk: int,
    gates: bool,
    carried: bool,
    dtype: str = "float32",
    forget_to: str = "init",
    masked: bool = False,
) -> tuple[str, str]:
    """Run one call of one implementation, forward and backward."""
    generator = torch.Generator().manual_seed(0)
    kind = DTYPES[dtype]
    wide = torch.promote_types(kind, torch.float32)  # dtype of the state

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    widths = [K] + [HIDDEN] * (depth - 1) + [K]
    q, k, v = (F.normalize(normal(B, length, H, K), dim=-1).to(kind) for _ in range(3))
    forget, momentum, lr = (torch.sigmoid(normal(B, length, H) - 2).to(kind) for _ in range(3))
    initial = tuple(normal(H, i, o) / i**0.5 for i, o in itertools.pairwise(widths))
    state = MemoryState(
        *(tuple((normal(B, *w.shape) / n).to(wide) for w in initial) for n in (3, 50, 3)),
        torch.tensor([0, min(3, chunk - 1)]),
    )
    leaves = [q, k, v, lr, *initial] + ([forget, momentum] if gates else [])
    if carried:
        leaves += [w for layers in state[:3] for w in layers]
    for x in leaves:
        x.requires_grad_(True)
    y, final, surprise = neural_memory(
        *(q, k, v, forget if gates else None, momentum if gates else None, lr / 20),
        initial,
        state if carried else None,
        mask=torch.rand(B, length, generator=generator) < 0.8 if masked else None,
        chunk_size=chunk,
        forget_to=forget_to,
        implementation=name,
    )
    assert y is not None
    outputs = [y, *final.weights, *final.momentum, *final.anchor, surprise]
    loss = sum(x.double().square().sum() for x in outputs)
    assert isinstance(loss, Tensor)
    gradients = torch.autograd.grad(loss, leaves, allow_unused=True)
    label = f"{name} {dtype} depth={depth} T={length} b={chunk} gates={gates} state={carried}"
    return f"{label} {forget_to} mask={masked}", digest([outputs, final.position, gradients])


def backbone_calls() -> Iterator[tuple[str, str]]:
    """Run every variant with gradients, without gradients, and one token at a time."""
    for variant, depth, heads in itertools.product(BLOCKS, (1, 2), (2, 4)):
        torch.manual_seed(0)
        config = BackboneConfig(
            variant=variant,
            d_model=32,
            n_heads=heads,
            dropout=0.0,
            window=24,
            segment_length=16,
            memory=MemoryConfig(depth=depth),
        )
        backbone = TitansBackbone(config)
        x, mask = torch.randn(3, 70, 32), torch.rand(3, 70) < 0.8
        label = f"{variant} depth={depth} heads={heads}"
        for name, where in (("plain", None), ("masked", mask)):
            run = backbone.run(x, None, where)
            gradients = torch.autograd.grad(run.y.square().sum(), list(backbone.parameters()))
            yield f"{label} {name} training", digest([run, gradients])
        backbone.eval()
        with torch.inference_mode():
            yield f"{label} inference", digest(list(backbone.run(x)))
            for batch in (1, 3):
                state, found = backbone.initial_state(batch), []
                for t in range(40):
                    run = backbone.run(x[:batch, t : t + 1], state)
                    state = run.state
                    found.append(run)
                yield f"{label} one token at a time B={batch}", digest(found)


def main() -> None:
    """Record hashes, or compare with recorded ones."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("action", choices=["record", "compare"])
    parser.add_argument("path", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found = dict(itertools.chain(memory_calls(), backbone_calls()))
    if arguments.action == "record":
        arguments.path.write_text(json.dumps(found, indent=1) + "\n")
        print(f"recorded {len(found)} calls in {arguments.path}")
        return
    before = json.loads(arguments.path.read_text())
    changed = [name for name in before if found.get(name) != before[name]]
    for name in changed:
        print(f"{name}: {'missing' if name not in found else 'differs'}")
    print(f"{len(before) - len(changed)} of {len(before)} calls are the same bit for bit")
    sys.exit(bool(changed))


if __name__ == "__main__":
    main()
