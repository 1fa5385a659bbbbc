"""A weighted mean of the tokens, with learnt weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from typing_extensions import override

from itm_lightning.errors import Size
from itm_lightning.pooling.base import Pooling
from itm_lightning.registry import register


@register("pooling")
class AttentionPooling(Pooling):
    """The mean of the tokens, weighted by ``softmax(v · tanh(W token + b))`` over the real tokens.

    Lin et al. 2017, A Structured Self-Attentive Sentence Embedding, equations 5 and 6 with one hop.

    Args:
        hidden: width of the scorer's hidden layer; the tokens' width where ``None``.
    """

    def __init__(self, hidden: Size | None = None) -> None:
        super().__init__()
        self.hidden = hidden

    @override
    def build(self, dim: int) -> None:
        hidden = self.hidden or dim
        # a bias on the score would drop out of the softmax
        self.scorer = nn.Sequential(
            nn.Linear(dim, hidden), nn.Tanh(), nn.Linear(hidden, 1, bias=False)
        )

    def weights(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """The weight of each token ``(B, L)``: 0 at padding; the rows sum to 1."""
        scores = self.scorer(tokens).squeeze(-1)
        # the lowest finite number: with -inf, a row without tokens would have a NaN gradient
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
        return scores.softmax(dim=1) * mask

    @override
    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        return (self.weights(tokens, mask).unsqueeze(-1) * tokens).sum(dim=1)
