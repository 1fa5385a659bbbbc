"""Mlp: a small network on the vectors of image and text."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from itm_lightning.errors import Size
from itm_lightning.registry import register
from itm_lightning.similarity.base import PooledSimilarity
from itm_lightning.similarity.functional import affine, of_width
from itm_lightning.similarity.unit_tokens import in_slices
from itm_lightning.types import Features, Rows, at_least_float32, full_precision


@dataclass(frozen=True)
class HiddenPart(Rows):
    """One side, and its part of the sum in the hidden layer.

    Attributes:
        vectors: ``(B, D)``.
        hidden: ``(B, H)``.
    """

    vectors: Tensor
    hidden: Tensor


@register("similarity")
class Mlp(PooledSimilarity):
    """``w · relu(W [v, t, v∘t, |v - t|] + b)`` of an image's vector ``v`` and a text's ``t``.

    The two vectors, their product and their distance in every dimension, as InferSent compares
    sentences (Conneau et al., EMNLP 2017); the similarity network of Wang, Li, Huang, Lazebnik
    ("Learning Two-Branch Neural Networks for Image-Text Matching Tasks", TPAMI 2018) reads the
    product alone.

    ``W`` is linear in the four parts: those of ``v`` and ``t`` are computed once for each image and
    text, and only product and distance for each pair, a few images at a time.

    Args:
        dim: width of the pooled vectors.
        hidden: width of the hidden layer.
    """

    def __init__(self, dim: Size, hidden: Size = 256) -> None:
        super().__init__()
        self.dim: int = dim
        self.first = nn.Linear(4 * dim, hidden)
        self.second = nn.Linear(hidden, 1, bias=False)  # a bias would change no rank and no margin

    def prepare_images(self, images: Features) -> HiddenPart:
        """The vectors and ``W₁ v + b``."""
        return self._half(images, self.first.weight[:, : self.dim], self.first.bias)

    def prepare_texts(self, texts: Features) -> HiddenPart:
        """The vectors and ``W₂ t``."""
        return self._half(texts, self.first.weight[:, self.dim : 2 * self.dim], None)

    def score(self, images: HiddenPart, texts: HiddenPart) -> Tensor:
        """Scores ``(n_images, n_texts)``."""
        width = 2 * self.dim + self.first.out_features
        return in_slices(self._scores, images, texts, width)

    def _half(self, features: Features, weight: Tensor, bias: Tensor | None) -> HiddenPart:
        vectors = at_least_float32(of_width(self.dim, self.pooled(features), self))
        return HiddenPart(vectors, affine(vectors, weight, bias))

    def _scores(self, images: HiddenPart, texts: HiddenPart) -> Tensor:
        v, t = images.vectors[:, None], texts.vectors
        pairs = torch.cat([v * t, (v - t).abs()], dim=-1)
        # most of the work, and the only step that autocast may run in half precision
        of_pairs = F.linear(pairs, self.first.weight[:, 2 * self.dim :].to(pairs.dtype))
        with full_precision(v):
            hidden = at_least_float32(of_pairs) + images.hidden[:, None] + texts.hidden
            return affine(hidden.relu(), self.second.weight).squeeze(-1)
