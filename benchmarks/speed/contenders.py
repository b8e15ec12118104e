"""The contenders: our memory, its peers if they are installed, and a transformer as yardstick.

A contender is built for a case (shapes, dtype, device) and becomes a step that runs forward, or forward
and backward. Layers map tokens `[B, T, D]` to tokens; functions take given queries, keys and values
`[B, T, H, K]`. The two are never compared with each other.
"""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from titans_ts.config import MemoryConfig
from titans_ts.kernels import IMPLEMENTATIONS, neural_memory
from titans_ts.kernels.native.compiler import unavailable

__all__ = [
    "FUNCTION_YARDSTICK",
    "INSTALL",
    "LAYER_YARDSTICK",
    "PIECE",
    "STEP_BACKBONE",
    "STEP_FUNCTION",
    "STEP_LAYER",
    "Case",
    "Contender",
    "Step",
    "contenders",
    "exact_gradients",
    "function_name",
    "gradients",
    "layer_name",
    "layers_are_here",
    "memory_inputs",
    "missing_peers",
    "relative_error",
    "stream",
    "to_float64",
    "widths",
]

LAYER_YARDSTICK = "transformer layer"
FUNCTION_YARDSTICK = "attention"
STEP_FUNCTION, STEP_LAYER = "neural_memory, depth 2", "NeuralMemory, depth 2"
STEP_BACKBONE = "TitansBackbone(BackboneConfig())"
INSTALL = {
    "titans_pytorch": "pip install titans-pytorch==0.5.5",
    "fla": "pip install flash-linear-attention",
}
"""Install commands of peers by module name; the second peer needs a GPU."""
PIECE = 4096
"""Number of tokens per piece of a stream."""

# Relative L2 error against the recurrence in float64. A wrong rule gives 1e-2 and more. On a GPU a
# float32 product may use tf32 units, which give 1e-3; rounding to bfloat16 alone gives 4e-3.
_TOLERANCE = {
    ("cpu", "float32"): 1e-4,
    ("cuda", "float32"): 3e-3,
    ("cpu", "bfloat16"): 5e-2,
    ("cuda", "bfloat16"): 5e-2,
}


@dataclass(frozen=True)
class Case:
    """Shapes, dtype and device of a measurement."""

    tokens: int
    batch: int = 4
    heads: int = 4
    width: int = 32
    """Width of a head."""
    chunk: int = 64
    dtype: str = "float32"
    device: str = "cpu"

    @property
    def d_model(self) -> int:
        """Width of a token."""
        return self.heads * self.width

    @property
    def torch_dtype(self) -> torch.dtype:
        """The dtype as an object of torch."""
        return getattr(torch, self.dtype)

    def randn(self, *shape: int) -> Tensor:
        """Draw normal numbers in this case's dtype, on its device."""
        return torch.randn(*shape, dtype=self.torch_dtype, device=self.device)


class Step:
    """One forward pass, or forward and backward, on fixed inputs.

    Parameters
    ----------
    run : callable
        The forward pass.
    leaves : list of Tensor
        Tensors whose gradients the backward pass fills.
    upstream : Tensor
        Gradient of the output.
    """

    def __init__(self, run: Callable[[], Tensor], leaves: list[Tensor], upstream: Tensor) -> None:
        self.run, self.leaves, self.upstream = run, leaves, upstream

    def forward(self) -> Tensor:
        """Run forward without saving anything for a backward pass."""
        with torch.no_grad():
            return self.run()

    def train(self) -> Tensor:
        """Run forward and backward; earlier gradients are dropped first."""
        for leaf in self.leaves:
            leaf.grad = None
        y = self.run()
        y.backward(self.upstream)
        return y.detach()


@dataclass(frozen=True)
class Contender:
    """Something to measure."""

    name: str
    kind: str
    """"layer" or "function"."""
    build: Callable[[Case], Step]
    check: Callable[[Case], str]
    """Returns a description of the error, or an empty string if there is none."""
    ours: bool = False
    quadratic: bool = False
    shortest_only: bool = False
    dtypes: tuple[str, ...] = ("float32", "bfloat16")


