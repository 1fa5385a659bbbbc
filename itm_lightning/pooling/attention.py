"""A weighted mean of the tokens whose weights are learnt."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from itm_lightning.pooling.base import Pooling
from itm_lightning.registry import register


@register("pooling")
class AttentionPooling(Pooling):
    """Each token earns its weight: ``softmax(v · tanh(W token + b))`` over the real tokens.

    Lin et al. 2017, A Structured Self-Attentive Sentence Embedding, equations 5 and 6 with one hop.

    Args:
        hidden: width of the scorer's hidden layer; the tokens' width where ``None``.
    """

    def __init__(self, hidden: int | None = None) -> None:
        super().__init__()
        self.hidden = hidden

    def build(self, dim: int) -> None:
        """Makes the scorer for tokens of width ``dim``."""
        hidden = self.hidden or dim
        # a bias on the score would drop out of the softmax
        self.scorer = nn.Sequential(
            nn.Linear(dim, hidden), nn.Tanh(), nn.Linear(hidden, 1, bias=False)
        )

    def weights(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """How much each token counts: ``(B, L)``, each row sums to 1, padding has 0."""
        scores = self.scorer(tokens).squeeze(-1)
        # the lowest finite number, not -inf: a row without tokens would be NaN in the gradient
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
        return scores.softmax(dim=1) * mask

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """The mean of the tokens by their :meth:`weights`."""
        return (self.weights(tokens, mask).unsqueeze(-1) * tokens).sum(dim=1)
