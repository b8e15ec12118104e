"""Two quantities along a genome: surprisal and surprise.

The *surprisal* of a nucleotide is its negative log-likelihood under a language model, in nats. The
*surprise* of the memory is the gradient norm of its loss.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from titans_ts.config import check_integer
from titans_ts.datasets import Genome
from titans_ts.datasets.alphabet import ABSENT, LOWER
from titans_ts.estimator import plain
from titans_ts.genomics.contigs import ContigCodes, place_frame, select_contigs
from titans_ts.genomics.inference import BATCH_TOKENS
from titans_ts.genomics.score_tracks import check_track_path, write_scores
from titans_ts.genomics.scorer import progress
from titans_ts.nn.checkpoint import load_directory, load_model
from titans_ts.nn.dna.language_model import LanguageModel
from titans_ts.nn.dna.model import SequenceModel

__all__ = ["memory_surprise", "nucleotide_surprisal", "read_along"]

_Values: TypeAlias = Callable[[ContigCodes], Iterator[NDArray[np.float64]]]
"""A function that yields one value for each letter of a contig, in pieces; NaN is ignored."""


def nucleotide_surprisal(
    model: str | Path,
    genome: str | Path | Genome,
    *,
    bin: int = 1000,
    contigs: Sequence[str] | None = None,
    out: str | Path | None = None,
    device: str = "cpu",
    progress_bar: bool = True,
) -> pd.DataFrame:
    """Return the negative log-likelihood of the nucleotides of a genome under a pretrained model.

    A contig is read forwards, in constant memory, and the model's memory learns while it reads.
    Horizontally acquired regions (a phage, an island) have a higher surprisal than other regions. In
    E. coli, the composition alone, as a Markov chain of order 5, distinguishes them as well.

    Parameters
    ----------
    model : str or Path
        A model that :meth:`titans_ts.TitansClassifier.pretrain` wrote with ``position=False`` and the
        objective "causal".
    genome : str, Path or Genome
        A FASTA file.
    bin : int
        Letters of a bin (default 1000); the last bin of a contig may be shorter.
    contigs : list of str, optional
        Contigs to read; default: all.
    out : str or Path, optional
        A file for the scores, as for :meth:`titans_ts.TitansClassifier.scan`.
    device : str
        A torch device (default "cpu").
    progress_bar : bool
        Whether to show a progress bar (default True).

    Returns
    -------
    DataFrame
        `chrom`, `start`, `end` and `score`: the negative log-likelihood of a letter given those before
        it, in nats (at random: ln 4 = 1.386), averaged over the bin. Letters other than A, C, G and T and
        the first token of a contig are ignored; a bin without any other letter has NaN.

    Raises
    ------
    FileNotFoundError
        If the model or the genome does not exist.
    KeyError
        If a contig is not in the genome.
    ValueError
        If an argument is invalid, the model uses positions, or it was pretrained with "masked".
    """
    objective = load_directory(model)[0].get("objective", "causal")
    network = load_model(model, LanguageModel).to(device)
    if objective != "causal" or network.config.bidirectional != "none":
        raise ValueError(
            f"model {str(model)!r} was pretrained to predict hidden letters (objective 'masked'), not "
            "the next ones; pretrain a model with objective='causal'"
        )
    if network.config.position:
        raise ValueError(
            f"model {str(model)!r} uses positional encodings of its training windows and cannot read "
            "whole contigs; pretrain a model with position=False"
        )

    def nats(codes: ContigCodes) -> Iterator[NDArray[np.float64]]:
        stride = network.config.stride
        before, present = torch.zeros(1, 1, network.config.backbone.d_model, device=device), False
        for piece, y, mask, _ in read_along(network.body, codes):
            logits = network.letters(torch.cat([before, y[:, :-1]], 1)).unflatten(-1, (stride, 4))
            loss = -logits[0].log_softmax(-1).flatten(0, 1)[: len(piece)].cpu().double()
            target = np.where(piece != ABSENT, piece % LOWER, ABSENT).astype(np.int64)
            seen = np.concatenate([[present], mask[0, :-1].cpu().numpy()]).repeat(stride)
            scored = (target < 4) & seen[: len(piece)]
            column = torch.from_numpy(np.where(target < 4, target, 0))
            yield np.where(scored, loss.gather(1, column[:, None])[:, 0].numpy(), np.nan)
            before, present = y[:, -1:], bool(mask[0, -1])

    return _bin_means(
        nats,
        "surprisal",
        genome,
        network.config.soft_masked,
        bin=bin,
        contigs=contigs,
        out=out,
        progress_bar=progress_bar,
    )


def memory_surprise(
    model: SequenceModel,
    genome: str | Path | Genome,
    *,
    bin: int = 1000,
    contigs: Sequence[str] | None = None,
    out: str | Path | None = None,
    progress_bar: bool = True,
) -> pd.DataFrame:
    """Return the surprise of a network's memory along a genome, the mean over blocks and heads.

    The parameters and the result are those of :meth:`titans_ts.TitansClassifier.surprise`.

    Raises
    ------
    KeyError
        If a contig is not in the genome.
    ValueError
        If an argument is invalid, the model has no memory, or its tokenizer is "bpe", whose tokens have
        no fixed position.
    """
    config, blocks = model.config, model.eval().backbone.blocks
    if len(blocks) == 0 or blocks[0].mixer.memory_heads == 0:
        raise ValueError(
            f"the model has no memory (variant {config.backbone.variant!r}, {len(blocks)} blocks); "
            "fit one with n_layers=1 and the variant 'mag', 'mac', 'mal' or 'lmm'"
        )
    if config.tokenizer == "bpe":
        raise ValueError(
            "tokenizer is 'bpe', whose tokens have no fixed position; fit with another one"
        )

    def surprise(codes: ContigCodes) -> Iterator[NDArray[np.float64]]:
        for piece, _, _, value in read_along(model, codes):
            mean = value[0].mean((1, 2)).cpu().double().numpy().repeat(config.stride)
            yield np.where(piece != ABSENT, mean[: len(piece)], np.nan)

    return _bin_means(
        surprise,
        "surprise",
        genome,
        config.soft_masked,
        bin=bin,
        contigs=contigs,
        out=out,
        progress_bar=progress_bar,
    )


def read_along(
    model: SequenceModel, codes: ContigCodes
) -> Iterator[tuple[NDArray[np.uint8], Tensor, Tensor, Tensor]]:
    """Read a contig forwards, as :meth:`SequenceModel.stream`, a piece of the file at a time.

    Yields
    ------
    tuple
        For every piece: the codes `[n]` of its letters, the backbone's outputs `[1, N, D]`, the mask of
        present tokens `[1, N]`, and their surprise `[1, N, n_layers, heads]`.
    """
    stride, state = model.config.stride, None
    device = next(model.parameters()).device
    size = BATCH_TOKENS * stride
    for start in range(0, len(codes), size):
        lead = min(start, model.tokenizer.context)
        piece = codes[start - lead : start + size]
        letters = torch.from_numpy(piece).to(device).long()[None]
        tokens, mask = model.tokenizer(letters, letters != ABSENT, lead, start // stride)
        y, state, surprise = model.backbone.run(tokens, state, None if mask.all() else mask)
        yield piece[lead:], y, mask, surprise


def _bin_means(
    values: _Values,
    name: str,
    genome: str | Path | Genome,
    soft_masked: str,
    *,
    bin: int,
    contigs: Sequence[str] | None,
    out: str | Path | None,
    progress_bar: bool,
) -> pd.DataFrame:
    """Return the means of values over bins along a genome; with `out`, also write them to a file.

    The arguments are those of :func:`nucleotide_surprisal`; `values` reads N as an absent letter.
    """
    genome, contigs = select_contigs(genome, contigs)
    bin = check_integer("bin", plain(bin), 1)
    if out is not None:
        check_track_path(out, genome.lengths)
    starts = {c: np.arange(0, genome.lengths[c], bin) for c in contigs}
    frame = place_frame(starts, bin, genome.lengths)
    total, count = np.zeros((2, len(frame)))
    first = 0  # row of the contig's first bin
    n_letters = sum(genome.lengths[c] for c in contigs)
    with progress(name, "letters", n_letters, progress_bar) as bar, torch.inference_mode():
        for chrom in contigs:
            position = 0
            for piece in values(ContigCodes(genome, chrom, soft_masked, mask_unknown=True)):
                known = np.flatnonzero(~np.isnan(piece))
                low = position // bin
                row = (position + known) // bin - low
                rows = slice(first + low, first + low + len(np.bincount(row)))
                total[rows] += np.bincount(row, piece[known])
                count[rows] += np.bincount(row)
                position += len(piece)
                bar.update(len(piece))
            first += len(starts[chrom])
    frame["score"] = total / np.where(count > 0, count, np.nan)
    if out is not None:
        write_scores(frame, Path(out), genome.lengths)
    return frame
