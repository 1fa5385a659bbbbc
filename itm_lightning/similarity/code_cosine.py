"""CodeCosine: the angle between the codes of autoencoders."""

from __future__ import annotations

from torch import Tensor
from typing_extensions import override

from itm_lightning.registry import register
from itm_lightning.similarity.base import InnerProductSimilarity
from itm_lightning.types import Features, at_least_float32, unit


@register("similarity")
class CodeCosine(InnerProductSimilarity):
    """Cosine of ``sigmoid(a)`` of the two pooled vectors ``a``, in (0, 1].

    The codes of :class:`~itm_lightning.objectives.BimodalAutoencoder` and
    :class:`~itm_lightning.objectives.CorrAE`, whose papers compare them so (Feng, Wang, Li:
    "Cross-modal Retrieval with Correspondence Autoencoder", ACM MM 2014). Their sigmoid belongs to
    the head, as a code of both sides is the sigmoid of a sum. All coordinates are positive, and
    all cosines near 1 while the codes vary little; :class:`~itm_lightning.similarity.Cosine` of
    the same vectors compares them before the sigmoid.
    """

    @override
    def embed_images(self, images: Features) -> Tensor:
        return unit(at_least_float32(self.pooled(images)).sigmoid())

    @override
    def embed_texts(self, texts: Features) -> Tensor:
        return unit(at_least_float32(self.pooled(texts)).sigmoid())
