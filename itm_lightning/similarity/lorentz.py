"""Lorentz: minus the distance of image and text in hyperbolic space."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from typing_extensions import override

from itm_lightning.errors import Positive, Size
from itm_lightning.registry import register
from itm_lightning.similarity.base import Embedding, PooledSimilarity, inner_products
from itm_lightning.similarity.functional import of_width, root
from itm_lightning.similarity.spaces import Hyperboloid, exponential_map
from itm_lightning.types import Features, at_least_float32, double

_CURVATURE_FACTOR = 10.0  # MERU's: the curvature stays within this factor of where it started


@register("similarity")
class Lorentz(Embedding, PooledSimilarity):
    """``-d(v, t)``, the geodesic distance on a hyperboloid of learnt curvature ``-c``.

    MERU (Desai et al., "Hyperbolic Image-Text Representations", ICML 2023, sections 2 and 3). Each
    side's vectors, times that side's learnt scale, are tangent vectors at the vertex; the
    exponential map wraps them onto the hyperboloid, and ``d(v, t) = acosh(c (v₀ t₀ - v·t)) / √c``,
    with ``₀`` for the time component. All pairs take one matrix product. Published with
    :class:`~itm_lightning.objectives.InfoNCE`, and 0.2 times
    :class:`~itm_lightning.objectives.Entailment`.

    Args:
        dim: width of the pooled vectors; scales start at ``1/√dim``, and do not exceed 1.
        curvature: ``c`` at the start.

    Raises:
        InputError: the curvature is not positive.
    """

    def __init__(self, dim: Size, curvature: Positive = 1.0) -> None:
        super().__init__()
        self.dim: int = dim
        self._first_log_curvature = math.log(curvature)
        self.log_curvature = nn.Parameter(torch.tensor(self._first_log_curvature))
        self.image_log_scale = nn.Parameter(torch.tensor(-math.log(dim) / 2))
        self.text_log_scale = nn.Parameter(torch.tensor(-math.log(dim) / 2))

    def prepare_images(self, images: Features) -> Hyperboloid:
        """Points on the hyperboloid."""
        return self._on_hyperboloid(images, self.image_log_scale)

    def prepare_texts(self, texts: Features) -> Hyperboloid:
        """Points on the hyperboloid."""
        return self._on_hyperboloid(texts, self.text_log_scale)

    @override
    def to_head_space(self, images: Features, texts: Features) -> tuple[Features, Features]:
        return self.prepare_images(images), self.prepare_texts(texts)

    def score(self, images: Hyperboloid, texts: Hyperboloid) -> Tensor:
        """Scores ``(n_images, n_texts)``, 0 at most."""
        v, t = self.pooled(images), self.pooled(texts)
        products = inner_products(double(v), double(t)) - images.time[:, None] * texts.time
        return self.score_of_inner_product(products).to(v.dtype)

    @override
    def embed_images(self, images: Features) -> Tensor:
        """Space and minus time, ``(B, D + 1)`` float64."""
        points = self.prepare_images(images)
        return torch.cat([double(self.pooled(points)), -points.time[:, None]], dim=1)

    @override
    def embed_texts(self, texts: Features) -> Tensor:
        """Space and time, ``(B, D + 1)`` float64."""
        points = self.prepare_texts(texts)
        return torch.cat([double(self.pooled(points)), points.time[:, None]], dim=1)

    @override
    def score_of_inner_product(self, products: Tensor) -> Tensor:
        """``-acosh(-p) / √c``: the product is Lorentz's, -1 where the points are the same."""
        # acosh(1 + x), without rounding away a small x
        distances = 2 * root((-products - 1) / 2).asinh()
        return -(distances / self._root_curvature())

    def _on_hyperboloid(self, features: Features, log_scale: nn.Parameter) -> Hyperboloid:
        vectors = at_least_float32(of_width(self.dim, self.pooled(features), self))
        # the parameters themselves are clamped: a clamp in the graph has no gradient beyond its
        # bound, and a parameter that got there would stay there
        with torch.no_grad():
            log_scale.clamp_(max=0)
        return exponential_map(
            vectors * (at_least_float32(log_scale).exp() * self._root_curvature())
        )

    def _root_curvature(self) -> Tensor:
        first, factor = self._first_log_curvature, math.log(_CURVATURE_FACTOR)
        with torch.no_grad():
            self.log_curvature.clamp_(first - factor, first + factor)
        return (at_least_float32(self.log_curvature) / 2).exp()