def contenders(device: str) -> list[Contender]:
    """Return everything that can be measured on this device."""
    found = [Contender(LAYER_YARDSTICK, "layer", _transformer_layer, _unchecked, quadratic=True)]
    for depth in (2, 1) if layers_are_here() else ():
        found.append(
            Contender(layer_name(depth), "layer", _our_layer(depth), _check_layer(depth), ours=True)
        )
    if "titans_pytorch" not in missing_peers(device):
        found += _titans_pytorch()
    found.append(Contender(FUNCTION_YARDSTICK, "function", _attention, _unchecked, quadratic=True))
    for name in IMPLEMENTATIONS:
        if name == "step" or (name == "triton" and device == "cpu"):  # single tokens; interpreted
            continue
        if name == "native" and (reason := unavailable()) is not None:
            print(f"the compiled kernels are left out: {reason}")
            continue
        for depth in (2, 1):
            found.append(
                Contender(
                    function_name(name, depth),
                    "function",
                    _our_function(name, depth),
                    _check_function(name, depth),
                    ours=True,
                    shortest_only=name == "recurrent",
                )
            )
    if "fla" not in missing_peers(device):
        found.append(
            Contender("gated delta rule (fla)", "function", _fla, _unchecked, dtypes=("bfloat16",))
        )
    return found


def layers_are_here() -> bool:
    """Return whether the dependencies of the layers are installed; the functions need only torch."""
    try:
        import titans_ts.nn  # noqa: F401
    except ImportError as error:
        print(f"our layers are left out: {error}")
        return False
    return True


def layer_name(depth: int) -> str:
    """Return the name of our layer."""
    return f"NeuralMemory, depth {depth}"


def function_name(implementation: str, depth: int) -> str:
    """Return the name of one of our implementations."""
    return f"{implementation}, depth {depth}"


def missing_peers(device: str) -> list[str]:
    """List the modules of missing peers that would be measured on this device."""
    wanted = [name for name in INSTALL if name != "fla" or device != "cpu"]
    return [name for name in wanted if importlib.util.find_spec(name) is None]


def memory_inputs(case: Case, depth: int) -> tuple[Any, ...]:
    """Make `(q, k, v, forget, momentum, lr, initial)` like the layer does, requiring gradients."""
    shape = (case.batch, case.tokens, case.heads)
    q, k, v = (F.normalize(case.randn(*shape, case.width), dim=-1) for _ in range(3))
    forget, momentum = torch.sigmoid(case.randn(*shape) - 4), torch.sigmoid(case.randn(*shape))
    lr = torch.sigmoid(case.randn(*shape) + 2) * (1 - momentum) / (2 * case.chunk)
    initial = tuple(
        torch.randn(case.heads, d_in, d_out, device=case.device) / max(d_in, d_out) ** 0.5
        for d_in, d_out in pairwise(widths(case.width, depth))
    )
    inputs = [x.requires_grad_() for x in (q, k, v, forget, momentum, lr)]
    return (*inputs, tuple(w.requires_grad_() for w in initial))


def widths(width: int, depth: int) -> list[int]:
    """Return the widths of a memory's MLP; hidden layers are twice as wide as a head."""
    return [width, *[2 * width] * (depth - 1), width]


def gradients(
    inputs: tuple[Any, ...], upstream: Tensor, run: Callable[..., Any], **options: Any
) -> dict[str, Tensor]:
    """Return output, surprise and the gradient of every input of a memory, by name."""
    *plain, initial = inputs
    y, _, surprise = run(*plain, initial, **options)
    leaves = [*plain, *initial]
    names = ["dq", "dk", "dv", "dforget", "dmomentum", "dlr"]
    names += [f"dinitial {layer}" for layer in range(len(initial))]
    found = torch.autograd.grad(y, leaves, upstream.to(y.dtype))
    return {
        "y": y.detach(),
        "surprise": surprise.detach(),
        **dict(zip(names, found, strict=True)),
    }


def stream(case: Case) -> Callable[[], Tensor]:
    """Pass `case.tokens` tokens through our layer in pieces; carry the state, drop the outputs."""
    layer = _layer(case, 2).eval()
    pieces = [case.randn(case.batch, min(PIECE, case.tokens), case.d_model) for _ in range(2)]

    def run() -> Tensor:
        state, left, turn = None, case.tokens, 0
        with torch.no_grad():
            while left:
                piece = pieces[turn % 2][:, :left]
                y, state, _ = layer(piece, state)
                left, turn = left - piece.shape[1], turn + 1
        return y

    return run


# Ours


def _layer(case: Case, depth: int) -> nn.Module:
    from titans_ts.nn import NeuralMemory  # has more dependencies than torch

    config = MemoryConfig(depth=depth, chunk_size=case.chunk)
    return NeuralMemory(case.d_model, case.heads, config).to(case.device, case.torch_dtype)


