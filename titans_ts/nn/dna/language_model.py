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
"""The letters to predict: "causal", those of the next token from all tokens before it; "masked", those of
hidden tokens (one in seven) from the tokens before (and after, if the model is bidirectional)."""

_HIDDEN = 0.15
"""Share of the tokens that is hidden."""

_N = LETTERS.index("N")


class LanguageModel(nn.Module):
    """Tokenizer and backbone of a :class:`SequenceModel` with a head that predicts letters.

    Parameters
    ----------
    config : SequenceConfig
        Tokenizer, backbone and directions; the outputs are not used.

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
        """Return logits `[B, N, stride, 4]` of A, C, G, T for every letter of a token.

        The inputs are codes `[B, T]` and lengths `[B]`. The logits of a token are those of the next token
        ("causal") or of the token itself ("masked").
        """
        hidden, _ = self.body.hidden(codes, lengths)
        logits: Tensor = self.letters(torch.cat(hidden, -1))
        return logits.unflatten(-1, (self.config.stride, 4))


def letter_loss(
    model: LanguageModel, batch: tuple[Tensor, Tensor], objective: str
) -> tuple[Tensor, int]:
    """Return the mean negative log-likelihood of the predicted letters, in nats, and their number.

    Parameters
    ----------
    model : LanguageModel
        The model.
    batch : tuple
        Codes `[B, T]` and lengths `[B]`; ambiguous letters are ignored.
    objective : str
        One of :data:`OBJECTIVES`. In evaluation the same tokens are hidden every time.
    """
    codes, lengths = batch
    stride = model.config.stride
    padded = F.pad(codes, (0, -codes.shape[1] % stride), value=_N)
    present = torch.arange(padded.shape[1], device=codes.device) < lengths[:, None]
    target = torch.where(present, padded % LOWER, _N).unflatten(1, (-1, stride))  # [B, N, stride]
    if objective == "causal":
        logits, target = model(codes, lengths)[:, :-1], target[:, 1:]
    else:
        hidden = _hidden(target, model.training)
        letters = hidden[..., None].expand_as(target).flatten(1)[:, : codes.shape[1]]
        letters = letters & (codes != ABSENT)  # absent letters stay absent
        logits = model(torch.where(letters, _N, codes), lengths)
        target = torch.where(hidden[..., None], target, _N)
    scored = target < 4
    n_scored = int(scored.sum())
    loss = F.cross_entropy(
        logits.flatten(0, -2), torch.where(scored, target, -100).flatten(), reduction="sum"
    )
    return loss / max(1, n_scored), n_scored


def _hidden(target: Tensor, training: bool) -> Tensor:
    """Return a mask `[B, N]` of the tokens to hide."""
    shape = target.shape[:2]
    if training:
        return torch.rand(shape, device=target.device) < _HIDDEN
    return (torch.arange(shape[1], device=target.device) % 7 == 3).expand(shape)
