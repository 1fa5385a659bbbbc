"""Bilinear: a learnt inner product of the pooled vectors."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from typing_extensions import override

from itm_lightning.errors import InputError, Size
from itm_lightning.registry import register
from itm_lightning.similarity.base import InnerProductSimilarity
from itm_lightning.similarity.functional import of_width
from itm_lightning.types import (
    Features,
    at_least_float32,
    full_precision,
    unit,
)


@register("similarity")
class Bilinear(InnerProductSimilarity):
    """``vᵀ W t`` of an image's vector ``v`` and a text's ``t``, both of length 1.

    The vectors are normalised because otherwise the encoders could lower any margin or sharpen any
    temperature just by growing. ``W`` starts as the identity (low rank: as a random projection,
    the identity in expectation), so that training starts from the cosine and its scale.

    Args:
        dim: width of the pooled vectors.
        rank: ``None`` for a full ``W (dim, dim)``, else ``W = U Vᵀ`` with ``U, V (dim, rank)``.

    Raises:
        InputError: the rank lies outside 1 … dim.
    """

    def __init__(self, dim: Size, rank: int | None = None) -> None:
        super().__init__()
        if rank is not None and not 1 <= rank <= dim:
            raise InputError(f"Bilinear: rank must lie in 1 … dim={dim}, not {rank}")
        self.dim: int = dim
        start = torch.eye(dim) if rank is None else _projection(dim, rank)
        self.image_weight = nn.Parameter(start)
        # with full rank one matrix is enough, and the vectors of texts are not mapped
        self.text_weight = None if rank is None else nn.Parameter(start.clone())

    @override
    def embed_images(self, images: Features) -> Tensor:
        """``vᵀ W (B, dim)``, or ``vᵀ U (B, rank)``."""
        return self._projected(images, self.image_weight)

    @override
    def embed_texts(self, texts: Features) -> Tensor:
        """``t (B, dim)``, or ``tᵀ V (B, rank)``."""
        return self._projected(texts, self.text_weight)

    def _projected(self, features: Features, weight: Tensor | None) -> Tensor:
        vectors = unit(of_width(self.dim, self.pooled(features), self))
        if weight is None:
            return vectors
        with full_precision(vectors):
            return vectors @ at_least_float32(weight)


def _projection(dim: int, rank: int) -> Tensor:
    """``P (dim, rank)`` with ``E[P Pᵀ] = I``: random orthogonal columns, scaled up."""
    return nn.init.orthogonal_(torch.empty(dim, rank)) * math.sqrt(dim / rank)
