"""Which letters of a sequence matter: every substitution with any scorer, or a network's gradient."""

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
        What lower-case letters of a str are; one of :data:`titans_ts.datasets.alphabet.SOFT_MASKED`.

    Returns
    -------
    NDArray[np.float64]
        `[T, 4]`, columns A, C, G, T: the score with that letter minus the score of the sequence. 0 for
        the letter that is there, and where no letter is ("-"). A substitute has the case of the letter
        that it replaces.

    Raises
    ------
    ValueError
        If the sequence cannot be used, or the scorer returns another shape than `[N]`.

    Examples
    --------
    >>> mutagenesis(lambda codes: (codes == 2).sum(1), "AG").tolist()
    [[0.0, 0.0, 1.0, 0.0], [-1.0, -1.0, 0.0, -1.0]]
    """
    codes = encode_nucleotides(sequence, soft_masked) if isinstance(sequence, str) else sequence
    upper, lower = codes % LOWER, codes // LOWER * LOWER
    substitutes = (upper[:, None] != np.arange(4)) & (codes != ABSENT)[:, None]
    place, letter = np.nonzero(substitutes)
    effect = np.zeros((len(codes), 4))
    reference = score_known(scorer, codes[None])
    size = max(1, MAX_LETTERS // len(codes))
    for i in range(0, len(place), size):
        at, to = place[i : i + size], letter[i : i + size]
        changed = np.tile(codes, (len(at), 1))
        changed[np.arange(len(at)), at] = lower[at] + to
        effect[at, to] = score_known(scorer, changed) - reference
    return effect


def saliency(
    model: SequenceModel, score: Callable[[Tensor], Tensor], codes: Codes
) -> NDArray[np.float64]:
    """The gradient of a network's score with respect to the letters of a sequence.

    At every place its mean over the four letters is subtracted: the letters' shares sum to 1, so that
    part of the gradient points where no sequence is (Majdandzic et al., 2023, "Correcting gradient-based
    interpretations of deep neural networks for genomics", Genome Biology 24, 109).

    Parameters
    ----------
    model : SequenceModel
        A network whose tokenizer reads one-hot letters ("nucleotide", "conv").
    score : callable
        The score `[1]` from the logits `[1, n]` of the network.
    codes : NDArray[np.uint8]
        `[T]`; the sequence is read as a whole.

    Returns
    -------
    NDArray[np.float64]
        `[T, 4]`, columns A, C, G, T; 0 where no letter is ("-").

    Raises
    ------
    ValueError
        If the tokenizer has no letters to take a gradient of ("kmer", "bpe").
    """
    model.eval()
    one_hot: Any = getattr(model.tokenizer, "one_hot", None)
    if one_hot is None:
        raise ValueError(
            f"tokenizer is {model.config.tokenizer!r}, which reads whole strings and has no gradient of "
            "single letters; use mutagenesis"
        )
    leaves: list[Tensor] = []  # [1, C, T'] of each strand that is read

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
    # on the other strand places run backwards, and so do A, C, G, T as T, G, C, A
    strands[1:] = [g.flip(0, 1) for g in strands[1:]]
    gradient: NDArray[np.float64] = torch.stack(strands).sum(0).cpu().double().numpy()
    gradient -= gradient.mean(1, keepdims=True)
    gradient[codes == ABSENT] = 0
    return gradient
