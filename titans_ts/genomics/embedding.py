"""Embeddings: vectors of sequences from a pretrained model, for any model of scikit-learn."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted
from torch import nn

from titans_ts.estimator import read_device
from titans_ts.genomics.inference import network_logits
from titans_ts.genomics.parse import encode_sequences
from titans_ts.genomics.pretraining import load_body
from titans_ts.nn.dna.pooling import MeanPool
from titans_ts.types import SequencesLike

__all__ = ["SequenceEmbedding"]


class SequenceEmbedding(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Vectors of sequences of any length: the mean output of a pretrained backbone over the tokens.

    The backbone is not changed; a linear model of the vectors takes seconds. Long sequences are read in
    pieces, in constant memory.

    Parameters
    ----------
    pretrained : str or Path
        "dna-small" (default), the model in the package, or a directory written by
        :meth:`TitansClassifier.pretrain`, or by :meth:`TitansClassifier.save`. A folder of that name is
        "./dna-small".
    both_strands : bool
        Whether the vectors of a sequence and its reverse complement are averaged, so that both have the
        same one (default True).
    device : str
        "auto" (default: CUDA if available), or a torch device.

    Examples
    --------
    >>> SequenceEmbedding().fit_transform(["ACGTTGCA", "TTTTNNTTTTTT"]).shape
    (2, 128)
    """

    def __init__(
        self,
        pretrained: str | Path = "dna-small",
        *,
        both_strands: bool = True,
        device: str = "auto",
    ) -> None:
        self.pretrained = pretrained
        self.both_strands = both_strands
        self.device = device

    def fit(self, X: SequencesLike, y: Any = None) -> SequenceEmbedding:
        """Load the model; the sequences are not used.

        Raises
        ------
        FileNotFoundError, ValueError
            If there is no such model.
        """
        model = load_body(self.pretrained)
        model.config = dataclasses.replace(
            model.config,
            output="values",
            n_bins=0,
            rc="average" if self.both_strands else "none",
        )
        width = model.config.backbone.d_model
        model.pooling, model.head = MeanPool(width, 0), nn.Identity()
        self.model_ = model.float().to(read_device(self.device)).eval()
        self._n_features_out = width if model.config.bidirectional == "none" else 2 * width
        return self

    def transform(self, X: SequencesLike) -> NDArray[np.float32]:
        """Return the vectors of sequences.

        Parameters
        ----------
        X : list, array or Series of str, a frame of one column, or FastaRegions
            N sequences.

        Returns
        -------
        NDArray[np.float32]
            `[N, D]`; D is the width of the backbone, twice that if it reads in both directions.

        Raises
        ------
        NotFittedError
            If it is not fitted.
        TypeError, ValueError
            If X has something other than sequences.
        """
        check_is_fitted(self, "model_")
        model = self.model_
        return network_logits(model, encode_sequences(X, model.config.soft_masked)).astype(
            np.float32
        )

    def __sklearn_tags__(self) -> Tags:
        """X has one str per sequence."""
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        return tags
