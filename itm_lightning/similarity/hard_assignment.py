"""HardAssignment (CHAN): each word is compared with its nearest region alone."""

from __future__ import annotations

from torch import Tensor
from typing_extensions import override

from itm_lightning.errors import Positive
from itm_lightning.registry import register
from itm_lightning.similarity.attention import AGGREGATOR_WEIGHTS, AGGREGATORS, ENTROPY
from itm_lightning.similarity.base import Additive, Aligning
from itm_lightning.similarity.unit_tokens import (
    BELOW_ALL,
    T2I,
    UnitTokens,
    UnitTokenSimilarity,
    hide_padding,
    largest,
)
from itm_lightning.types import Features


@register("similarity")
class HardAssignment(Aligning, Additive, UnitTokenSimilarity):
    """``1/λ log Σ_j exp(λ max_i cos(v_i, t_j))`` of regions ``v_i`` and words ``t_j``.

    CHAN (Pan, Wu, Zhang: "Fine-grained Image-text Matching by Cross-modal Hard Aligning Network",
    CVPR 2023): hard assignment coding describes each word by its most similar region alone, and
    LogSumExp pools the words, so that the best matches count most. The authors' code leaves the
    factor ``1/λ`` out: their margin of .05 is one of .005 here; ranks are the same.

    Args:
        lse_temperature: ``λ``; higher is nearer to the best word alone. Published: 10 (the
            authors' ``belta`` of .1 is its inverse).
    """

    def __init__(self, lse_temperature: Positive = 10.0) -> None:
        super().__init__()
        self.lse_temperature = lse_temperature

    @override
    def compare(self, cosines: Tensor, images: UnitTokens, texts: UnitTokens) -> Tensor:
        cosines = hide_padding(cosines, images, texts, BELOW_ALL)
        return T2I.scores(cosines, images, texts, largest, self._pool)

    def alignment(self, images: Features, texts: Features) -> Tensor:
        """``(n_images, n_texts, R, L)``: 1 at the region that each word is assigned, else 0."""
        cosines, regions, words = self.compared(images, texts)
        return T2I.nearest(hide_padding(cosines, regions, words, BELOW_ALL), regions, words)

    @property
    @override
    def left_out(self) -> str:
        return ENTROPY

    def contributions(self, images: Features, texts: Features) -> Tensor:
        """``(n_images, n_texts, R, L)``: ``w_j · max_i cos(v_i, t_j)`` at the assigned region.

        ``w`` are the derivatives of LogSumExp, ``softmax(λ max_i cos(v_i, t_j))`` over the words.
        """
        cosines, regions, words = self.compared(images, texts)
        nearest = T2I.nearest(hide_padding(cosines, regions, words, BELOW_ALL), regions, words)
        return T2I.parts(cosines, nearest, regions, words, self._weigh)

    def _weigh(self, matches: Tensor, mask: Tensor) -> Tensor:
        return AGGREGATOR_WEIGHTS["LogSumExp"](matches, mask, self.lse_temperature)

    def _pool(self, matches: Tensor, mask: Tensor) -> Tensor:
        return AGGREGATORS["LogSumExp"](matches, mask, self.lse_temperature)
