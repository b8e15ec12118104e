"""Importance of single letters: the effect of every substitution, or the gradient of a network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from titans_ts.datasets.alphabet import ABSENT, LOWER
from titans_ts.genomics.scorer import MAX_LETTERS, Codes, Scorer, score_known
from titans_ts.nn.dna.model import SequenceModel
from titans_ts.nn.dna.nucleotides import encode_nucleotides

__all__ = ["mutagenesis", "saliency"]


def mutagenesis(
    scorer: Scorer, sequence: str | Codes, *, soft_masked: str = "keep"
) -> NDArray[np.float64]:
    """Score every single substitution of a sequence.

    Parameters
    ----------
    scorer : Scorer
        A function of codes `[N, T]` that returns N scores
        (:data:`titans_ts.genomics.scorer.Scorer`).
    sequence : str or NDArray[np.uint8]
        T letters, or their codes.
    soft_masked : {"keep", "flag", "mask"}
        How lower-case letters of a str are read (default "keep"); see
        :data:`titans_ts.datasets.alphabet.SOFT_MASKED`.

    Returns
    -------
    NDArray[np.float64]
        `[T, 4]`, columns A, C, G, T: the score with that letter minus the score of the sequence. It is 0
        for the letter of the sequence, and where there is no letter ("-"). A substitute has the case of
        the letter that it replaces.

    Raises
    ------
    ValueError
        If the sequence is invalid, or the scorer returns another shape than `[N]`.

    Examples
    --------
    >>> mutagenesis(lambda codes: (codes == 2).sum(1), "AG").tolist()
    [[0.0, 0.0, 1.0, 0.0], [-1.0, -1.0, 0.0, -1.0]]
    """
    codes = encode_nucleotides(sequence, soft_masked) if isinstance(sequence, str) else sequence
    upper, lower = codes % LOWER, codes // LOWER * LOWER
    substitutes = (upper[:, None] != np.arange(4)) & (codes != ABSENT)[:, None]
    position, letter = np.nonzero(substitutes)
    effect = np.zeros((len(codes), 4))
    reference = score_known(scorer, codes[None])
    size = max(1, MAX_LETTERS // len(codes))
    for i in range(0, len(position), size):
        at, to = position[i : i + size], letter[i : i + size]
        changed = np.tile(codes, (len(at), 1))
        changed[np.arange(len(at)), at] = lower[at] + to
        effect[at, to] = score_known(scorer, changed) - reference
    return effect


def saliency(
    model: SequenceModel, score: Callable[[Tensor], Tensor], codes: Codes
) -> NDArray[np.float64]:
    """Return the gradient of a network's score with respect to the letters of a sequence.

    The mean over the four letters is subtracted at every position: one-hot letters sum to 1, so this part
    of the gradient leads away from all sequences (Majdandzic et al., 2023, "Correcting gradient-based
    interpretations of deep neural networks for genomics", Genome Biology 24, 109).

    Parameters
    ----------
    model : SequenceModel
        A network whose tokenizer reads one-hot letters ("nucleotide", "conv", "residual").
    score : callable
        A function of the network's logits `[1, n]` that returns the score `[1]`.
    codes : NDArray[np.uint8]
        `[T]`; the sequence is read as a whole.

    Returns
    -------
    NDArray[np.float64]
        `[T, 4]`, columns A, C, G, T; 0 where there is no letter ("-").

    Raises
    ------
    ValueError
        If the tokenizer ("kmer", "bpe") has no gradient of single letters.
    """
    model.eval()
    one_hot: Any = getattr(model.tokenizer, "one_hot", None)
    if one_hot is None:
        raise ValueError(
            f"tokenizer is {model.config.tokenizer!r}, which reads whole strings and has no gradient of "
            "single letters; use mutagenesis"
        )
    leaves: list[Tensor] = []  # [1, C, T'] for each strand that is read

    def take(module: Any, inputs: Any, output: Tensor) -> Tensor:
        leaves.append(output.detach().requires_grad_())
        return leaves[-1]

    device = next(model.parameters()).device
    hook = one_hot.register_forward_hook(take)
    try:
        with torch.enable_grad():
            letters = torch.from_numpy(codes.astype(np.int64)).to(device)
            logits = model(letters[None], torch.tensor([len(codes)], device=device))
            gradients = torch.autograd.grad(score(logits).sum(), leaves)
    finally:
        hook.remove()
    before = model.tokenizer.kernel_size - 1
    strands = [g[0, :4, before : before + len(codes)].T for g in gradients]
    # on the other strand, positions and the letters A, C, G, T are in reverse order
    strands[1:] = [g.flip(0, 1) for g in strands[1:]]
    gradient: NDArray[np.float64] = torch.stack(strands).sum(0).cpu().double().numpy()
    gradient -= gradient.mean(1, keepdims=True)
    gradient[codes == ABSENT] = 0
    return gradient
