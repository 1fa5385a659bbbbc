"""OrderEmbedding: a text is more general than its image."""

from __future__ import annotations

import torch
from torch import Tensor

from itm_lightning.registry import register
from itm_lightning.similarity.base import PooledSimilarity, same_width
from itm_lightning.similarity.unit_tokens import in_slices
from itm_lightning.types import Features, Vectors, unit


@register("similarity")
class OrderEmbedding(PooledSimilarity):
    """``-‖max(0, t - v)‖`` of an image's vector ``v`` and a text's ``t``.

    Vendrov, Kiros, Fidler, Urtasun: "Order-Embeddings of Images and Language", ICLR 2016 (equation
    2): the more general of the two should have no larger coordinate anywhere, and whatever is
    larger is a violation. Coordinates are absolute values of vectors of length 1. The score is the
    norm of the violations, not its square, as in VSE++'s implementation. The published objective is
    ``Triplet(margin=0.05, hardest=False)``; VSE++ takes the hardest.
    """

    def prepare(self, features: Features) -> Vectors:
        """Vectors ``(B, D)`` of length 1 without negative coordinates."""
        return Vectors(unit(self.pooled(features)).abs())

    def score(self, images: Vectors, texts: Vectors) -> Tensor:
        """Scores ``(n_images, n_texts)``, in [-1, 0]."""
        same_width(images.vectors, texts.vectors)
        return in_slices(_scores, images, texts, images.vectors.shape[-1])


def _scores(images: Vectors, texts: Vectors) -> Tensor:
    return -order_violations(images.vectors[:, None], texts.vectors)


def order_violations(specific: Tensor, general: Tensor) -> Tensor:
    """``‖max(0, general - specific)‖`` along the last dimension, which it drops; broadcasts."""
    # in place: nothing else needs the difference. Without violation the gradient is 0, not NaN.
    return torch.linalg.vector_norm((general - specific).relu_(), dim=-1)
