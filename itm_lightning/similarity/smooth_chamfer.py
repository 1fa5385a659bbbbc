"""SmoothChamfer: each token is matched with a soft maximum over the other side."""

from __future__ import annotations

from torch import Tensor
from typing_extensions import override

from itm_lightning.registry import register
from itm_lightning.similarity.attention import AGGREGATORS
from itm_lightning.similarity.unit_tokens import (
    I2T,
    T2I,
    UnitTokens,
    UnitTokenSimilarity,
    hide_padding,
)

# exp of this is negligible next to 1, even in float64
_NEGLIGIBLE = -200.0


@register("similarity")
class SmoothChamfer(UnitTokenSimilarity):
    """Smooth-Chamfer similarity of the set of regions ``V`` and the set of words ``T``.

    ``1/(2α|V|) Σ_v log Σ_t exp(α cos(v, t)) + 1/(2α|T|) Σ_t log Σ_v exp(α cos(v, t))``

    Kim, Kim, Kwak: "Improving Cross-Modal Retrieval with Set of Diverse Embeddings", CVPR 2023
    (equation 3). It is Chamfer similarity (``MaxSim("both")``) whose maximum is LogSumExp, so that
    every pair of tokens learns. The authors compare sets of a few learnt vectors; here the tokens
    themselves are the sets.

    Args:
        temperature: ``α``; higher is nearer to Chamfer similarity. Published: 16.
    """

    def __init__(self, temperature: float = 16.0) -> None:
        super().__init__()
        self.temperature = temperature

    @override
    def compare(self, cosines: Tensor, images: UnitTokens, texts: UnitTokens) -> Tensor:
        hidden = hide_padding(cosines, images, texts, _NEGLIGIBLE / self.temperature - 1)
        of_words, of_regions = (
            direction.scores(hidden, images, texts, self._soft_largest, _mean)
            for direction in (T2I, I2T)
        )
        return (of_words + of_regions) / 2

    def _soft_largest(self, cosines: Tensor, dim: int) -> Tensor:
        return (cosines * self.temperature).logsumexp(dim) / self.temperature


def _mean(matches: Tensor, mask: Tensor) -> Tensor:
    return AGGREGATORS["Mean"](matches, mask, 1.0)
