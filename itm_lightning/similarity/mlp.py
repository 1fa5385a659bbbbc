"""Mlp: a small network on the vectors of image and text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from itm_lightning.errors import Size
from itm_lightning.registry import register
from itm_lightning.similarity.base import PooledSimilarity
from itm_lightning.similarity.functional import affine, of_width
from itm_lightning.similarity.unit_tokens import slices
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
        of_pairs, output = (
            weight.to(images.vectors.dtype)
            for weight in (self.first.weight[:, 2 * self.dim :], self.second.weight[0])
        )
        sides = images.vectors, texts.vectors, images.hidden, texts.hidden
        return _scores(*sides, of_pairs, output)

    def _half(self, features: Features, weight: Tensor, bias: Tensor | None) -> HiddenPart:
        vectors = at_least_float32(of_width(self.dim, self.pooled(features), self))
        return HiddenPart(vectors, affine(vectors, weight, bias))


class _Scores(torch.autograd.Function):
    """``w · relu(W [v∘t, |v - t|] + i + j)`` of all pairs, a slice of them at a time.

    It keeps which hidden units are active, and so makes the product with ``W`` but once; autograd
    would make it again in the backward pass, or keep ``2 D`` numbers for each pair.
    """

    @staticmethod
    def forward(
        ctx: Any, v: Tensor, t: Tensor, i: Tensor, j: Tensor, weight: Tensor, output: Tensor
    ) -> Tensor:
        scores = v.new_empty(len(v), len(t))
        keeps = any(ctx.needs_input_grad)
        active = v.new_empty(*scores.shape, len(output) if keeps else 0, dtype=torch.bool)
        ctx.half = None  # or the precision that autocast takes
        for rows, columns in _slices(v, t, weight):
            # most of the work, and the only step that autocast may run in half precision
            of_pairs = F.linear(_pairs(v[rows], t[columns]), weight)
            ctx.half = None if of_pairs.dtype == v.dtype else of_pairs.dtype
            with full_precision(v):
                hidden = at_least_float32(of_pairs) + i[rows, None] + j[columns]
                scores[rows, columns] = hidden.relu() @ output
            if keeps:
                torch.gt(hidden, 0, out=active[rows, columns])
        ctx.save_for_backward(v, t, i, j, weight, output, active)
        return scores

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        v, t, i, j, weight, output, active = ctx.saved_tensors
        d_v, d_t, d_i, d_j, d_weight = map(torch.zeros_like, (v, t, i, j, weight))
        for rows, columns in _slices(v, t, weight):
            # the gradient at the hidden units, but for the output's weights
            d_hidden = active[rows, columns] * gradient[rows, columns].unsqueeze(-1)
            d_i[rows] += d_hidden.sum(dim=1)
            d_j[columns] += d_hidden.sum(dim=0)
            with torch.autocast(v.device.type, ctx.half, enabled=ctx.half is not None):
                d_pairs = d_hidden @ (output.unsqueeze(1) * weight)
                d_weight += d_hidden.flatten(0, 1).T @ _pairs(v[rows], t[columns]).flatten(0, 1)
            of_product, of_distance = at_least_float32(d_pairs).chunk(2, dim=-1)
            of_distance = of_distance * (v[rows, None] - t[columns]).sign_()
            d_v[rows] += (of_product * t[columns] + of_distance).sum(dim=1)
            d_t[columns] += (of_product * v[rows, None] - of_distance).sum(dim=0)
        # an active unit is linear in W, i and j: its value is the sum of each times its gradient
        d_output = (d_weight * weight).sum(dim=1) + (d_i * i).sum(dim=0) + (d_j * j).sum(dim=0)
        return d_v, d_t, d_i * output, d_j * output, d_weight * output.unsqueeze(1), d_output


_scores = torch.compiler.disable(_Scores.apply)  # which would unroll the loop over slices


def _pairs(v: Tensor, t: Tensor) -> Tensor:
    """``[v∘t, |v - t|] (n, m, 2 D)``."""
    return torch.cat([v[:, None] * t, (v[:, None] - t).abs_()], dim=-1)


def _slices(v: Tensor, t: Tensor, weight: Tensor) -> Iterator[tuple[slice, slice]]:
    return slices(v, t, width=sum(weight.shape))
