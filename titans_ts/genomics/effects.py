"""What a fitted model says of variants and of single letters.

A score is the log-odds of a label, or a value in its own unit. Places are 0-based and half-open.
"""

from __future__ import annotations

import numbers
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted
from torch import Tensor
from tqdm.auto import tqdm

from titans_ts.datasets import FastaRegions, Genome, read_variants
from titans_ts.genomics.kmer_model import CountedWords
from titans_ts.genomics.scanning import KNOWN, encode_stretch
from titans_ts.nn.dna.model import SequenceModel
from titans_ts.nn.dna.nucleotides import ABSENT, LETTERS, LOWER

__all__ = ["MOST_LETTERS", "EffectMethods", "whole_letters"]

Codes = NDArray[np.uint8]

MOST_LETTERS = 2**20
"""Letters of the sequences that are held and answered for at a time."""

_ALLELE = set(LETTERS + LETTERS.lower() + "Uu") - {"-"}


class EffectMethods(ABC):
    """Methods of the estimators for DNA: variants, substitutions, gradients.

    The estimator has `_logits_of_codes`, `_read_fitted`, `_column` (of a label) and `_score` (of
    answers).
    """

    model_: SequenceModel
    words_: CountedWords | None
    progress_bar: bool

    def variant_effect(
        self,
        genome: str | Path | Genome,
        variants: str | Path | pd.DataFrame,
        *,
        window: int,
        label: Any = None,
        outside: str = "error",
        rename: Mapping[str, str] | Callable[[str], str] | None = None,
        progress_bar: bool | None = None,
    ) -> pd.DataFrame:
        """How a variant changes the score of the window around it.

        The variant's first letter stands at place ``window // 2`` of the window. The window of the
        alternative begins at the same place of the genome and is as long: an insertion pushes letters
        out on the right, a deletion brings letters in. Where a window reaches beyond the contig, it is
        "-" (not there). An alternative has the case of the letter in the genome at its start.

        Parameters
        ----------
        genome : str, Path or Genome
            A FASTA file.
        variants : str, Path or DataFrame
            A VCF file, or a frame as :func:`titans_ts.datasets.read_variants` gives it: `chrom`,
            `start`, `ref` and `alt` are needed.
        window : int
            Letters of a window.
        label : object, optional
            As for :meth:`scan`.
        outside : {"error", "drop"}
            What to do with variants whose contig is not in the genome: refuse; leave out.
        rename : mapping or callable, optional
            The genome's name of each contig of the variants.
        progress_bar : bool, optional
            Default: the estimator's.

        Returns
        -------
        DataFrame
            The variants' columns, and `ref_match` (whether the genome has `ref` there, case aside),
            `ref_score`, `alt_score` and `effect`, their difference: log-odds of the label, or units of
            the value. The scores are NaN where `ref_match` is False, or no letter is known.

        Raises
        ------
        KeyError
            If a contig is not in the genome, unless `outside` is "drop".
        ValueError
            If an argument cannot be used, a window has a letter outside IUPAC, or the model answers for
            bins of a track.
        """
        self._check_one_answer()
        column, window = self._column(label), whole_letters("window", window)
        given = variants if isinstance(variants, pd.DataFrame) else read_variants(variants)
        if outside not in ("error", "drop"):
            raise ValueError(f"outside is {outside!r}; choose one of ['error', 'drop']")
        genome = genome if isinstance(genome, Genome) else Genome(genome)
        frame = _alleles(given)
        if outside == "drop":
            names = FastaRegions.renamed(frame["chrom"].astype(str), rename)
            kept = names.isin(genome.lengths).to_numpy()
            given, frame = given[kept], frame[kept]
        lead, lower_case = window // 2, self.model_.config.lower_case
        n_ref = frame["ref"].str.len().to_numpy(np.int64)
        # a window before the variant's end and as much behind it as any allele can bring in
        places = pd.DataFrame({"chrom": frame["chrom"], "start": frame["start"] - lead})
        places["end"] = frame["start"] + n_ref + window - lead
        around = FastaRegions(genome, places, outside="pad", rename=rename)
        match = np.zeros(len(frame), bool)
        scores = np.full((len(frame), 2), np.nan)
        rows = list(frame.itertuples(name=None))
        size = max(1, MOST_LETTERS // (2 * window))
        with self._bar("variants", "variants", len(frame), progress_bar) as bar:
            for first in range(0, len(frame), size):
                pairs: list[Codes] = []
                for i in range(first, min(first + size, len(frame))):
                    (number, chrom, start, ref, alt), letters = rows[i], around[i]
                    there = letters[lead : lead + len(ref)]
                    match[i] = there.upper() == ref.upper()
                    if match[i]:
                        alt = alt.lower() if letters[lead].islower() else alt.upper()
                        other = letters[:lead] + alt + letters[lead + len(ref) :]
                        where = f"the window around variant {number}, {chrom}:{start}"
                        pairs += [
                            encode_stretch(s[:window], lower_case, where) for s in (letters, other)
                        ]
                matched = first + np.flatnonzero(match[first : first + size])
                windows = np.array(pairs, np.uint8).reshape(-1, window)
                scores[matched] = self._scores_of(windows, column).reshape(-1, 2)
                bar.update(min(size, len(frame) - first))
        return given.assign(
            ref_match=match,
            ref_score=scores[:, 0],
            alt_score=scores[:, 1],
            effect=scores[:, 1] - scores[:, 0],
        )

    def mutagenesis(self, sequence: str, *, label: Any = None) -> NDArray[np.float64]:
        """How every single substitution changes the score of a sequence.

        Parameters
        ----------
        sequence : str
            T letters.
        label : object, optional
            As for :meth:`scan`.

        Returns
        -------
        NDArray
            `[T, 4]`, columns A, C, G, T: the score with that letter minus the score as it is. 0 for the
            letter that stands there, and where none does ("-"). A substitute has the case of the letter
            it replaces.

        Raises
        ------
        TypeError, ValueError
            If the sequence or label cannot be used, or the model answers for bins of a track.
        """
        self._check_one_answer()
        column, codes = self._column(label), self._codes(sequence)
        upper, lower = codes % LOWER, codes // LOWER * LOWER
        there = (upper[:, None] != np.arange(4)) & (codes != ABSENT)[:, None]
        place, letter = np.nonzero(there)
        found = np.zeros((len(codes), 4))
        usual = self._scores_of(codes[None], column)
        size = max(1, MOST_LETTERS // len(codes))
        for i in range(0, len(place), size):
            at, to = place[i : i + size], letter[i : i + size]
            others = np.tile(codes, (len(at), 1))
            others[np.arange(len(at)), at] = lower[at] + to
            found[at, to] = self._scores_of(others, column) - usual
        return found

    def saliency(self, sequence: str, *, label: Any = None) -> NDArray[np.float64]:
        """The gradient of the score with respect to the letters of a sequence.

        At every place its mean over the four letters is taken away: the letters' shares sum to 1, so
        that part of the gradient points where no sequence is (Majdandzic et al., 2023, "Correcting
        gradient-based interpretations of deep neural networks for genomics", Genome Biology 24, 109).

        Parameters
        ----------
        sequence : str
            T letters, which are read as a whole.
        label : object, optional
            As for :meth:`scan`.

        Returns
        -------
        NDArray
            `[T, 4]`, columns A, C, G, T; 0 where no letter is ("-").

        Raises
        ------
        TypeError, ValueError
            If the sequence or label cannot be used, the model answers for bins of a track, its
            tokenizer has no letters to take a gradient of ("kmer", "bpe"), or words are counted beside.
        """
        self._check_one_answer()
        model = self.model_.eval()
        one_hot: Any = getattr(model.tokenizer, "one_hot", None)
        if one_hot is None:
            raise ValueError(
                f"tokenizer is {model.config.tokenizer!r}, which reads words, and has no gradient of "
                "single letters; use mutagenesis"
            )
        if self.words_ is not None:
            raise ValueError(
                f"counted_words is {self.words_.counter.k}, and counts have no gradient of single "
                "letters; use mutagenesis"
            )
        column, codes = self._column(label), self._codes(sequence)
        leaves: list[Tensor] = []  # [1, C, T'] of each strand that is read

        def take(module: Any, inputs: Any, output: Tensor) -> Tensor:
            leaves.append(output.detach().requires_grad_())
            return leaves[-1]

        device = next(model.parameters()).device
        hook = one_hot.register_forward_hook(take)
        try:
            with torch.enable_grad():
                letters = torch.from_numpy(codes.astype(np.int64)).to(device)
                answers = model(letters[None], torch.tensor([len(codes)], device=device))
                gradients = torch.autograd.grad(self._score(answers, column).sum(), leaves)
        finally:
            hook.remove()
        before = model.tokenizer.kernel_size - 1
        strands = [g[0, :4, before : before + len(codes)].T for g in gradients]
        # on the other strand places run backwards, and so do A, C, G, T as T, G, C, A
        strands[1:] = [g.flip(0, 1) for g in strands[1:]]
        found: NDArray[np.float64] = torch.stack(strands).sum(0).cpu().double().numpy()
        found -= found.mean(1, keepdims=True)
        found[codes == ABSENT] = 0
        return found

    def _scores(self, X: Any, label: Any = None) -> NDArray[np.float64]:
        """The score `[N]` of sequences: log-odds of a label, or a value."""
        self._check_one_answer()
        return self._scores_of(self._read_fitted(X), self._column(label))

    def _scores_of(self, codes: Codes | list[Codes], column: int) -> NDArray[np.float64]:
        """As :meth:`_scores`, of codes `[N, T]` or N arrays `[T]`; NaN where no letter is known."""
        if isinstance(codes, np.ndarray):
            known = KNOWN[codes].any(1)
            some = codes if known.all() else codes[known]
        else:
            known = np.array([KNOWN[sequence].any() for sequence in codes], bool)
            some = [codes[i] for i in np.flatnonzero(known)]
        scores = np.full(len(codes), np.nan)
        if known.any():
            logits = torch.from_numpy(self._logits_of_codes(some))
            scores[known] = self._score(logits, column).numpy()
        return scores

    def _codes(self, sequence: str) -> Codes:
        """Codes `[T]` of one sequence."""
        if not isinstance(sequence, str):
            raise TypeError(f"sequence is a {type(sequence).__name__}; give one str")
        return self._read_fitted([sequence], "sequence")[0]

    def _check_one_answer(self) -> None:
        check_is_fitted(self, "model_")
        n_bins = self.model_.config.n_bins
        if n_bins:
            raise ValueError(
                f"the model answers for a track of {n_bins} bins; fit one value a sequence for this"
            )

    def _bar(self, what: str, unit: str, total: int, progress_bar: bool | None) -> Any:
        show = self.progress_bar if progress_bar is None else progress_bar
        return tqdm(total=total, desc=what, unit=f" {unit}", unit_scale=True, disable=not show)

    @abstractmethod
    def _logits_of_codes(self, codes: Codes | list[Codes]) -> NDArray[np.float64]:
        """The model's outputs `[N, ...]` for codes."""

    @abstractmethod
    def _read_fitted(self, X: Any, name: str = "X") -> list[Codes]:
        """Codes of sequences."""

    @abstractmethod
    def _column(self, label: Any) -> int:
        """The model's output that a label is."""

    @abstractmethod
    def _score(self, answers: Tensor, column: int) -> Tensor:
        """Scores `[N]` of answers `[N, n]`."""


def whole_letters(name: str, value: Any) -> int:
    """A number of letters, checked.

    Raises
    ------
    ValueError
        If it is not a whole number of at least 1; it gives the argument's name.
    """
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} is {value!r}; give a whole number of letters, at least 1")
    return int(value)


def _alleles(variants: pd.DataFrame) -> pd.DataFrame:
    """`chrom`, `start`, `ref` and `alt`, checked, numbered from 0."""
    for name in ("chrom", "start", "ref", "alt"):
        if name not in variants:
            raise ValueError(
                f"variants lack the column {name!r}; they have {list(variants.columns)}"
            )
    frame = variants[["chrom", "start", "ref", "alt"]].reset_index(drop=True)
    frame = frame.astype({"ref": object, "alt": object})
    for name in ("ref", "alt"):
        for i, allele in enumerate(frame[name]):
            if not isinstance(allele, str) or not set(allele) <= _ALLELE:
                raise ValueError(
                    f"variant {i} has {name} {allele!r}; give its letters, and '' for none"
                )
    return frame
