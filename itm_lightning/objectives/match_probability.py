"""MatchProbability: PCME++'s loss on expected distances."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from typing_extensions import override

from itm_lightning.errors import Positive
from itm_lightning.objectives.base import QueryObjective
from itm_lightning.objectives.comparison import Comparison, Queries
from itm_lightning.objectives.functional import matching_losses
from itm_lightning.registry import register


@register("objective")
class MatchProbability(QueryObjective):
    """Cross entropy of the matching probability ``sigmoid(scale · score + shift)`` of each pair.

    PCME++ (Chun: "Improved Probabilistic Image-Text Representations", ICLR 2024): the mean over
    all pairs (equation 2), counted for each direction; and, with weight ``pseudo``, once more a
    direction with *pseudo-positives* (section 2.3), negatives that score at least as high as the
    query's positive and are taken to match: texts are annotated with one image, and fit more.
    Another text of the same image is neither positive nor negative.

    Args:
        scale: what scores (minus distances) are multiplied by; learnt from there.
        shift: what is added; learnt from there.
        pseudo: PCME++'s α.
    """

    def __init__(self, scale: Positive = 5.0, shift: float = 5.0, pseudo: float = 0.1) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(float(scale)))
        self.shift = nn.Parameter(torch.tensor(float(shift)))
        self.pseudo = pseudo

    @property
    def temperature(self) -> Tensor:
        """What scores are divided by: 1 / scale."""
        return 1 / self.scale

    @override
    def query_loss(self, queries: Queries) -> Tensor:
        logits = queries.scores * self.scale + self.shift
        own = logits.gather(1, queries.targets[:, None])
        losses = matching_losses(logits, queries.positives)
        losses = losses + self.pseudo * matching_losses(logits, logits >= own)
        return losses.masked_fill(~queries.valid, 0).sum()

    @override
    def loss(self, comparison: Comparison) -> Tensor:
        counted = comparison.total(comparison.image_queries.valid.sum())
        return super().loss(comparison) / counted
