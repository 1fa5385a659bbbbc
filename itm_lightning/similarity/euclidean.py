"""Euclidean: minus the distance of the pooled vectors."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from typing_extensions import override

from itm_lightning.registry import register
from itm_lightning.similarity.base import Embedding, PooledSimilarity, inner_products
from itm_lightning.similarity.functional import root
from itm_lightning.types import Features, Rows, at_least_float32, double


@dataclass(frozen=True)
class Points(Rows):
    """One side, prepared for distances.

    Attributes:
        vectors: ``(B, D)``.
        squares: ``(B,)`` float64, their squared lengths.
    """

    vectors: Tensor
    squares: Tensor


@register("similarity")
class Euclidean(Embedding, PooledSimilarity):
    """``-‖v - t‖`` of an image's pooled vector ``v`` and a text's ``t``, not normalised.

    FaceNet (Schroff et al., CVPR 2015) trains it with a margin loss. All pairs take one matrix
    product, ``‖v - t‖² = ‖v‖² + ‖t‖² - 2 v·t``. Between close vectors the terms cancel, and in
    float32 only rounding errors would remain: the difference is computed in float64.
    """

    def prepare(self, features: Features) -> Points:
        """The vectors and their squared lengths."""
        vectors = at_least_float32(self.pooled(features))
        return Points(vectors, double(vectors).square().sum(dim=-1))

    def score(self, images: Points, texts: Points) -> Tensor:
        """Scores ``(n_images, n_texts)``, 0 at most."""
        products = inner_products(double(images.vectors), double(texts.vectors))
        squares = images.squares[:, None] + texts.squares - 2 * products
        return -root(squares).to(images.vectors.dtype)

    @override
    def embed_images(self, images: Features) -> Tensor:
        """``[2v, -‖v‖², 1] (B, D + 2)``."""
        points = self.prepare(images)
        squares = points.squares.to(points.vectors.dtype)[:, None]
        return torch.cat([2 * points.vectors, -squares, torch.ones_like(squares)], dim=1)

    @override
    def embed_texts(self, texts: Features) -> Tensor:
        """``[t, 1, -‖t‖²] (B, D + 2)``."""
        points = self.prepare(texts)
        squares = points.squares.to(points.vectors.dtype)[:, None]
        return torch.cat([points.vectors, torch.ones_like(squares), -squares], dim=1)

    @override
    def score_of_inner_product(self, products: Tensor) -> Tensor:
        """``-√-p``: the product is minus the squared distance."""
        return -root(-products)
