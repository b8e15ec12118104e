"""The genome tools as methods of the estimators for DNA; they call functions that take a scorer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from titans_ts.datasets import Genome
from titans_ts.genomics.attribution import mutagenesis, saliency
from titans_ts.genomics.motifs import Motif, find_motifs
from titans_ts.genomics.part_cache import model_digest
from titans_ts.genomics.scan import scan
from titans_ts.genomics.scorer import Codes, Scorer, progress
from titans_ts.genomics.surprisal import memory_surprise
from titans_ts.genomics.variant_effect import variant_effect
from titans_ts.nn.dna.model import SequenceModel
from titans_ts.types import RandomState

__all__ = ["GenomeTools"]


class GenomeTools(ABC):
    """Methods of the estimators for DNA that read genomes, variants and single letters.

    They only use the :meth:`scorer` of an estimator; :meth:`saliency` and :meth:`surprise` use its
    network.
    """

    model_: SequenceModel
    progress_bar: bool
    random_state: RandomState

    def scorer(self, label: Any = None) -> Scorer:
        """Return a function of codes `[N, T]` that returns the N scores of a label.

        Parameters
        ----------
        label : object, optional
            One of `classes_`; default: the second of two classes. For a regressor, the number of the
            value; default: the only one.

        Returns
        -------
        Scorer
            Log-odds of the label, or values in their own unit
            (:data:`titans_ts.genomics.scorer.Scorer`).

        Raises
        ------
        ValueError
            If the label is unknown, or the model predicts a track.
        """
        score = self._score_function(label)
        return lambda codes: score(torch.from_numpy(self._logits_of_codes(codes))).numpy()

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
        """Score sliding windows along a genome (:func:`titans_ts.genomics.scan.scan`).

        With `out`, finished parts are stored in a folder beside the file (its name and ".parts"), and the
        same call resumes after an interruption. Parts of another genome, model or call are not used. The
        folder is removed at the end.

        Parameters
        ----------
        genome : str, Path or Genome
            A FASTA file. It is read a piece at a time.
        window : int
            Letters of a window; a shorter contig gives a single shorter window.
        stride : int, optional
            Letters between the starts of two windows; default: `window`. The last window of a contig ends
            at its end, so no letter is left out (unless `stride` is larger than `window`).
        label : object, optional
            As for :meth:`scorer`.
        strand : {"+", "-", "both"}
            Strand of the windows (default "+"); on "-", the reverse complement is read. A model that
            averages both strands has the same score for both.
        contigs : list of str, optional
            Contigs to read; default: all.
        out : str or Path, optional
            A file for the scores, in the format of its suffix: BED, bedGraph or bigWig
            (:func:`titans_ts.datasets.write_track`). In the latter two, both strands give two files,
            x.plus.bw and x.minus.bw for x.bw. Default: no file.
        progress_bar : bool, optional
            Whether to show a progress bar; default: the estimator's.

        Returns
        -------
        DataFrame
            `chrom`, `start`, `end`, `strand` and `score`, one row for each window and strand: the
            probability of the label, or the value. It is NaN if no letter is known (all are N or "-").

        Raises
        ------
        KeyError
            If a contig is not in the genome.
        ValueError
            If an argument is invalid, or the model predicts a track.
        """
        scorer, config = self.scorer(label), self.model_.config
        probabilities = config.output != "values"
        return scan(
            (lambda codes: expit(scorer(codes))) if probabilities else scorer,
            genome,
            window=window,
            stride=stride,
            strand=strand,
            contigs=contigs,
            soft_masked=config.soft_masked,
            symmetric=config.rc in ("average", "equivariant"),
            out=out,
            fingerprint=None if out is None else self._fingerprint(label),
            progress_bar=self._show(progress_bar),
        )

    def variant_effect(
        self,
        genome: str | Path | Genome,
        variants: str | Path | pd.DataFrame,
        *,
        window: int,
        label: Any = None,
        haplotype: str | None = None,
        background: int = 0,
        outside: str = "error",
        rename: Mapping[str, str] | Callable[[str], str] | None = None,
        progress_bar: bool | None = None,
    ) -> pd.DataFrame:
        """Score the window around each variant with the reference and with the alternative allele.

        Alleles are read in their normal form (:func:`titans_ts.datasets.normalise_variants`); the first
        letter that differs is at index ``window // 2`` of the window. Insertions and deletions do not
        change its length (:func:`titans_ts.genomics.variant_effect.variant_effect`).

        Parameters
        ----------
        genome : str, Path or Genome
            A FASTA file.
        variants : str, Path or DataFrame
            A VCF file, or a frame with `chrom`, `start` (0-based), `ref` and `alt`, as
            :func:`titans_ts.datasets.read_variants` returns it.
        window : int
            Letters of a window.
        label : object, optional
            As for :meth:`scorer`.
        haplotype : str, optional
            A column of the variants. Those with the same value in it lie on one chromosome and are
            scored together; the result has a row for each value (default: every variant alone).
        background : int
            Number of random variants of each kind (substitution, insertion, deletion, other) that the
            effects are compared with: the same alleles, at random places of the same contigs (default
            0, no comparison). The estimator's `random_state` draws them.
        outside : {"error", "drop"}
            What to do with variants whose contig is not in the genome: raise an error (default), or
            leave them out.
        rename : mapping or callable, optional
            Maps each contig name of the variants to the genome's name (default: no change).
        progress_bar : bool, optional
            Whether to show a progress bar; default: the estimator's.

        Returns
        -------
        DataFrame
            The columns of the variants, and `ref_match` (whether the genome has `ref` there, ignoring
            case), `ref_score`, `alt_score` and `effect`, their difference: log-odds of the label, or
            units of the value. They are NaN where `ref_match` is False, or no letter is known. With
            `background`, also `p_value`: the share of random variants of the kind whose effect is at
            least as large in size, counting the variant itself. With `haplotype`, the columns before
            `ref_match` are this one, `chrom`, `start` of the first, `end` of the last variant, and
            their number `variants`.

        Raises
        ------
        KeyError
            If a contig is not in the genome, unless `outside` is "drop", or `haplotype` is not a column.
        ValueError
            If an argument is invalid, a window has a letter outside IUPAC, the model predicts a track,
            or the variants of a haplotype overlap or do not fit into half a window.
        """
        return variant_effect(
            self.scorer(label),
            genome,
            variants,
            window=window,
            haplotype=haplotype,
            background=background,
            outside=outside,
            rename=rename,
            soft_masked=self.model_.config.soft_masked,
            random_state=self.random_state,
            progress_bar=self._show(progress_bar),
        )

    def mutagenesis(self, sequence: str, *, label: Any = None) -> NDArray[np.float64]:
        """Score every single substitution of a sequence.

        Parameters
        ----------
        sequence : str
            T letters.
        label : object, optional
            As for :meth:`scorer`.

        Returns
        -------
        NDArray
            `[T, 4]`, columns A, C, G, T: the score with that letter minus the score of the sequence. It
            is 0 for the letter of the sequence, and where there is no letter ("-"). A substitute has the
            case of the letter that it replaces.

        Raises
        ------
        TypeError, ValueError
            If the sequence or label is invalid, or the model predicts a track.
        """
        scorer = self.scorer(label)
        return mutagenesis(scorer, self._codes(sequence))

    def saliency(self, sequence: str, *, label: Any = None) -> NDArray[np.float64]:
        """Return the gradient of the score with respect to the letters of a sequence.

        The mean over the four letters is subtracted at every position
        (:func:`titans_ts.genomics.attribution.saliency`).

        Parameters
        ----------
        sequence : str
            T letters, which are read as a whole.
        label : object, optional
            As for :meth:`scorer`.

        Returns
        -------
        NDArray
            `[T, 4]`, columns A, C, G, T; 0 where there is no letter ("-").

        Raises
        ------
        TypeError, ValueError
            If the sequence or label is invalid, the model predicts a track, its tokenizer ("kmer", "bpe")
            has no gradient of single letters, or a k-mer model is combined with the network.
        """
        score = self._score_function(label)
        if self._saved()[1]:
            raise ValueError(
                "the estimator combines the network with a k-mer model, whose counts have no gradient of "
                "single letters; use mutagenesis, or fit with kmer_model=None"
            )
        return saliency(self.model_, score, self._codes(sequence))

    def motifs(
        self,
        X: Any,
        *,
        label: Any = None,
        min_sites: int = 20,
        progress_bar: bool | None = None,
    ) -> list[Motif]:
        """Return what the letters that decide the score of sequences have in common.

        Every single substitution is scored (:meth:`mutagenesis`), so this takes as long as predictions
        for three times as many sequences as there are letters: some hundred sequences are enough. Then
        stretches of letters with large effects are aligned and grouped
        (:func:`titans_ts.genomics.motifs.find_motifs`).

        Parameters
        ----------
        X : sequence of str, NDArray or FastaRegions
            Sequences, as in ``fit``.
        label : object, optional
            As for :meth:`scorer`.
        min_sites : int
            Number of sites that a motif has at least (default 20).
        progress_bar : bool, optional
            Whether to show a progress bar; default: the estimator's.

        Returns
        -------
        list of Motif
            Motifs that raise the score first, then those that lower it, each with its probabilities,
            consensus and number of sites; :func:`titans_ts.genomics.motifs.write_meme` writes them.

        Raises
        ------
        TypeError, ValueError
            If a sequence or an argument is invalid, or the model predicts a track.
        """
        scorer = self.scorer(label)
        codes = self._read_fitted(X, "X")
        effects = []
        with progress("motifs", "sequences", len(codes), self._show(progress_bar)) as bar:
            for one in codes:
                effects.append(mutagenesis(scorer, one))
                bar.update()
        return find_motifs(codes, effects, min_sites=min_sites)

    def surprise(
        self,
        genome: str | Path | Genome,
        *,
        bin: int = 1000,
        contigs: Sequence[str] | None = None,
        out: str | Path | None = None,
        progress_bar: bool | None = None,
    ) -> pd.DataFrame:
        """Return the surprise of the memory along each contig: the gradient norm of the memory's loss.

        A contig is read forwards, in constant memory. The model's memory is in its initial state at the
        start and learns while it reads. Unknown letters (N) are skipped and do not change the memory. The
        surprise has no unit, and it also depends on composition and position: in E. coli's prophages it
        is lower than elsewhere. To find horizontally acquired regions, use
        :func:`titans_ts.nucleotide_surprisal`.

        Parameters
        ----------
        genome : str, Path or Genome
            A FASTA file.
        bin : int
            Letters of a bin (default 1000); the last bin of a contig may be shorter.
        contigs : list of str, optional
            Contigs to read; default: all.
        out : str or Path, optional
            A file for the scores, as for :meth:`scan`.
        progress_bar : bool, optional
            Whether to show a progress bar; default: the estimator's.

        Returns
        -------
        DataFrame
            `chrom`, `start`, `end` and `score`: the mean surprise over the known letters of the bin; a
            token's surprise is the mean over blocks and heads. NaN if no letter is known.

        Raises
        ------
        KeyError
            If a contig is not in the genome.
        ValueError
            If an argument is invalid, the model has no memory, or its tokenizer is "bpe", whose tokens
            have no fixed position.
        """
        check_is_fitted(self, "model_")
        return memory_surprise(
            self.model_,
            genome,
            bin=bin,
            contigs=contigs,
            out=out,
            progress_bar=self._show(progress_bar),
        )

    def _codes(self, sequence: str) -> Codes:
        """Return the codes `[T]` of one sequence."""
        if not isinstance(sequence, str):
            raise TypeError(f"sequence is a {type(sequence).__name__}; give one str")
        return self._read_fitted([sequence], "sequence")[0]

    def _fingerprint(self, label: Any) -> dict[str, Any]:
        """Return all that the scores depend on, as values for json."""
        n = self.model_.config.n_outputs
        logits = torch.cat([torch.zeros(1, n), torch.eye(n)]).double()
        return {
            "model": model_digest(self.model_, self._saved()[1]),
            "scores": self._score_function(label)(logits).tolist(),
        }

    def _show(self, progress_bar: bool | None) -> bool:
        return self.progress_bar if progress_bar is None else progress_bar

    def _score_function(self, label: Any) -> Callable[[Tensor], Tensor]:
        """Return a function of logits `[N, n]` that returns the N scores of a label, after checks."""
        check_is_fitted(self, "model_")
        n_bins = self.model_.config.n_bins
        if n_bins:
            raise ValueError(
                f"the model predicts a track of {n_bins} bins; fit one value for each sequence instead"
            )
        return self._label_score(label)

    @abstractmethod
    def _label_score(self, label: Any) -> Callable[[Tensor], Tensor]:
        """As :meth:`_score_function`, for a model without bins."""

    @abstractmethod
    def _logits_of_codes(self, codes: Codes | list[Codes]) -> NDArray[np.float64]:
        """Return the model's outputs `[N, ...]` for codes `[N, T]`, or N arrays `[T]`."""

    @abstractmethod
    def _read_fitted(self, X: Any, name: str = "X") -> list[Codes]:
        """Return the codes of sequences."""

    @abstractmethod
    def _saved(self, **fitted: Any) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Return the fitted attributes besides the network, and the tensors of the k-mer model."""
