"""Whole models: tokenizer, backbone and head."""

from __future__ import annotations

from torch import Tensor, nn

from titans_ts.config import ClassifierConfig, ForecasterConfig
from titans_ts.nn.backbone import TitansBackbone
from titans_ts.nn.heads import ClassHead, ForecastHead
from titans_ts.nn.packing import prefix_mask
from titans_ts.nn.scalers import instance_scale
from titans_ts.nn.tokenizers import DNA_TOKENIZERS, PatchTokenizer

__all__ = ["ForecastingModel", "SequenceClassifier"]


class ForecastingModel(nn.Module):
    """Forecast a window: normalise, cut into patches, read them, and project to the steps ahead.

    Channel-independent by default: every variate is a stream of its own, under shared weights.

    Parameters
    ----------
    config : ForecasterConfig
        Lengths, patches and backbone.
    """

    def __init__(self, config: ForecasterConfig) -> None:
        super().__init__()
        self.config = config
        together = config.n_variates if config.channel_mixing else 1
        d_model = config.backbone.d_model
        self.tokenizer = PatchTokenizer(
            config.context_length, config.patch_length, config.patch_stride, together, d_model
        )
        self.dropout = nn.Dropout(config.backbone.dropout)
        self.backbone = TitansBackbone(config.backbone)
        self.head = ForecastHead(
            self.tokenizer.n_patches * d_model,
            config.prediction_length,
            together,
            len(config.quantile_levels),
            config.head_dropout,
        )

    def forward(self, past: Tensor) -> tuple[Tensor, Tensor]:
        """Forecast.

        Parameters
        ----------
        past : Tensor
            `[B, context_length, C]`; NaN is missing.

        Returns
        -------
        tuple[Tensor, Tensor]
            The mean `[B, H, C]` and the quantiles `[B, H, C, Q]`.
        """
        batch, _, n_variates = past.shape
        observed = ~past.isnan()
        scale = instance_scale(past, observed, self.config.instance_norm)
        x = scale.normalise(past)
        if not self.config.channel_mixing:
            x, observed = (t.mT.flatten(0, 1)[..., None] for t in (x, observed))  # [B C, L, 1]
        tokens, present = self.tokenizer(x, observed)
        mask = None if present.all() else present
        y, _ = self.backbone(self.dropout(tokens), mask=mask)
        point, quantiles = self.head(y)
        if not self.config.channel_mixing:
            point = point[..., 0].unflatten(0, (batch, n_variates)).mT
            quantiles = quantiles[:, :, 0].unflatten(0, (batch, n_variates)).transpose(1, 2)
        return scale.restore(point), scale.restore(quantiles)


class SequenceClassifier(nn.Module):
    """Classify sequences of any length: tokens, backbone, attention pooling.

    Parameters
    ----------
    config : ClassifierConfig
        Classes, tokenizer and backbone.

    Raises
    ------
    ValueError
        If the tokenizer is unknown.
    """

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        self.config = config
        if config.tokenizer not in DNA_TOKENIZERS:
            raise ValueError(
                f"tokenizer is {config.tokenizer!r}; choose one of {sorted(DNA_TOKENIZERS)}"
            )
        d_model = config.backbone.d_model
        self.tokenizer = DNA_TOKENIZERS[config.tokenizer](d_model, config.kernel_size)
        self.dropout = nn.Dropout(config.backbone.dropout)
        self.backbone = TitansBackbone(config.backbone)
        self.head = ClassHead(d_model, config.n_classes, config.head_dropout)

    def forward(self, codes: Tensor, lengths: Tensor) -> Tensor:
        """Class logits.

        Parameters
        ----------
        codes : Tensor
            Nucleotide codes `[B, T]` int64, padded at the end with any code.
        lengths : Tensor
            `[B]`: how many of them are the sequence.

        Returns
        -------
        Tensor
            `[B, n_classes]`.
        """
        mask = prefix_mask(lengths, codes.shape[1])
        ragged = None if mask.all() else mask
        y, _ = self.backbone(self.dropout(self.tokenizer(codes)), mask=ragged)
        return self.head(y, mask)
