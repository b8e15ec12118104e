"""What a fitted model says along a genome: its answers for sliding windows, and its surprise."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.utils.validation import check_is_fitted

from titans_ts.datasets import Genome
from titans_ts.genomics.effects import MOST_LETTERS, EffectMethods, whole_letters
from titans_ts.genomics.scanning import (
    ContigCodes,
    KeptParts,
    check_out,
    model_digest,
    place_frame,
    some_contigs,
    window_starts,
    write_scores,
)
from titans_ts.genomics.surprisal import bin_means, memory_surprise
from titans_ts.nn.dna.nucleotides import complement_codes

__all__ = ["GenomeMethods"]

_SPAN = 2**24
"""Letters of a contig at a time at most, where windows are far apart."""


class GenomeMethods(EffectMethods):
    """Methods of the estimators for DNA: along a genome, and what :class:`EffectMethods` has."""

    def scan(
        self,
        genome: str | Path | Genome,
        *,
        window: int,
        stride: int | None = None,
        label: Any = None,
        strand: str = "+",
        contigs: Sequence[str] | None = None,
        out: str | Path | None = None,
        progress_bar: bool | None = None,
    ) -> pd.DataFrame:
        """The answer for sliding windows along a genome.

        With `out`, finished pieces are kept in a folder beside it (its name and ".parts"). The same call
        after a stop goes on where it stood; the pieces of another genome, model or question are
        computed anew. The folder is removed at the end.

        Parameters
        ----------
        genome : str, Path or Genome
            A FASTA file. It is read a piece at a time.
        window : int
            Letters of a window; a shorter contig is a single shorter one.
        stride : int, optional
            Letters between the starts of two; default: `window`. The last window of a contig ends at
            its end, so that nothing is left out (but between windows, where `stride` is larger).
        label : object, optional
            One of `classes_`; default: the second one of two. Of a regressor, the number of the value;
            default: the only one.
        strand : {"+", "-", "both"}
            Which strand windows are read on; on "-", they are the reverse complement. A model that
            averages both strands has one score for both.
        contigs : list of str, optional
            Which contigs; default: all.
        out : str or Path, optional
            A file to write the scores to, as :func:`titans_ts.datasets.write_track` does: BED, bedGraph
            or bigWig by its name. Both strands are two files in the latter two, x.plus.bw and
            x.minus.bw for x.bw.
        progress_bar : bool, optional
            Default: the estimator's.

        Returns
        -------
        DataFrame
            `chrom`, `start`, `end`, `strand` and `score`, a row a window and strand: the probability of
            the label, or the value. It is NaN where no letter is known (all are N or not there).

        Raises
        ------
        KeyError
            If a contig is not in the genome.
        ValueError
            If an argument cannot be used, or the model answers for bins of a track.
        """
        self._check_one_answer()
        genome, contigs = some_contigs(genome, contigs)
        column = self._column(label)
        window = whole_letters("window", window)
        stride = window if stride is None else whole_letters("stride", stride)
        if strand not in ("+", "-", "both"):
            raise ValueError(f"strand is {strand!r}; choose one of ['+', '-', 'both']")
        strands = ("+", "-") if strand == "both" else (strand,)
        if out is not None:
            check_out(out, genome.lengths)
        starts = {c: window_starts(genome.lengths[c], window, stride) for c in contigs}
        size = max(1, min(MOST_LETTERS // window, _SPAN // stride))  # windows of a piece
        pieces = [(c, s[i : i + size]) for c, s in starts.items() for i in range(0, len(s), size)]
        kept = self._kept(out, genome, column, [window, stride, size, strand, contigs])
        scores = []  # of every piece, [n, strands]
        with self._bar("scan", "windows", sum(map(len, starts.values())), progress_bar) as bar:
            for number, (chrom, some) in enumerate(pieces):
                found = kept.get(number)
                if found is None:
                    found = self._scan(genome, chrom, some, window, strands, column)
                    kept.put(number, found)
                scores.append(found)
                bar.update(len(some))
        frame = place_frame(starts, window, genome.lengths, strands)
        frame["score"] = np.concatenate(scores).ravel()
        if out is not None:
            write_scores(frame, Path(out), genome.lengths)
            kept.remove()
        return frame

    def _scan(
        self,
        genome: Genome,
        chrom: str,
        starts: NDArray[np.int64],
        window: int,
        strands: Sequence[str],
        column: int,
    ) -> NDArray[np.float64]:
        """Probabilities or values `[n, strands]` of the windows of a piece."""
        first, codes = starts[0], ContigCodes(genome, chrom, self.model_.config.lower_case)
        letters = codes[first : starts[-1] + window]
        views = np.lib.stride_tricks.sliding_window_view(letters, min(window, len(letters)))
        windows = views[starts - first]  # [n, window]
        if self.model_.config.rc in ("average", "equivariant"):  # one score for both strands
            read, times = strands[:1], len(strands)
        else:
            read, times = strands, 1
        scores = [
            # complement_codes turns the first axis round
            self._scores_of(windows if strand == "+" else complement_codes(windows.T).T, column)
            for strand in read
        ]
        found = np.stack(scores * times, 1)
        return found if self.model_.config.output == "values" else expit(found)

    def _kept(
        self, out: str | Path | None, genome: Genome, column: int, windows: list[Any]
    ) -> KeptParts:
        """Where the parts of a scan are kept, and all that their scores depend on."""
        if out is None:
            return KeptParts(None, {})
        file, n = genome.path.stat(), self.model_.config.n_outputs
        words = None if self.words_ is None else self.words_.saved()[1]
        # how answers become scores
        some = torch.cat([torch.zeros(1, n), torch.eye(n)]).double()
        asked = {
            "genome": [str(genome.path), file.st_size, file.st_mtime_ns, genome.pad_invalid],
            "model": model_digest(self.model_, words),
            "scores": [column, self._score(some, column).tolist()],
            "windows": windows,
        }
        return KeptParts(Path(f"{out}.parts"), asked)

    def surprise(
        self,
        genome: str | Path | Genome,
        *,
        bin: int = 1000,
        contigs: Sequence[str] | None = None,
        out: str | Path | None = None,
        progress_bar: bool | None = None,
    ) -> pd.DataFrame:
        """How much a genome surprises the memory along each contig.

        A contig is read forwards, in constant memory; the model's memory is empty at its beginning and
        learns on the way. Unknown letters (N) are passed over, and leave the memory as it was.

        That is the norm of the gradient of what the memory is to learn: large where much is learned,
        which depends on the composition and the place, too. To find what a genome acquired, ask how
        badly its letters are foreseen: :func:`titans_ts.letter_surprise`.

        Parameters
        ----------
        genome : str, Path or Genome
            A FASTA file.
        bin : int
            Letters of a bin; the last one of a contig may be shorter.
        contigs : list of str, optional
            Which contigs; default: all.
        out : str or Path, optional
            A file to write the scores to, as for :meth:`scan`.
        progress_bar : bool, optional
            Default: the estimator's.

        Returns
        -------
        DataFrame
            `chrom`, `start`, `end` and `score`: the mean over the bin's known letters of the surprise
            of the token that a letter is in (itself the mean over blocks and heads of the memory); NaN
            where no letter is known.

        Raises
        ------
        KeyError
            If a contig is not in the genome.
        ValueError
            If an argument cannot be used, or the model has no memory, or the tokenizer "bpe", whose
            words have no fixed place.
        """
        check_is_fitted(self, "model_")
        model = self.model_.eval()
        config = model.config
        blocks = model.backbone.blocks
        if len(blocks) == 0 or blocks[0].mixer.memory_heads == 0:
            raise ValueError(
                f"the model has no memory (variant {config.backbone.variant!r}, {len(blocks)} blocks); "
                "fit another one"
            )
        if config.tokenizer == "bpe":
            raise ValueError(
                "tokenizer is 'bpe', whose words have no fixed place; fit with another one"
            )
        return bin_means(
            genome,
            config.lower_case,
            memory_surprise(model),
            bin=bin,
            contigs=contigs,
            out=out,
            bar=self.progress_bar if progress_bar is None else progress_bar,
        )
