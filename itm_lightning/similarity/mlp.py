"""Mlp: a small network that looks at both vectors."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from itm_lightning.registry import register
from itm_lightning.similarity.base import PooledSimilarity
from itm_lightning.similarity.functional import affine, of_width
from itm_lightning.similarity.unit_tokens import in_slices
from itm_lightning.types import Features, Rows, at_least_float32, full_precision


@dataclass(frozen=True)
class HalfSeen(Rows):
    """A side and what it adds to the hidden layer.

    Attributes:
        vectors: ``(B, D)``.
        hidden: ``(B, H)``.
    """

    vectors: Tensor
    hidden: Tensor


@register("similarity")
class Mlp(PooledSimilarity):
    """``w · relu(W [v, t, v∘t, |v - t|] + b)`` of a photo's vector ``v`` and a caption's ``t``.

    The two vectors, their product and their distance in every dimension, as InferSent compares
    sentences (Conneau et al., EMNLP 2017); the similarity network of Wang, Li,
    Huang, Lazebnik ("Learning Two-Branch Neural Networks for Image-Text Matching Tasks", TPAMI
    2018) reads the product alone.

    ``W`` is linear in the four parts: what ``v`` and ``t`` add is computed once a side, and only
    product and distance once a pair, a few photos at a time.

    Args:
        dim: width of the pooled vectors.
        hidden: width of the hidden layer.
    """

    def __init__(self, dim: int, hidden: int = 256) -> None:
        super().__init__()
        self.dim: int = dim
        self.first = nn.Linear(4 * dim, hidden)
        self.second = nn.Linear(hidden, 1, bias=False)  # a bias would change no rank and no margin

    def prepare_images(self, images: Features) -> HalfSeen:
        """The vectors and ``W₁ v + b``."""
        return self._half(images, self.first.weight[:, : self.dim], self.first.bias)

    def prepare_texts(self, texts: Features) -> HalfSeen:
        """The vectors and ``W₂ t``."""
        return self._half(texts, self.first.weight[:, self.dim : 2 * self.dim], None)

    def score(self, images: HalfSeen, texts: HalfSeen) -> Tensor:
        """Scores ``(n_images, n_texts)``."""
        width = 2 * self.dim + self.first.out_features
        return in_slices(self._scores, images, texts, width)

    def _half(self, features: Features, weight: Tensor, bias: Tensor | None) -> HalfSeen:
        vectors = at_least_float32(of_width(self.dim, self.pooled(features), self))
        return HalfSeen(vectors, affine(vectors, weight, bias))

    def _scores(self, images: HalfSeen, texts: HalfSeen) -> Tensor:
        v, t = images.vectors[:, None], texts.vectors
        pairs = torch.cat([v * t, (v - t).abs()], dim=-1)
        # most of the work, and the one step that autocast may run in half precision
        seen = F.linear(pairs, self.first.weight[:, 2 * self.dim :].to(pairs.dtype))
        with full_precision(v):
            hidden = at_least_float32(seen) + images.hidden[:, None] + texts.hidden
            return affine(hidden.relu(), self.second.weight).squeeze(-1)
