"""Hub correction: a bias of each image and text, so that none is near to every query.

In a space of many dimensions a few items, the hubs, are among the nearest of very many queries
(Radovanović et al., JMLR 2010, Hubs in space). A correction lowers an item's scores by how near
other queries come to it. These are its bank, of training images and texts, never of the queries
that are scored.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor
from typing_extensions import override

from itm_lightning.errors import Positive, Size
from itm_lightning.part import Part
from itm_lightning.registry import register
from itm_lightning.similarity.base import PooledSimilarity, Similarity
from itm_lightning.similarity.ensemble import Ensemble
from itm_lightning.types import Features, double, full_precision


class HubCorrection(Part, ABC):
    """``s'(i, t) = s(i, t) − bias(i) − bias(t)``.

    An image's bias follows from its scores with the texts of the bank, a text's from its scores
    with the images of the bank. A query's own bias is the same for all of its answers, so that it
    changes no ranking: one matrix serves both directions.

    The scores are read block by block, on several processes, hence in two functions: the first
    makes few numbers of many scores, also of scores together with what it made of others; the
    second makes the bias of these numbers.

    Attributes:
        width: how many numbers are kept of an item's scores; all where the bank has fewer.
    """

    width: int

    @abstractmethod
    def reduce(self, scores: Tensor, width: int) -> Tensor:
        """``(n, width)`` of ``scores (n, m)`` of n items with m of the bank, ``m ≥ width``.

        ``reduce(cat([reduce(a), b]))`` must be ``reduce(cat([a, b]))``; a score of −∞ stands for
        none.
        """

    @abstractmethod
    def bias(self, reduced: Tensor) -> Tensor:
        """``(n,)``, in the unit of the scores, of what :meth:`reduce` made of all of the bank."""


@register("hub_correction")
class NNN(HubCorrection):
    """``s − α · mean of the k highest scores with the bank``: nearest neighbour normalisation.

    Chowdhury et al., EMNLP 2024, Nearest neighbor normalization improves multimodal retrieval,
    section 3.1. For a bank from another domain they take α of 0.25 to 0.5 and k of 8 to 16.

    Args:
        k: how many scores the mean is over.
        alpha: its factor.

    Raises:
        InputError: ``k`` is below 1, or ``alpha`` not above 0.
    """

    def __init__(self, k: Size = 128, alpha: Positive = 0.75) -> None:
        self.width = k
        self.alpha = alpha

    @override
    def reduce(self, scores: Tensor, width: int) -> Tensor:
        return scores.topk(width, dim=1).values

    @override
    def bias(self, reduced: Tensor) -> Tensor:
        return self.alpha * reduced.mean(dim=1)


@register("hub_correction")
class CSLS(NNN):
    """``2s − r(i) − r(t)``, r the mean of the k highest scores with the bank; here halved.

    Cross-domain similarity local scaling: Conneau et al., ICLR 2018, Word translation without
    parallel data, section 2.3.

    Args:
        k: how many scores the mean is over.

    Raises:
        InputError: ``k`` is below 1.
    """

    def __init__(self, k: Size = 10) -> None:
        super().__init__(k, alpha=0.5)


@register("hub_correction")
class InvertedSoftmax(HubCorrection):
    """``s/τ − log Σ exp(s/τ)`` over the scores with the bank; here times τ.

    Smith et al., ICLR 2017, Offline bilingual word vectors, section 2.3. Bogolin et al., CVPR 2022,
    Cross modal retrieval with querybank normalisation, use 1/τ = 20.

    Args:
        temperature: τ, for scores like cosines; scores of another range need another.

    Raises:
        InputError: it is not above 0.
    """

    width = 1

    def __init__(self, temperature: Positive = 0.05) -> None:
        self.temperature = temperature

    @override
    def reduce(self, scores: Tensor, width: int) -> Tensor:
        # in float64, so that the order in which blocks and processes add hardly matters
        scaled = double(scores) / self.temperature
        return self.temperature * scaled.logsumexp(dim=1, keepdim=True)

    @override
    def bias(self, reduced: Tensor) -> Tensor:
        return reduced[:, 0]


class HubCorrected(Ensemble):
    """A head's scores less the biases of image and text, which come with their features.

    Features are :class:`~itm_lightning.types.MemberFeatures`: what the head reads, and last the
    biases ``(B, 1)`` as pooled vectors.

    Args:
        similarity: the head; of an ensemble, every member keeps its weight.
    """

    def __init__(self, similarity: Similarity) -> None:
        heads, weights = [similarity], [1.0]
        if isinstance(similarity, Ensemble):
            heads, weights = similarity.each, similarity.weights
        super().__init__([*heads, _Biases()])
        self.weights = [*weights, 1.0]  # a sum, where an ensemble's is a mean


class _Biases(PooledSimilarity):
    """``−bias(i) − bias(t)``."""

    def score(self, images: Features, texts: Features) -> Tensor:
        with full_precision(self.pooled(images)):
            return -(self.pooled(images) + self.pooled(texts).mT)
