"""DeepCCA: what the networks of both sides make of a pair should correlate."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor
from typing_extensions import override

from itm_lightning.errors import Positive, Size
from itm_lightning.objectives.base import FeatureObjective
from itm_lightning.objectives.comparison import Comparison
from itm_lightning.objectives.functional import pooled_vectors
from itm_lightning.registry import register
from itm_lightning.types import double


@register("objective")
class DeepCCA(FeatureObjective):
    """Minus the sum of the canonical correlations of a batch's projected images and texts.

    Andrew, Arora, Bilmes, Livescu: "Deep Canonical Correlation Analysis", ICML 2013, section 3;
    on batches rather than the whole data, after Wang, Arora, Livescu, Bilmes (ICASSP 2015). Give
    it large batches, at least ten times as many pairs as dimensions: a batch of fewer pairs than
    dimensions correlates perfectly, whatever the networks do.

    The loss is the same for any linear map of the projected vectors, so that their cosine means
    little. With ``model.similarity: CCA``, ``fit`` trains by gradient and, at the end of every
    epoch, solves the linear canonical correlation analysis of the vectors that the networks made
    in it, by which the paper, too, ends.

    Args:
        ridge: added to all variances; the paper's ``r₁`` and ``r₂``.
        components: only so many of the largest correlations count; all by default.

    Raises:
        InputError: ``ridge`` is not above 0, or ``components`` is below 1.
    """

    trains_before_solving = True

    def __init__(self, ridge: Positive = 1e-3, components: Size | None = None) -> None:
        super().__init__()
        self.ridge, self.components = ridge, components

    @override
    def loss(self, comparison: Comparison) -> Tensor:
        own = [pooled_vectors(side, self) for side in (comparison.images, comparison.texts)]
        images, texts = map(comparison.gather, own)
        width = max(images.shape[1], texts.shape[1])
        if self.training and len(images) <= width:
            warnings.warn(
                f"DeepCCA: {len(images)} pairs in a batch correlate perfectly in {width} "
                "dimensions, and nothing is learnt: raise data.batch_size to some ten times as "
                "many, or lower the dim of the projections",
                stacklevel=2,
            )
        correlations = canonical_correlations(images, texts, self.ridge)
        # every process has the whole loss; its share is that of its pairs
        share = len(own[0]) / comparison.pairs
        return -share * correlations[: self.components].sum().to(own[0].dtype)


def canonical_correlations(images: Tensor, texts: Tensor, ridge: float) -> Tensor:
    """Canonical correlations ``(min(p, q),)`` float64, the largest first; with gradient.

    They are the singular values of ``Σ_v^(-1/2) Σ_vt Σ_t^(-1/2)``. Any roots will do: Cholesky's,
    unlike those by eigenvalues, have a stable gradient where eigenvalues are equal.

    Args:
        images: ``(B, p)``.
        texts: ``(B, q)``, row by row their texts.
        ridge: added to all variances; above 0.
    """
    v, t = (double(side) - double(side).mean(dim=0) for side in (images, texts))
    n = max(len(v) - 1, 1)

    def whitened(side: Tensor) -> Tensor:
        identity = torch.eye(side.shape[1], dtype=side.dtype, device=side.device)
        root = torch.linalg.cholesky(side.mT @ side / n + ridge * identity)
        return torch.linalg.solve_triangular(root, side.mT, upper=False)

    return torch.linalg.svdvals(whitened(v) @ whitened(t).mT / n)
