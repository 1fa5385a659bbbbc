"""OrderEmbedding: a caption is more general than its photo."""

from __future__ import annotations

import torch
from torch import Tensor

from itm_lightning.registry import register
from itm_lightning.similarity.base import PooledSimilarity, same_width
from itm_lightning.similarity.unit_tokens import in_slices
from itm_lightning.types import Features, Vectors, unit


@register("similarity")
class OrderEmbedding(PooledSimilarity):
    """``-‖max(0, t - v)‖`` of a photo's vector ``v`` and a caption's ``t``.

    Vendrov, Kiros, Fidler, Urtasun: "Order-Embeddings of Images and Language", ICLR 2016
    (equation 2): whoever stands above another in the hierarchy of meaning should have no
    larger coordinate anywhere, and what exceeds is a violation. Coordinates are absolute values of
    vectors of length 1. The violation's root, and not its square, is the score, as in VSE++'s
    implementation. The published objective is ``Triplet(margin=0.05, hardest=False)``; VSE++ takes
    the hardest.
    """

    def prepare(self, features: Features) -> Vectors:
        """Vectors ``(B, D)`` of length 1 without a negative coordinate."""
        return Vectors(unit(self.pooled(features)).abs())

    def score(self, images: Vectors, texts: Vectors) -> Tensor:
        """Scores ``(n_images, n_texts)``, in [-1, 0]."""
        same_width(images.vectors, texts.vectors)
        return in_slices(_scores, images, texts, images.vectors.shape[-1])


def _scores(images: Vectors, texts: Vectors) -> Tensor:
    return -order_violations(images.vectors[:, None], texts.vectors)


def order_violations(specific: Tensor, general: Tensor) -> Tensor:
    """``‖max(0, general - specific)‖`` along the last dimension, which it drops; broadcasts."""
    # in place: the difference is ours alone. The norm's gradient is 0, not NaN, at no violation.
    return torch.linalg.vector_norm((general - specific).relu_(), dim=-1)
