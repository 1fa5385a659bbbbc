"""Hamming: in how many bits two codes agree."""

from __future__ import annotations

import torch
from torch import Tensor

from itm_lightning.registry import register
from itm_lightning.similarity.base import PooledSimilarity
from itm_lightning.similarity.functional import Vectors
from itm_lightning.types import Features, at_least_float32, full_precision, inner_products


@register("similarity")
class Hamming(PooledSimilarity):
    """Minus the Hamming distance of binary codes: the signs of the pooled vectors' ``K`` numbers.

    Of codes ``b`` in ``{-1, 1}`` it is ``-(K - b_v·b_t) / 2``, one matrix product (Jiang, Li:
    "Deep Cross-Modal Hashing", CVPR 2017). In evaluation scores are whole numbers, 0 to
    -K, and exact; many tie, and ties count against the model. Signs have no gradient: in training
    ``tanh`` takes their place (Cao et al., "HashNet", ICCV 2017, without its
    continuation).
    """

    def prepare(self, features: Features) -> Vectors:
        """Codes ``(B, K)``: -1 and 1 (of 0, too) in evaluation, between them in training."""
        vectors = at_least_float32(self.pooled(features))
        if self.training:
            return Vectors(vectors.tanh())
        return Vectors(torch.where(vectors < 0, -1.0, 1.0).to(vectors.dtype))

    def score(self, images: Vectors, texts: Vectors) -> Tensor:
        """Scores ``(n_images, n_texts)``, in [-K, 0]."""
        with full_precision(images.vectors):
            agreement = inner_products(images.vectors, texts.vectors)
        return (agreement - images.vectors.shape[-1]) / 2
