"""Motifs: what the letters that decide a score have in common."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from titans_ts.config import check_integer
from titans_ts.datasets.alphabet import KNOWN, LOWER
from titans_ts.datasets.atomic import replace_file
from titans_ts.estimator import plain
from titans_ts.genomics.scorer import Codes

__all__ = ["Motif", "find_motifs", "write_meme"]

Array = NDArray[np.float64]

_CORE, _FLANK = 7, 8
"""Letters whose summed effect says where a site is, and letters on either side that belong to it."""
_DISTINCT = 4.0
"""A site's effect is at least this number of deviations from the usual one of a stretch, ..."""
_SHARE = 0.2
"""... and this share of the effect of the strongest sites."""
_ALIKE = 0.6
"""Cosine of two sites, aligned, that have a motif in common."""
_SEEDS, _ROUNDS = 20, 5
"""Sites that are tried as the beginning of a motif, and rounds of aligning all others with their mean."""
_CLEAR = 0.3
"""A motif ends where the importance falls below this share of its largest one."""
_AMBIGUOUS = {
    **{"A": "A", "C": "C", "G": "G", "T": "T", "AC": "M", "AG": "R", "AT": "W", "CG": "S"},
    **{"CT": "Y", "GT": "K", "ACG": "V", "ACT": "H", "AGT": "D", "CGT": "B", "ACGT": "N"},
}
_PRESENT = 0.2
"""A letter is part of the consensus if at least this share of the sites has it."""


@dataclass(frozen=True, eq=False)
class Motif:
    """Sites of L letters that change a score in the same way.

    Attributes
    ----------
    probabilities : ndarray
        `[L, 4]`, the shares of A, C, G, T among the sites.
    importance : ndarray
        `[L, 4]`, the mean effect of the letters in place on the score, against the mean of all four;
        0 for a letter that no site has.
    n_sites : int
        Number of sites.
    """

    probabilities: Array
    importance: Array
    n_sites: int

    @property
    def raises_score(self) -> bool:
        """Whether the motif makes the score larger."""
        return bool(self.importance.sum() > 0)

    @property
    def consensus(self) -> str:
        """Its letters in IUPAC's alphabet: those that at least a fifth of the sites have."""
        return "".join(
            _AMBIGUOUS["".join(c for c, p in zip("ACGT", row, strict=True) if p >= _PRESENT)]
            for row in self.probabilities
        )

    def __repr__(self) -> str:
        what = "raises" if self.raises_score else "lowers"
        return f"Motif({self.consensus!r}, {self.n_sites} sites, {what} the score)"


def find_motifs(
    codes: Sequence[Codes], effects: Sequence[Array], *, min_sites: int = 20
) -> list[Motif]:
    """Find motifs from the effects of single letters on a score.

    As in TF-MoDISco (Shrikumar et al., 2018, arXiv 1811.00416), stretches of letters whose effects are
    large are taken from the sequences, compared by these effects, and grouped. Here a group grows from
    one stretch: all others, on both strands and shifted, are aligned with the mean of those alike.

    Parameters
    ----------
    codes : sequence of NDArray[np.uint8]
        N sequences.
    effects : sequence of ndarray
        The effects `[T, 4]` of every letter in every place on the score of each sequence, columns A, C,
        G, T, as :func:`titans_ts.genomics.attribution.mutagenesis` or
        :func:`~titans_ts.genomics.attribution.saliency` returns them.
    min_sites : int
        Number of sites that a motif has at least (default 20).

    Returns
    -------
    list of Motif
        Those that raise the score first, and those of more sites before others; empty if letters with
        large effects have nothing in common. A motif is on the strand of its first site.

    Raises
    ------
    ValueError
        If there are no sequences, or `codes` and `effects` do not fit together.
    """
    min_sites = check_integer("min_sites", plain(min_sites), 2)
    letters, importance = _joined(codes, effects)
    motifs: list[Motif] = []
    for sign in (1.0, -1.0):
        places = _sites(sign * importance.sum(1))
        stretch = places[:, None] + np.arange(-_FLANK, _CORE + _FLANK)
        group = _grouped(letters[stretch], importance[stretch], min_sites)
        motifs += sorted(group, key=lambda motif: -motif.n_sites)
    return motifs


def _joined(codes: Sequence[Codes], effects: Sequence[Array]) -> tuple[Array, Array]:
    """Return the letters `[M, 4]` of all sequences, one after the other, and what they are worth.

    The worth of a letter is its effect against the mean of all four; it is 0 for other letters. Between
    two sequences, and before the first, lie letters without any effect.
    """
    if len(codes) == 0 or len(codes) != len(effects):
        raise ValueError(
            f"codes has {len(codes)} sequences and effects {len(effects)}; give the effects of one "
            "sequence or more"
        )
    letters, worth = [np.zeros((_FLANK + _CORE, 4))], [np.zeros((_FLANK + _CORE, 4))]
    for i, (one, effect) in enumerate(zip(codes, effects, strict=True)):
        if np.shape(effect) != (len(one), 4):
            raise ValueError(
                f"effects[{i}] has shape {np.shape(effect)}, but codes[{i}] has {len(one)} letters; give "
                f"{(len(one), 4)}"
            )
        hot = (one[:, None] % LOWER == np.arange(4)) & KNOWN[one][:, None]
        centred = np.nan_to_num(effect - np.mean(effect, 1, keepdims=True))
        letters += [hot, letters[0]]
        worth += [np.where(hot, centred, 0), worth[0]]
    return np.concatenate(letters), np.concatenate(worth)


