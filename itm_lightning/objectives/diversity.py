"""Diversity: the vectors of a set should differ."""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import override

from itm_lightning.objectives.base import FeatureObjective
from itm_lightning.objectives.comparison import Comparison
from itm_lightning.objectives.functional import unit_sets
from itm_lightning.registry import register
from itm_lightning.types import Features


@register("objective")
class Diversity(FeatureObjective):
    """``exp(-2 ‖x - y‖²)`` of two tokens of one set, of length 1; the mean, images plus texts.

    The diversity regulariser of DiVE (Kim, Kim, Kwak: "Improving Cross-Modal Retrieval With Set of
    Diverse Embeddings", CVPR 2023), normalised as in the authors' code: the mean over the pairs of
    a set, then over the sets. A set of one token counts 0.
    """

    @override
    def loss(self, comparison: Comparison) -> Tensor:
        alike = self._likeness(comparison.images) + self._likeness(comparison.texts)
        return alike / comparison.pairs

    def _likeness(self, side: Features) -> Tensor:
        """Summed over the rows."""
        tokens, mask = unit_sets(side, self)
        with torch.autocast(tokens.device.type, enabled=False):
            squares = 2 - 2 * tokens @ tokens.mT
        pairs = (mask[:, :, None] & mask[:, None, :]).triu(diagonal=1)
        alike = (-2 * squares).exp().masked_fill(~pairs, 0).sum(dim=(1, 2))
        return (alike / pairs.sum(dim=(1, 2)).clamp(min=1)).sum()