def _our_layer(depth: int) -> Callable[[Case], Step]:
    return lambda case: _layer_step(case, _layer(case, depth))


def _our_function(implementation: str, depth: int) -> Callable[[Case], Step]:
    def build(case: Case) -> Step:
        *plain, initial = memory_inputs(case, depth)

        def run() -> Tensor:
            options = {"chunk_size": case.chunk, "implementation": implementation}
            y = neural_memory(*plain, initial, **options)[0]
            assert y is not None
            return y

        upstream = case.randn(case.batch, case.tokens, case.heads, case.width)
        return Step(run, [*plain, *initial], upstream)

    return build


# Peers and yardsticks


class TransformerLayer(nn.Module):
    """Pre-norm causal attention and a feed-forward of four times the width."""

    def __init__(self, d_model: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList([nn.LayerNorm(d_model), nn.LayerNorm(d_model)])
        self.qkv = nn.Linear(d_model, 3 * d_model, bias=False)
        self.out = nn.Linear(d_model, d_model, bias=False)
        self.feed_forward = nn.Sequential(
            nn.Linear(d_model, 4 * d_model), nn.GELU(), nn.Linear(4 * d_model, d_model)
        )

    def forward(self, x: Tensor) -> Tensor:
        """`[B, T, D]` to `[B, T, D]`."""
        q, k, v = self.qkv(self.norms[0](x)).unflatten(-1, (3, self.heads, -1)).unbind(2)
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).flatten(2))
        return x + self.feed_forward(self.norms[1](x))


def _transformer_layer(case: Case) -> Step:
    layer = TransformerLayer(case.d_model, case.heads).to(case.device, case.torch_dtype)
    return _layer_step(case, layer)


def _layer_step(case: Case, layer: nn.Module) -> Step:
    x = case.randn(case.batch, case.tokens, case.d_model).requires_grad_()

    def run() -> Tensor:
        y = layer(x)
        return y if isinstance(y, Tensor) else y[0]

    return Step(run, [x, *layer.parameters()], case.randn(*x.shape))


def _attention(case: Case) -> Step:
    shape = (case.batch, case.heads, case.tokens, case.width)
    q, k, v = (case.randn(*shape).requires_grad_() for _ in range(3))
    run = F.scaled_dot_product_attention
    return Step(lambda: run(q, k, v, is_causal=True), [q, k, v], case.randn(*shape))


def _titans_pytorch() -> list[Contender]:
    """Build its NeuralMemory with its own defaults (momentum, decay, norms), and our heads and MLP.

    The default takes every gradient at the initial memory; "refreshed" moves that point once a chunk.
    The paper's rule (a read after every token) uses chunks of one token.
    """

    def build(depth: int, rule: str) -> Callable[[Case], Step]:
        def make(case: Case) -> Step:
            from titans_pytorch import MemoryMLP, NeuralMemory

            options = {
                "default": {"chunk_size": case.chunk},
                "refreshed": {"chunk_size": case.chunk, "batch_size": case.chunk},
                "paper's rule": {"chunk_size": 1, "batch_size": case.chunk},
            }[rule]
            layer = NeuralMemory(
                dim=case.d_model,
                heads=case.heads,
                dim_head=case.width,
                model=MemoryMLP(case.width, depth=depth, expansion_factor=2.0),
                **options,
            )
            return _layer_step(case, layer.to(case.device, case.torch_dtype))

        return make

    rules = ((2, "default"), (1, "default"), (2, "refreshed"), (2, "paper's rule"))
    return [
        Contender(
            f"titans-pytorch, {rule}, depth {depth}",
            "layer",
            build(depth, rule),
            _unchecked,
            quadratic=rule == "paper's rule",
            dtypes=("float32",),
        )
        for depth, rule in rules
    ]


def _fla(case: Case) -> Step:
    from fla.ops.gated_delta_rule import chunk_gated_delta_rule

    shape = (case.batch, case.tokens, case.heads)
    q, k, v = (
        F.normalize(case.randn(*shape, case.width), dim=-1).requires_grad_() for _ in range(3)
    )
    decay = F.logsigmoid(torch.randn(shape, device=case.device) + 4).requires_grad_()
    beta = torch.sigmoid(case.randn(*shape)).requires_grad_()
    return Step(
        lambda: chunk_gated_delta_rule(q, k, v, decay, beta)[0],
        [q, k, v, decay, beta],
        case.randn(*shape, case.width),
    )


