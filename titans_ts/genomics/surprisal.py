"""What a model says while it reads a genome from end to end: of its memory, and of the next letter."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm.auto import tqdm

from titans_ts.datasets import Genome
from titans_ts.genomics.effects import whole_letters
from titans_ts.genomics.scanning import (
    ContigCodes,
    check_out,
    place_frame,
    some_contigs,
    write_scores,
)
from titans_ts.nn.checkpoint import load_directory, load_model
from titans_ts.nn.dna.language_model import LetterModel
from titans_ts.nn.dna.model import SequenceModel
from titans_ts.nn.dna.nucleotides import ABSENT, LOWER

__all__ = ["Values", "bin_means", "letter_surprise", "memory_surprise", "read_along"]

Values = Callable[[ContigCodes], Iterator[NDArray[np.float64]]]
"""A value a letter of a contig, a piece after the other; NaN does not count."""

_TOKENS = 32_768
"""Tokens of a contig that are read at a time."""


def letter_surprise(
    model: str | Path,
    genome: str | Path | Genome,
    *,
    bin: int = 1000,
    contigs: Sequence[str] | None = None,
    out: str | Path | None = None,
    device: str = "cpu",
    progress_bar: bool = True,
) -> pd.DataFrame:
    """How badly a pretrained model foresees the letters of a genome, along each contig.

    A contig is read forwards, in constant memory, and the model's memory learns on the way. What was
    acquired from elsewhere (a phage, an island) is foreseen worse than what a genome is used to.

    Parameters
    ----------
    model : str or Path
        What :meth:`titans_ts.TitansClassifier.pretrain` wrote with ``position=False`` and the objective
        "causal".
    genome : str, Path or Genome
        A FASTA file.
    bin : int
        Letters of a bin; the last one of a contig may be shorter.
    contigs : list of str, optional
        Which contigs; default: all.
    out : str or Path, optional
        A file to write the scores to, as for :meth:`titans_ts.TitansClassifier.scan`.
    device : str
        A torch device.
    progress_bar : bool
        Whether to show one.

    Returns
    -------
    DataFrame
        `chrom`, `start`, `end` and `score`: the mean over the bin's letters of how improbable each was
        after those before it, in nats (at random: ln 4 = 1.386). Letters other than A, C, G and T and
        the first token of a contig do not count; NaN is a bin where none does.

    Raises
    ------
    FileNotFoundError
        If there is no such model or genome.
    KeyError
        If a contig is not in the genome.
    ValueError
        If an argument cannot be used, or the model knows places or tells hidden letters.
    """
    objective = load_directory(model)[0].get("objective", "causal")
    letters = load_model(model, LetterModel).to(device)
    if objective != "causal" or letters.config.bidirectional != "none":
        raise ValueError(
            f"model {str(model)!r} was pretrained to tell hidden letters (objective 'masked'), not the "
            "next ones; pretrain one with objective='causal'"
        )

    if letters.config.position:
        raise ValueError(
            f"model {str(model)!r} knows the place of a letter in the windows that it learned, and is "
            "lost beyond them; pretrain one with position=False"
        )

    def nats(codes: ContigCodes) -> Iterator[NDArray[np.float64]]:
        stride = letters.config.stride
        before, there = torch.zeros(1, 1, letters.config.backbone.d_model, device=device), False
        for piece, y, mask, _ in read_along(letters.body, codes):
            logits = letters.letters(torch.cat([before, y[:, :-1]], 1)).unflatten(-1, (stride, 4))
            told = -logits[0].log_softmax(-1).flatten(0, 1)[: len(piece)].cpu().double()
            known = piece != ABSENT
            wanted = torch.from_numpy(np.where(known, piece % LOWER, 0).astype(np.int64))
            seen = np.concatenate([[there], mask[0, :-1].cpu().numpy()]).repeat(stride)
            asked = known & (wanted.numpy() < 4) & seen[: len(piece)]
            yield np.where(asked, told.gather(1, wanted[:, None])[:, 0].numpy(), np.nan)
            before, there = y[:, -1:], bool(mask[0, -1])

    return bin_means(
        genome, letters.config.lower_case, nats, bin=bin, contigs=contigs, out=out, bar=progress_bar
    )


def memory_surprise(model: SequenceModel) -> Values:
    """The surprise of the token that a letter is in, the mean over blocks and heads of the memory."""

    def values(codes: ContigCodes) -> Iterator[NDArray[np.float64]]:
        for piece, _, _, surprise in read_along(model, codes):
            found = surprise[0].mean((1, 2)).cpu().double().numpy().repeat(model.config.stride)
            yield np.where(piece != ABSENT, found[: len(piece)], np.nan)

    return values


def read_along(
    model: SequenceModel, codes: ContigCodes
) -> Iterator[tuple[NDArray[np.uint8], Tensor, Tensor, Tensor]]:
    """Read a contig forwards, as :meth:`SequenceModel.stream`, of a file's letters.

    Yields
    ------
    tuple
        Of every piece its letters' codes `[n]`, what is read of its tokens `[1, N, D]`, which of them
        are there `[1, N]`, and their surprise `[1, N, n_layers, heads]`.
    """
    stride, state = model.config.stride, None
    device = next(model.parameters()).device
    size = _TOKENS * stride
    for start in range(0, len(codes), size):
        lead = min(start, model.tokenizer.kernel_size - 1)
        piece = codes[start - lead : start + size]
        letters = torch.from_numpy(piece.astype(np.int64))[None].to(device)
        tokens, mask = model.tokenizer(letters, letters != ABSENT, lead, start // stride)
        y, state, surprise = model.backbone.run(tokens, state, None if mask.all() else mask)
        yield piece[lead:], y, mask, surprise


def bin_means(
    genome: str | Path | Genome,
    lower_case: str,
    values: Values,
    *,
    bin: int,
    contigs: Sequence[str] | None,
    out: str | Path | None,
    bar: bool,
) -> pd.DataFrame:
    """The mean of values over bins along a genome, as a frame and, with `out`, as a file.

    The arguments are those of :func:`letter_surprise`; N and the like are not there for `values`.
    """
    genome, contigs = some_contigs(genome, contigs)
    bin = whole_letters("bin", bin)
    if out is not None:
        check_out(out, genome.lengths)
    starts = {c: np.arange(0, genome.lengths[c], bin) for c in contigs}
    frame = place_frame(starts, bin, genome.lengths)
    total, count = np.zeros((2, len(frame)))
    n_letters, first = sum(genome.lengths[c] for c in contigs), 0
    shown: Any = tqdm(
        total=n_letters, desc="surprise", unit=" letters", unit_scale=True, disable=not bar
    )
    with shown, torch.inference_mode():
        for chrom in contigs:
            place = 0
            for found in values(ContigCodes(genome, chrom, lower_case, known=True)):
                known = np.flatnonzero(~np.isnan(found))
                np.add.at(total, first + (place + known) // bin, found[known])
                np.add.at(count, first + (place + known) // bin, 1)
                place += len(found)
                shown.update(len(found))
            first += len(starts[chrom])
    frame["score"] = total / np.where(count > 0, count, np.nan)
    if out is not None:
        write_scores(frame, Path(out), genome.lengths)
    return frame
