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
        newest = weights[-1] if call.online else None
        gradient = loss_gradient(anchor, k[:, t], v[:, t], newest)
        steps = _steps(theta, anchor, k[:, t], chunk_size) if call.online else [theta] * len(anchor)

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


def loss_gradient(weights: Weights, k: Tensor, v: Tensor, newest: Tensor | None = None) -> Weights:
    """Gradient of l(M; x) = |M(k) - v|^2 with respect to every layer of M, by back-propagation.

    Parameters
    ----------
    weights : Weights
        M, `[B, H, d_in, d_out]` a layer.
    k, v : Tensor
        One token's key `[B, H, K]` and value `[B, H, V]`.
    newest : Tensor, optional
        The output layer at which the error is taken; default: that of `weights`.

    Returns
    -------
    Weights
        The gradients, shaped as `weights`.
    """
    last = weights[-1] if newest is None else newest
    *inputs, output = _forward((*weights[:-1], last), k)
    error = 2 * (output - v)  # dl/dz of the last layer
    gradient = []
    for layer in reversed(range(len(weights))):
        x = inputs[layer] if layer == 0 else F.silu(inputs[layer])
        gradient.append(x[..., :, None] * error[..., None, :])
        if layer:
            s, z = torch.sigmoid(inputs[layer]), inputs[layer]
            error = (weights[layer] @ error[..., None])[..., 0] * (s + z * s * (1 - s))
    return tuple(reversed(gradient))


def _steps(theta: Tensor, anchor: Weights, k: Tensor, chunk_size: int) -> list[Tensor]:
    """Step of every layer when the output layer's error is taken at every token.

    A hidden layer takes its gradient at the start of the chunk, so the steps of a chunk add up there.
    The output layer corrects its own error; long inputs h would correct it by |h|^2 times too much.
    """
    if len(anchor) == 1:
        return [theta]
    features = F.silu(_forward(anchor[:-1], k)[-1])
    length = features.square().sum(-1).clamp_min(1)[..., None, None]
    return [theta / chunk_size] * (len(anchor) - 1) + [theta / length]


def _forward(weights: Weights, x: Tensor) -> list[Tensor]:
    """Return the input, then every layer's output before its activation, `[B, H, d]` each."""
    outputs = [x]
    for layer, w in enumerate(weights):
        x = outputs[-1] if layer == 0 else F.silu(outputs[-1])
        outputs.append((x[..., None, :] @ w)[..., 0, :])
    return outputs


def _where(condition: Tensor, yes: Weights, no: Weights) -> Weights:
    return tuple(torch.where(condition, a, b) for a, b in zip(yes, no, strict=True))
