"""The neural memory token by token: the definition of correct.

Every other implementation exports the same two functions and is compared with this one. It follows
arXiv 2501.00663, equations 8 to 15, one line of code for one line of mathematics; `README.md` beside
this file maps the symbols. It is differentiable in every input, works in any floating dtype and is
slow: it forms the gradient of the loss with respect to every weight for every token.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from titans_ts.kernels.call import MemoryCall
from titans_ts.kernels.state import MemoryOutput, MemoryState, Weights, initial_state

__all__ = ["compute", "loss_gradient", "uncovered"]


def uncovered(call: MemoryCall) -> str | None:
    """None: this implementation covers every call."""
    return None


def compute(call: MemoryCall) -> MemoryOutput:
    """Write every token into the memory and read the memory after it.

    The result can be differentiated any number of times.
    """
    call = call.in_full_precision()
    q, k, v, forget, momentum, lr, initial, state, mask, chunk_size, forget_to, _ = call
    batch_size, length, heads = lr.shape
    weights, surprise, anchor, position = state or initial_state(initial, batch_size)
    target = initial if forget_to == "init" else tuple(torch.zeros_like(w) for w in initial)
    present = torch.ones_like(lr[..., 0], dtype=torch.bool) if mask is None else mask
    forget = torch.zeros_like(lr) if forget is None else forget
    etas = torch.zeros_like(lr) if momentum is None else momentum

    if mask is not None:  # the gradient of a masked place is zero, whatever its value
        forget, etas, lr = (torch.where(mask[..., None], g, 0) for g in (forget, etas, lr))
        k, v = (torch.where(mask[..., None, None], x, 0) for x in (k, v))
        q = None if q is None else torch.where(mask[..., None, None], q, 0)

    reads, norms = [], []
    for t in range(length):
        alpha, eta, theta = (gate[:, t, :, None, None] for gate in (forget, etas, lr))
        here = present[:, t, None, None, None]  # [B, 1, 1, 1]
        newest = weights[-1] if call.online else anchor[-1]
        inputs, errors = _factors((*anchor[:-1], newest), anchor, k[:, t], v[:, t])
        gradient = _outer_products(inputs, errors)
        steps = _steps(theta, inputs, errors, chunk_size) if call.online else [theta] * len(anchor)

        written = tuple(
            eta * s - step * g for s, step, g in zip(surprise, steps, gradient, strict=True)
        )
        moved = tuple(
            (1 - alpha) * w + alpha * w0 + s
            for w, w0, s in zip(weights, target, written, strict=True)
        )
        if momentum is not None:
            surprise = _where(here, written, surprise)
        weights = _where(here, moved, weights)

        position = position + present[:, t].cpu()
        boundary = (position == chunk_size).to(lr.device)[:, None, None, None]
        anchor = _where(boundary, weights, anchor)
        position = position % chunk_size

        square = torch.stack([g.square().sum((-1, -2)) for g in gradient]).sum(0)  # [B, H]
        norm = square.clamp_min(torch.finfo(square.dtype).tiny).sqrt()
        norms.append(torch.where(here[..., 0, 0], norm, 0))
        if q is not None:
            read = _forward(weights, q[:, t])[-1]  # [B, H, V]
            reads.append(torch.where(here[..., 0], read, 0))

    y = None
    if q is not None:
        y = torch.stack(reads, 1) if reads else v.new_zeros(batch_size, 0, heads, v.shape[-1])
    total = torch.stack(norms, 1) if norms else lr.new_zeros(batch_size, 0, heads)
    return MemoryOutput(y, MemoryState(weights, surprise, anchor, position), total)


def loss_gradient(weights: Weights, k: Tensor, v: Tensor) -> Weights:
    """Gradient of l(M; x) = |M(k) - v|^2 with respect to every layer of M, by back-propagation.

    Parameters
    ----------
    weights : Weights
        M, `[B, H, d_in, d_out]` a layer.
    k, v : Tensor
        One token's key `[B, H, K]` and value `[B, H, V]`.

    Returns
    -------
    Weights
        The gradients, shaped as `weights`.
    """
    return _outer_products(*_factors(weights, weights, k, v))


def _factors(
    forward: Weights, backward: Weights, k: Tensor, v: Tensor
) -> tuple[list[Tensor], list[Tensor]]:
    """Input and error of every layer, `[B, H, d]` each; the gradient is their outer product.

    The error is that of the layers `forward`, and is passed back through the layers `backward`.
    """
    *before, output = _forward(forward, k)
    errors = [2 * (output - v)]  # dl/dz of the last layer
    for layer in reversed(range(1, len(backward))):
        s, z = torch.sigmoid(before[layer]), before[layer]
        through = (backward[layer] @ errors[0][..., None])[..., 0]
        errors.insert(0, through * (s + z * s * (1 - s)))
    return [before[0], *map(F.silu, before[1:])], errors


def _outer_products(inputs: list[Tensor], errors: list[Tensor]) -> Weights:
    return tuple(x[..., :, None] * e[..., None, :] for x, e in zip(inputs, errors, strict=True))


def _steps(
    theta: Tensor, inputs: list[Tensor], errors: list[Tensor], chunk_size: int
) -> list[Tensor]:
    """Step of every layer when the output layer's error is taken just before each token.

    A layer's step changes M(k) by |x|^2 for the output layer's input x, and by the square of |E| / |e|
    for a hidden layer's error E: where that is more than one, the step is divided by it. A hidden layer
    takes its gradients at the start of the chunk, where the steps of all its tokens add up.
    """
    if len(inputs) == 1:
        return [theta]

    def square(x: Tensor) -> Tensor:
        return x.square().sum(-1)[..., None, None]

    length = square(errors[-1]).clamp_min(torch.finfo(theta.dtype).tiny)
    hidden = [theta / chunk_size / (square(e) / length).clamp_min(1) for e in errors[:-1]]
    return [*hidden, theta / square(inputs[-1]).clamp_min(1)]


def _forward(weights: Weights, x: Tensor) -> list[Tensor]:
    """Return the input, then every layer's output before its activation, `[B, H, d]` each."""
    outputs = [x]
    for layer, w in enumerate(weights):
        x = outputs[-1] if layer == 0 else F.silu(outputs[-1])
        outputs.append((x[..., None, :] @ w)[..., 0, :])
    return outputs


def _where(condition: Tensor, yes: Weights, no: Weights) -> Weights:
    return tuple(torch.where(condition, a, b) for a, b in zip(yes, no, strict=True))
