"""A language model of DNA: pretraining on genomes without labels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from titans_ts.config import SequenceConfig
from titans_ts.nn.dna.model import SequenceModel
from titans_ts.nn.dna.nucleotides import ABSENT, LETTERS, LOWER

__all__ = ["OBJECTIVES", "LanguageModel", "letter_loss"]

OBJECTIVES = ("causal", "masked")
"""What is predicted: the letters of the next token from all tokens before it; or the letters of hidden
tokens, one in seven, from those before them (and behind them, if the model is bidirectional)."""

_HIDDEN = 0.15
_N = LETTERS.index("N")


class LanguageModel(nn.Module):
    """Tokenizer and backbone of a :class:`SequenceModel` with a head that predicts letters.

    Parameters
    ----------
    config : SequenceConfig
        Tokenizer, backbone and directions; the outputs do not matter.

    Raises
    ------
    ValueError
        If the tokenizer is "bpe", whose tokens have no fixed number of letters.
    """

    def __init__(self, config: SequenceConfig) -> None:
        super().__init__()
        if config.tokenizer == "bpe":
            raise ValueError(
                "tokenizer is 'bpe', whose tokens have no fixed number of letters; choose another"
            )
        self.config = config
        self.body = SequenceModel(config)
        self.body.head, self.body.pooling = nn.Identity(), None
        n_directions = 1 if config.bidirectional == "none" else 2
        self.letters = nn.Linear(n_directions * config.backbone.d_model, 4 * config.stride)

    def forward(self, codes: Tensor, lengths: Tensor) -> Tensor:
        """Logits of A, C, G, T for the letters of a token, `[B, N, stride, 4]`.

        For codes `[B, T]` and lengths `[B]`: of the next token, or of the token itself, by the objective.
        """
        found, _ = self.body.hidden(codes, lengths)
        logits: Tensor = self.letters(torch.cat(found, -1))
        return logits.unflatten(-1, (self.config.stride, 4))


def letter_loss(
    model: LanguageModel, batch: tuple[Tensor, Tensor], objective: str
) -> tuple[Tensor, int]:
    """Mean negative log-likelihood of the predicted letters, in nats, and their number.

    Parameters
    ----------
    model : LanguageModel
        The model.
    batch : tuple
        Codes `[B, T]` and lengths `[B]`; ambiguous letters do not count.
    objective : str
        One of :data:`OBJECTIVES`. In evaluation the same tokens are hidden every time.
    """
    codes, lengths = batch
    stride = model.config.stride
    padded = F.pad(codes, (0, -codes.shape[1] % stride), value=_N)
    there = torch.arange(padded.shape[1], device=codes.device) < lengths[:, None]
    target = torch.where(there, padded % LOWER, _N).unflatten(1, (-1, stride))  # [B, N, stride]
    if objective == "causal":
        logits, target = model(codes, lengths)[:, :-1], target[:, 1:]
    else:
        hidden = _hidden(target, model.training)
        letters = hidden[..., None].expand_as(target).flatten(1)[:, : codes.shape[1]]
        letters = letters & (codes != ABSENT)  # what is not there stays so
        logits = model(torch.where(letters, _N, codes), lengths)
        target = torch.where(hidden[..., None], target, _N)
    asked = target < 4
    n_asked = int(asked.sum())
    loss = F.cross_entropy(
        logits.flatten(0, -2), torch.where(asked, target, -100).flatten(), reduction="sum"
    )
    return loss / max(1, n_asked), n_asked


def _hidden(target: Tensor, training: bool) -> Tensor:
    """Which tokens to hide, `[B, N]` bool."""
    shape = target.shape[:2]
    if training:
        return torch.rand(shape, device=target.device) < _HIDDEN
    return (torch.arange(shape[1], device=target.device) % 7 == 3).expand(shape)
