"""Hamming: in how many bits two codes agree."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import override

from itm_lightning.registry import register
from itm_lightning.similarity.base import InnerProductSimilarity
from itm_lightning.types import Features, at_least_float32


@register("similarity")
class Hamming(InnerProductSimilarity):
    """Minus the Hamming distance of binary codes: the signs of the pooled vectors' ``K`` numbers.

    For codes ``b`` in ``{-1, 1}`` it is ``-(K - b_v·b_t) / 2``, one matrix product (Jiang, Li:
    "Deep Cross-Modal Hashing", CVPR 2017). In evaluation, scores are exact whole numbers from -K to
    0; many are equal, and ties count against the model. Signs have no gradient: in training
    ``tanh`` replaces them (Cao et al., "HashNet", ICCV 2017, without its continuation).
    """

    @override
    def embed_images(self, images: Features) -> Tensor:
        """The codes and ``-K``: ``(B, K + 1)``."""
        codes = self._codes(images)
        return F.pad(codes, (0, 1), value=-codes.shape[1])

    @override
    def embed_texts(self, texts: Features) -> Tensor:
        """The codes and 1: ``(B, K + 1)``."""
        return F.pad(self._codes(texts), (0, 1), value=1)

    @override
    def score_of_inner_product(self, products: Tensor) -> Tensor:
        """Half of them, in [-K, 0]: of codes that differ in ``d`` bits the product is ``-2d``."""
        return products / 2

    def _codes(self, features: Features) -> Tensor:
        """Codes ``(B, K)``: -1 and 1 (of 0, too) in evaluation, between them in training."""
        vectors = at_least_float32(self.pooled(features))
        if self.training:
            return vectors.tanh()
        return torch.where(vectors < 0, -1.0, 1.0).to(vectors.dtype)