# Checks


def _unchecked(case: Case) -> str:
    """Check nothing: the row of a peer says whether its outputs are finite."""
    return ""


def _check_function(implementation: str, depth: int) -> Callable[[Case], str]:
    def check(case: Case) -> str:
        case = _small(case)
        inputs = memory_inputs(case, depth)
        upstream = case.randn(case.batch, case.tokens, case.heads, case.width)
        options: dict[str, Any] = {"chunk_size": case.chunk}
        ours = gradients(inputs, upstream, neural_memory, implementation=implementation, **options)
        exact = exact_gradients(inputs, upstream, **options)
        problem = _compare(ours, exact, case)
        return problem or _check_pieces(inputs, ours["y"], implementation, case)

    return check


def _check_pieces(inputs: tuple[Any, ...], y: Tensor, implementation: str, case: Case) -> str:
    """Check that one pass and a stream in pieces give the same."""
    *plain, initial = inputs
    state, outputs, start = None, [], 0
    for length in (1, case.chunk - 1, case.chunk + 3, case.tokens):
        piece = [x[:, start : start + length] for x in plain]
        options = {"chunk_size": case.chunk, "implementation": implementation}
        part, state, _ = neural_memory(*piece, initial, state, **options)
        assert part is not None
        outputs.append(part.detach())
        start += length
    return _compare({"y in pieces": torch.cat(outputs, 1)}, {"y in pieces": y}, case)


def _check_layer(depth: int) -> Callable[[Case], str]:
    def check(case: Case) -> str:
        case = _small(case)
        layer = _layer(case, depth)
        exact = copy.deepcopy(layer).double().cpu()
        x = case.randn(case.batch, case.tokens, case.d_model)
        upstream = case.randn(*x.shape)
        with _implementation("recurrent"):
            expected = _layer_gradients(exact, x.double().cpu(), upstream.double().cpu())
        found = _layer_gradients(layer, x, upstream)
        return _compare(found, expected, case)

    return check


def _layer_gradients(layer: nn.Module, x: Tensor, upstream: Tensor) -> dict[str, Tensor]:
    x = x.requires_grad_()
    y = layer(x)[0]
    y.backward(upstream)
    found = {f"d{name}": p.grad for name, p in layer.named_parameters() if p.grad is not None}
    assert x.grad is not None
    return {"y": y.detach(), "dx": x.grad, **found}


def _compare(found: dict[str, Tensor], expected: dict[str, Tensor], case: Case) -> str:
    tolerance = _TOLERANCE[case.device, case.dtype]
    for name, exact in expected.items():
        error = relative_error(found[name], exact)
        if not error <= tolerance:  # NaN also fails
            return f"{name} is off by {error:.1e} of its length; {tolerance:.0e} is allowed"
    return ""


def relative_error(found: Tensor, exact: Tensor) -> float:
    """Compute `|found - exact| / |exact|`."""
    exact = exact.double().cpu()
    difference = (found.double().cpu() - exact).norm()
    return float(difference / exact.norm().clamp_min(torch.finfo(torch.float64).tiny))


def exact_gradients(inputs: tuple[Any, ...], upstream: Tensor, **options: Any) -> dict[str, Tensor]:
    """Compute :func:`gradients` by the recurrence in float64 on the CPU."""
    exact = {"implementation": "recurrent", **options}
    return gradients(to_float64(inputs), upstream.double().cpu(), neural_memory, **exact)


def to_float64(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Copy the inputs to the CPU in float64, as new leaves."""
    *plain, initial = inputs

    def exact(x: Tensor) -> Tensor:
        return x.detach().double().cpu().requires_grad_()

    return (*map(exact, plain), tuple(map(exact, initial)))


def _small(case: Case) -> Case:
    """Reduce a case to two samples, two chunks and a part of a third."""
    return replace(case, batch=2, tokens=2 * case.chunk + case.chunk // 2 + 1)


@contextlib.contextmanager
def _implementation(name: str) -> Iterator[None]:
    """Force an implementation, also inside a layer."""
    variable = "TITANS_TS_IMPLEMENTATION"
    before = os.environ.get(variable)
    os.environ[variable] = name
    try:
        yield
    finally:
        if before is None:
            del os.environ[variable]
        else:
            os.environ[variable] = before