def _sites(worth: Array) -> NDArray[np.int64]:
    """Return where stretches of letters with a large sum of `worth` `[M]` begin; they do not overlap."""
    total = np.convolve(worth, np.ones(_CORE), "valid")
    usual = total[total != 0]
    if len(usual) == 0:
        return np.empty(0, np.int64)
    middle = np.median(usual)
    spread = 1.4826 * np.median(np.abs(usual - middle))
    least = max(middle + _DISTINCT * spread, _SHARE * np.quantile(total, 1 - 1e-3), 1e-12)
    taken = np.zeros(len(worth), bool)
    found = []
    for place in np.argsort(-total, kind="stable"):
        if total[place] < least:
            break
        if not taken[place : place + _CORE].any():
            found.append(int(place))
            taken[place : place + _CORE] = True
    return np.array(found, np.int64)


def _grouped(letters: Array, worth: Array, min_sites: int) -> list[Motif]:
    """Group sites `[n, L, 4]`, the strongest first, by what their letters are worth."""
    found = []
    while len(worth) >= min_sites:
        best: tuple[Any, ...] | None = None
        for seed in range(min(_SEEDS, len(worth))):
            likeness, way = _align(worth, worth[seed])
            if best is None or (likeness >= _ALIKE).sum() > (best[0] >= _ALIKE).sum():
                best = likeness, way
        assert best is not None
        likeness, way = best
        for _ in range(_ROUNDS):
            alike = likeness >= _ALIKE
            mean = _placed(worth[alike], way[alike]).mean(0)
            likeness, way = _align(worth, mean)
        alike = likeness >= _ALIKE
        if alike.sum() < min_sites:
            break
        sites = _placed(letters[alike], way[alike])
        found.append(_trimmed(sites, _placed(worth[alike], way[alike])))
        letters, worth = letters[~alike], worth[~alike]
    return found


_WAYS = [(strand, shift) for strand in (1, -1) for shift in range(-_FLANK, _FLANK + 1)]
"""How a site can lie on another one: its strand, and by how many letters it is moved."""


def _align(sites: Array, other: Array) -> tuple[Array, NDArray[np.int64]]:
    """Return the largest cosines `[n]` of sites `[n, L, 4]` with another one, and the ways `[n]`."""
    products = np.stack(
        [np.einsum("nlc,lc->n", _moved(sites, strand, shift), other) for strand, shift in _WAYS], 1
    )
    way = products.argmax(1)
    size = np.linalg.norm(sites, axis=(1, 2)) * np.linalg.norm(other)
    return products.max(1) / np.maximum(size, 1e-300), way


def _moved(sites: Array, strand: int, shift: int) -> Array:
    """Return sites `[n, L, 4]` on a strand, moved to the right by some letters; zeros come in."""
    turned = sites[:, ::strand, ::strand]
    moved = np.zeros_like(turned)
    length = turned.shape[1]
    left, right = max(0, shift), max(0, -shift)
    moved[:, left : length - right] = turned[:, right : length - left]
    return moved


def _placed(sites: Array, way: NDArray[np.int64]) -> Array:
    """Return sites `[n, L, 4]`, each moved in its way."""
    placed = np.zeros_like(sites)
    for number in np.unique(way):
        rows = way == number
        placed[rows] = _moved(sites[rows], *_WAYS[number])
    return placed


def _trimmed(letters: Array, worth: Array) -> Motif:
    """Return the motif of aligned sites `[n, L, 4]`, without ends that have little effect."""
    importance = worth.mean(0)
    size = np.abs(importance.sum(1))
    clear = np.flatnonzero(size >= _CLEAR * size.max())
    part = slice(clear[0], clear[-1] + 1)
    counts = letters[:, part].sum(0)
    known = counts.sum(1, keepdims=True)
    probabilities = np.where(known > 0, counts / np.maximum(known, 1), 0.25)
    return Motif(probabilities, importance[part], len(letters))


def write_meme(path: str | Path, motifs: Iterable[Motif]) -> None:
    """Write motifs as a file in the minimal MEME format, version 4, which Tomtom and FIMO read.

    Their names are `motif_1`, `motif_2` and so on, beside their consensus. The background is uniform.

    Parameters
    ----------
    path : str or Path
        The file; it is replaced as a whole.
    motifs : iterable of Motif
        The motifs, one at least.

    Raises
    ------
    ValueError
        If there is no motif.
    """
    blocks = []
    for number, motif in enumerate(motifs, 1):
        rows = motif.probabilities / motif.probabilities.sum(1, keepdims=True)
        lines = [
            f"MOTIF motif_{number} {motif.consensus}",
            f"letter-probability matrix: alength= 4 w= {len(rows)} nsites= {motif.n_sites} E= 0",
            *(" ".join(f"{p:.6f}" for p in row) for row in rows),
        ]
        blocks.append("\n".join(lines))
    if not blocks:
        raise ValueError("motifs is empty; find one motif or more first")
    head = "MEME version 4\n\nALPHABET= ACGT\n\nstrands: + -\n\nBackground letter frequencies\n"
    head += "A 0.25 C 0.25 G 0.25 T 0.25"
    replace_file(Path(path), "\n\n".join([head, *blocks, ""]).encode())
