"""Gaussian: the expected distance of two distributions."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from typing_extensions import override

from itm_lightning.errors import Size
from itm_lightning.registry import register
from itm_lightning.similarity.base import Embedding, PooledSimilarity, inner_products
from itm_lightning.similarity.functional import affine, of_width
from itm_lightning.similarity.spaces import Gaussians
from itm_lightning.types import Features, Rows, full_precision, unit


@dataclass(frozen=True)
class SquaredLengths(Rows):
    """One side, prepared for expected distances.

    Attributes:
        means: ``(B, D)``.
        squares: ``(B,)``, the expected squared length ``‖μ‖² + Σσ²``.
    """

    means: Tensor
    squares: Tensor


@register("similarity")
class Gaussian(Embedding, PooledSimilarity):
    """``-(‖μ_v - μ_t‖² + Σσ_v² + Σσ_t²)``: the mean squared distance of samples of two Gaussians.

    The closed-form sampled distance of PCME++ (Chun: "Improved Probabilistic Image-Text
    Representations", ICLR 2024, equation 1). The means are the pooled vectors at length 1. Where
    PCME++ pools the tokens a second time for ``log σ²``, here a linear layer for each side computes
    it from the mean. All pairs take one matrix product. Published with
    :class:`~itm_lightning.objectives.MatchProbability`, and 1e-4 times
    :class:`~itm_lightning.objectives.InformationBottleneck`.

    Args:
        dim: width of the pooled vectors.
    """

    def __init__(self, dim: Size) -> None:
        super().__init__()
        self.dim: int = dim
        self.image_log_variance = _log_variance(dim)
        self.text_log_variance = _log_variance(dim)

    def prepare_images(self, images: Features) -> SquaredLengths:
        """Means, and expected squared lengths."""
        return _squared_lengths(self._distributions(images, self.image_log_variance))

    def prepare_texts(self, texts: Features) -> SquaredLengths:
        """Means, and expected squared lengths."""
        return _squared_lengths(self._distributions(texts, self.text_log_variance))

    @override
    def to_head_space(self, images: Features, texts: Features) -> tuple[Features, Features]:
        return (
            self._distributions(images, self.image_log_variance),
            self._distributions(texts, self.text_log_variance),
        )

    def score(self, images: SquaredLengths, texts: SquaredLengths) -> Tensor:
        """Scores ``(n_images, n_texts)``, 0 at most."""
        with full_precision(images.means):
            products = inner_products(images.means, texts.means)
        return 2 * products - images.squares[:, None] - texts.squares

    @override
    def embed_images(self, images: Features) -> Tensor:
        """``[2μ, -(‖μ‖² + Σσ²), 1] (B, D + 2)``."""
        side = self.prepare_images(images)
        squares = side.squares[:, None]
        return torch.cat([2 * side.means, -squares, torch.ones_like(squares)], dim=1)

    @override
    def embed_texts(self, texts: Features) -> Tensor:
        """``[μ, 1, -(‖μ‖² + Σσ²)] (B, D + 2)``."""
        side = self.prepare_texts(texts)
        squares = side.squares[:, None]
        return torch.cat([side.means, torch.ones_like(squares), -squares], dim=1)

    def _distributions(self, features: Features, log_variance: nn.Linear) -> Gaussians:
        means = unit(of_width(self.dim, self.pooled(features), self))
        return Gaussians(None, None, means, affine(means, log_variance.weight, log_variance.bias))


def _squared_lengths(sides: Gaussians) -> SquaredLengths:
    assert sides.pooled is not None
    squares = sides.pooled.square() + sides.log_variance.exp()
    return SquaredLengths(sides.pooled, squares.sum(dim=-1))


def _log_variance(dim: int) -> nn.Linear:
    """A layer that starts with ``Σσ²`` near 1, which is the squared length of the mean."""
    layer = nn.Linear(dim, dim)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.constant_(layer.bias, -math.log(dim))
    return layer
