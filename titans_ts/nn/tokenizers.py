"""From raw input to tokens: patches of a series, nucleotides of a sequence."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from titans_ts.nn.packing import prefix_mask

__all__ = [
    "DNA_TOKENIZERS",
    "TOKENS",
    "NucleotideTokenizer",
    "PatchTokenizer",
    "VariateTokenizer",
    "encode_nucleotides",
    "n_patches",
    "other_strand",
    "present",
]

TOKENS = ("patch", "joint", "variate", "mixed")
"""What a token of a series is. "patch": some steps of one variate, and every variate is a stream of its
own. "joint": some steps of all variates. "variate": a whole window of one variate, and the stream goes
from variate to variate. "mixed": as "patch", and the streams see one another after the backbone."""


def n_patches(length: int, patch_length: int, patch_stride: int) -> int:
    """Patches that cover `length` steps.

    Examples
    --------
    >>> n_patches(96, 16, 8), n_patches(10, 16, 8)
    (11, 1)
    """
    return -(-max(0, length - patch_length) // patch_stride) + 1


class PatchTokenizer(nn.Module):
    """Cut a series into patches, one token each (Nie et al., "PatchTST", ICLR 2023).

    The last patch ends at the last step; what the first patches lack in front counts as missing.
    A token sees the patch's values and which of them were observed; a patch with none observed is
    absent.

    Parameters
    ----------
    length, patch_length, patch_stride : int
        Steps of the series, of a patch, and between the starts of two patches.
    n_variates : int
        Variates that share a token.
    d_model : int
        D, width of a token.
    n_covariates : int
        Further series in a token, whose values do not make it present.
    """

    def __init__(
        self,
        length: int,
        patch_length: int,
        patch_stride: int,
        n_variates: int,
        d_model: int,
        n_covariates: int = 0,
    ) -> None:
        super().__init__()
        self.patch_length, self.patch_stride = patch_length, patch_stride
        self.n_patches = n_patches(length, patch_length, patch_stride)
        self._front = patch_length + (self.n_patches - 1) * patch_stride - length
        self.n_variates = n_variates
        self.embed = nn.Linear(2 * patch_length * (n_variates + n_covariates), d_model)

    def forward(self, x: Tensor, observed: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens of a series.

        Parameters
        ----------
        x, observed : Tensor
            Values and which of them are known (bool), `[B, T, C + covariates]`.

        Returns
        -------
        tuple[Tensor, Tensor]
            Tokens `[B, P, D]`, and which are present, `[B, P]` bool.
        """
        both = torch.stack([torch.where(observed, x, 0), observed.to(x.dtype)], -1)
        both = F.pad(both, (0, 0, 0, 0, self._front, 0))
        patches = both.unfold(1, self.patch_length, self.patch_stride)  # [B, P, C, 2, patch]
        present = patches[:, :, : self.n_variates, 1].flatten(2).any(-1)
        return self.embed(patches.flatten(2)), present

    def spread(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Values of tokens `[B, P]` as values of steps `[B, T, 1]`: the mean over the patches of a step.

        NaN is a token without a value, and a step without one.
        """
        length = self.patch_length + (self.n_patches - 1) * self.patch_stride
        total, count = (np.zeros((len(values), length)) for _ in range(2))
        known = ~np.isnan(values)
        for i in range(self.n_patches):
            steps = slice(i * self.patch_stride, i * self.patch_stride + self.patch_length)
            total[:, steps] += np.where(known, values, 0)[:, i : i + 1]
            count[:, steps] += known[:, i : i + 1]
        mean = np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
        return mean[:, self._front :, None]


class VariateTokenizer(nn.Module):
    """A whole window of one variate in a token, after Liu et al., "iTransformer", ICLR 2024.

    The covariates come first, then the variates, then the variates once more: what reads the tokens is
    causal, and a variate's second token, present wherever another is, may see all others.

    Parameters
    ----------
    length : int
        Steps of the series.
    n_variates, n_covariates : int
        Variates, and further series.
    d_model : int
        D, width of a token.
    """

    def __init__(self, length: int, n_variates: int, d_model: int, n_covariates: int = 0) -> None:
        super().__init__()
        self.length, self.n_variates, self.n_covariates = length, n_variates, n_covariates
        self.embed = nn.Linear(2 * length, d_model)
        self.which = nn.Parameter(torch.zeros(n_covariates + 2 * n_variates, d_model))

    def forward(self, x: Tensor, observed: Tensor) -> tuple[Tensor, Tensor]:
        """As :class:`PatchTokenizer`, with P = covariates + 2 C."""
        both = torch.cat([torch.where(observed, x, 0), observed.to(x.dtype)], 1).mT  # [B, F, 2 T]
        C = self.n_variates
        tokens, present = self.embed(both), observed.any(1)
        variates, known = tokens[:, :C], present[:, :C]
        tokens = torch.cat([tokens[:, C:], variates, variates], 1)
        again = known.any(1, keepdim=True).expand_as(known)
        return tokens + self.which, torch.cat([present[:, C:], known, again], 1)

    def spread(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Values of tokens `[B, P]` as values of steps `[B, T, C]`: those of a variate's first token."""
        first = values[:, None, self.n_covariates : self.n_covariates + self.n_variates]
        return np.repeat(first, self.length, 1)


_BASES = {
    **{"A": "A", "C": "C", "G": "G", "T": "T", "N": "ACGT", "-": ""},
    **{"R": "AG", "Y": "CT", "S": "CG", "W": "AT", "K": "GT", "M": "AC"},
    **{"B": "CGT", "D": "AGT", "H": "ACT", "V": "ACG"},
}
"""What each letter may stand for (IUPAC); "-" is none: a place that is not there."""

LETTERS = "".join(_BASES)
_ABSENT = LETTERS.index("-")
_CODES = np.full(256, 255, dtype=np.uint8)
for _code, _letter in enumerate(LETTERS):
    _CODES[[ord(_letter), ord(_letter.lower())]] = _code
_CODES[[ord("U"), ord("u")]] = LETTERS.index("T")
_COMPLEMENT = [
    LETTERS.index(c) for c in LETTERS.translate(str.maketrans("ACGTRYKMBVDH", "TGCAYRMKVBHD"))
]


def encode_nucleotides(sequence: str) -> NDArray[np.uint8]:
    """Codes of a DNA sequence: A, C, G, T, N, "-" are 0 to 5, the other IUPAC letters follow.

    Case is ignored, U counts as T, and "-" is a place that is not there.

    Parameters
    ----------
    sequence : str
        A non-empty sequence.

    Returns
    -------
    NDArray[np.uint8]
        `[T]`.

    Raises
    ------
    ValueError
        If the sequence is empty (or nothing but "-"), or has a letter outside IUPAC; it names the letter
        and its place.

    Examples
    --------
    >>> encode_nucleotides("acgtRN")
    array([0, 1, 2, 3, 6, 4], dtype=uint8)
    >>> encode_nucleotides("ACX")
    Traceback (most recent call last):
    ...
    ValueError: the sequence has 'X' at position 2; use the IUPAC letters ACGTNRYSWKMBDHV, U, or "-"
    """
    if not sequence:
        raise ValueError("the sequence is empty; drop it, or give at least one nucleotide")
    letters = np.frombuffer(sequence.encode("latin-1", "replace"), dtype=np.uint8)
    codes = _CODES[letters]
    bad = np.flatnonzero(codes == 255)
    if len(bad):
        raise ValueError(
            f"the sequence has {sequence[bad[0]]!r} at position {bad[0]}; "
            f'use the IUPAC letters {LETTERS.replace("-", "")}, U, or "-"'
        )
    if (codes == _ABSENT).all():
        raise ValueError('the sequence is nothing but "-"; drop it')
    return codes


def present(codes: Tensor, lengths: Tensor) -> Tensor:
    """Which of padded codes `[B, T]` of sequences of these lengths `[B]` are there, `[B, T]` bool."""
    return prefix_mask(lengths, codes.shape[1]) & (codes != _ABSENT)


def other_strand(codes: Tensor, lengths: Tensor) -> Tensor:
    """Codes `[B, T]` of the reverse complements, the padding still at the end."""
    place = torch.arange(codes.shape[1], device=codes.device)
    back = lengths[:, None] - 1 - place
    complement = torch.tensor(_COMPLEMENT, device=codes.device)
    return complement[codes.gather(1, torch.where(back >= 0, back, place))]


class NucleotideTokenizer(nn.Module):
    """One token a nucleotide: learned motifs over the nucleotides up to it, and its position.

    A causal convolution over one-hot letters (an ambiguous one is a share of each that it may stand for),
    so that a token sees itself and the `kernel_size - 1` nucleotides before it.

    Parameters
    ----------
    d_model : int
        D, width of a token.
    kernel_size : int
        Nucleotides a token sees.
    """

    def __init__(self, d_model: int, kernel_size: int) -> None:
        super().__init__()
        one_hot = [
            [bases.count(b) / max(1, len(bases)) for b in "ACGT"] for bases in _BASES.values()
        ]
        self.register_buffer("one_hot", torch.tensor(one_hot), persistent=False)
        self.embed = nn.Conv1d(4, d_model, kernel_size)
        self.position = nn.Linear(d_model, d_model, bias=False)

    one_hot: Tensor

    def forward(self, codes: Tensor) -> Tensor:
        """Tokens `[B, T, D]` of codes `[B, T]` (int64, of :func:`encode_nucleotides`)."""
        x = self.one_hot[codes].mT  # [B, 4, T]
        x = F.pad(x, (self.embed.kernel_size[0] - 1, 0))
        tokens = self.embed(x).mT
        return tokens + self.position(_sinusoids(tokens))


DNA_TOKENIZERS: dict[str, type[NucleotideTokenizer]] = {"nucleotide": NucleotideTokenizer}
"""How a DNA sequence becomes tokens, by name."""


def _sinusoids(tokens: Tensor) -> Tensor:
    """Sines and cosines of a token's position, `[T, D]` (Vaswani et al., 2017, section 3.5)."""
    _, length, width = tokens.shape
    position = torch.arange(length, device=tokens.device, dtype=torch.float32)
    rate = 10000.0 ** (-torch.arange(width // 2, device=tokens.device) / (width // 2))
    angle = position[:, None] * rate
    return torch.cat([angle.sin(), angle.cos()], -1).to(tokens.dtype)
