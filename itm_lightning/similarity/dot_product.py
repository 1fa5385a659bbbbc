"""DotProduct: the inner product of the pooled vectors."""

from __future__ import annotations

from torch import Tensor
from typing_extensions import override

from itm_lightning.registry import register
from itm_lightning.similarity.base import InnerProductSimilarity
from itm_lightning.types import Features, at_least_float32


@register("similarity")
class DotProduct(InnerProductSimilarity):
    """``v · t`` of an image's pooled vector ``v`` and a text's ``t``, whatever their length.

    DeViSE (Frome et al., NeurIPS 2013) ranks by it. Nothing bounds it: the encoders can lower a
    margin loss by growing, so a temperature or weight decay should hold them.
    """

    @override
    def embed_images(self, images: Features) -> Tensor:
        return at_least_float32(self.pooled(images))

    @override
    def embed_texts(self, texts: Features) -> Tensor:
        return at_least_float32(self.pooled(texts))
