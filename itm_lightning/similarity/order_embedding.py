"""OrderEmbedding: a text is more general than its image."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from itm_lightning.registry import register
from itm_lightning.similarity.base import PooledSimilarity, same_width
from itm_lightning.similarity.unit_tokens import slices
from itm_lightning.types import Features, Vectors, unit

_TINY = 1e-30


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
        return -_violations(images.vectors, texts.vectors)


def order_violations(specific: Tensor, general: Tensor) -> Tensor:
    """``‖max(0, general - specific)‖`` along the last dimension, which it drops; broadcasts."""
    # in place: nothing else needs the difference. Without violation the gradient is 0, not NaN.
    return torch.linalg.vector_norm((general - specific).relu_(), dim=-1)


class _Violations(torch.autograd.Function):
    """:func:`order_violations` of all images and texts, a slice of pairs at a time.

    The backward pass needs no more of a pair than its norm: autograd would keep the violations, or
    pass over a pair's ``D`` numbers three times as often.
    """

    @staticmethod
    def forward(ctx: Any, images: Tensor, texts: Tensor) -> Tensor:
        norms = images.new_empty(len(images), len(texts))
        for rows, columns in slices(images, texts, images.shape[-1]):
            norms[rows, columns] = order_violations(images[rows, None], texts[columns])
        ctx.save_for_backward(images, texts, norms)
        return norms

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        images, texts, norms = ctx.saved_tensors
        # d‖x‖ = x / ‖x‖ · dx; where the norm is 0, so are the violations
        shares = (gradient / norms.clamp(min=_TINY)).unsqueeze(-1)
        d_images, d_texts = torch.zeros_like(images), torch.zeros_like(texts)
        for rows, columns in slices(images, texts, images.shape[-1]):
            violations = (texts[columns] - images[rows, None]).relu_()
            d_pairs = violations.mul_(shares[rows, columns])
            d_images[rows] -= d_pairs.sum(dim=1)
            d_texts[columns] += d_pairs.sum(dim=0)
        return d_images, d_texts


_violations = torch.compiler.disable(_Violations.apply)  # which would unroll the loop over slices
