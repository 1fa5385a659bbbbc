"""SmoothChamfer: each token is matched with a soft maximum over the other side."""

from __future__ import annotations

from torch import Tensor
from typing_extensions import override

from itm_lightning.errors import Positive
from itm_lightning.registry import register
from itm_lightning.similarity.attention import AGGREGATOR_WEIGHTS, AGGREGATORS, ENTROPY
from itm_lightning.similarity.base import Additive
from itm_lightning.similarity.unit_tokens import (
    I2T,
    T2I,
    UnitTokens,
    UnitTokenSimilarity,
    hide_padding,
)
from itm_lightning.types import Features

# exp of this is negligible next to 1, even in float64
_NEGLIGIBLE = -200.0


@register("similarity")
class SmoothChamfer(Additive, UnitTokenSimilarity):
    """Smooth-Chamfer similarity of the set of regions ``V`` and the set of words ``T``.

    ``1/(2α|V|) Σ_v log Σ_t exp(α cos(v, t)) + 1/(2α|T|) Σ_t log Σ_v exp(α cos(v, t))``

    Kim, Kim, Kwak: "Improving Cross-Modal Retrieval with Set of Diverse Embeddings", CVPR 2023
    (equation 3). It is Chamfer similarity (``MaxSim("both")``) whose maximum is LogSumExp, so that
    every pair of tokens learns. The authors compare sets of a few learnt vectors; here the tokens
    themselves are the sets.

    Args:
        temperature: ``α``; higher is nearer to Chamfer similarity. Published: 16.
    """

    def __init__(self, temperature: Positive = 16.0) -> None:
        super().__init__()
        self.temperature = temperature

    @override
    def compare(self, cosines: Tensor, images: UnitTokens, texts: UnitTokens) -> Tensor:
        hidden = self._hidden(cosines, images, texts)
        of_words, of_regions = (
            direction.scores(hidden, images, texts, self._soft_largest, _mean)
            for direction in (T2I, I2T)
        )
        return (of_words + of_regions) / 2

    @property
    @override
    def left_out(self) -> str:
        return f"the mean over all tokens of {ENTROPY}"

    def contributions(self, images: Features, texts: Features) -> Tensor:
        """``(n_images, n_texts, R, L)``: each cosine, by its weight in the soft maxima.

        ``(a_vt / |V| + b_vt / |T|) cos(v, t) / 2``, where ``a`` and ``b`` are the derivatives of
        LogSumExp: ``softmax(α cos(v, t))`` over the words, and over the regions.
        """
        cosines, regions, words = self.compared(images, texts)
        logits = self._hidden(cosines, regions, words).transpose(1, 2) * self.temperature
        of_words = T2I.parts(cosines, logits.softmax(dim=2), regions, words, _mean_weights)
        of_regions = I2T.parts(cosines, logits.softmax(dim=3), regions, words, _mean_weights)
        return (of_words + of_regions) / 2

    def _hidden(self, cosines: Tensor, images: UnitTokens, texts: UnitTokens) -> Tensor:
        return hide_padding(cosines, images, texts, _NEGLIGIBLE / self.temperature - 1)

    def _soft_largest(self, cosines: Tensor, dim: int) -> Tensor:
        return (cosines * self.temperature).logsumexp(dim) / self.temperature


def _mean(matches: Tensor, mask: Tensor) -> Tensor:
    return AGGREGATORS["Mean"](matches, mask, 1.0)


def _mean_weights(matches: Tensor, mask: Tensor) -> Tensor:
    return AGGREGATOR_WEIGHTS["Mean"](matches, mask, 1.0)
