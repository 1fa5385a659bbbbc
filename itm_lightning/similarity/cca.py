"""CCA: canonical correlation analysis, solved in closed form."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor
from typing_extensions import override

from itm_lightning.errors import NotNegative, Size
from itm_lightning.registry import register
from itm_lightning.similarity.moments import Directions, LinearDirections, Moments

# Directions whose variance is so small a share of the largest are rounding, and left out.
_SMALLEST_VARIANCE = 1e-10
# Correlations of so little are rounding.
_SMALLEST_CORRELATION = 1e-7


@register("similarity")
class CCA(LinearDirections):
    """Cosine of canonical components, each weighted by a power of its correlation.

    Canonical correlation analysis (Hotelling: "Relations Between Two Sets of Variates", Biometrika
    28, 1936) finds pairs of directions, one a side, along which images and their texts correlate
    most; Rasiwasia et al. (ACM MM 2010) retrieve by it. The ridge is that of Hardoon, Szedmak,
    Shawe-Taylor (Neural Computation 16, 2004, section 5), here relative to the mean variance; the
    weights are those of Gong, Ke, Isard, Lazebnik (IJCV 106, 2014, section 3.4: there the power is
    4).

    ``fit`` shows it all training pairs once; nothing is trained by gradient. It works on any
    encoders' pooled vectors, of whatever widths, and by default without projections. Directions of
    no variance, as where the numbers of a vector sum to 1, are left out, which is said.

    Args:
        components: how many pairs of directions there are at most.
        ridge: what is added to every variance, as a share of the side's mean variance.
        power: of the correlation that weighs each component; 0 for plain cosine.

    Raises:
        InputError: a number is out of its range.
    """

    def __init__(
        self, components: Size = 128, ridge: NotNegative = 0.0, power: NotNegative = 1.0
    ) -> None:
        super().__init__(components)
        self.ridge, self.power = ridge, power

    @property
    def correlations(self) -> Tensor:
        """``(components,)``, the highest first; 0 for a component that was not found."""
        return self.strengths

    @override
    def directions(self, moments: Moments, sums: dict[str, Tensor]) -> Directions:
        return canonical_directions(moments.image, moments.text, moments.cross, self.ridge)

    @override
    def component_weights(self) -> Tensor | float:
        return self.strengths.pow(self.power) if self.power else 1.0


def canonical_directions(
    image_covariance: Tensor, text_covariance: Tensor, cross_covariance: Tensor, ridge: float = 0.0
) -> Directions:
    """Pairs of directions whose projections correlate most, the most correlated first.

    ``Σ_v^(-1/2) Σ_vt Σ_t^(-1/2) = U D Vᵀ``; directions are ``Σ_v^(-1/2) U`` and ``Σ_t^(-1/2) V``,
    so that each projection has variance 1 (with the ridge), and correlations are ``D``. Says which
    covariance lacks rank.

    Args:
        image_covariance: ``Σ_v (p, p)`` float64; it may lack full rank.
        text_covariance: ``Σ_t (q, q)`` float64, likewise.
        cross_covariance: ``Σ_vt (p, q)`` float64.
        ridge: added to the diagonals of the first two, as a share of their mean.

    Returns:
        Directions ``(p, k)`` and ``(q, k)``, and correlations ``(k,)``, all above 0.
    """
    image_root = _inverse_root(image_covariance, ridge, "images")
    text_root = _inverse_root(text_covariance, ridge, "texts")
    u, correlations, vh = torch.linalg.svd(
        image_root.T @ cross_covariance @ text_root, full_matrices=False
    )
    real = correlations > _SMALLEST_CORRELATION
    return Directions(image_root @ u[:, real], text_root @ vh.T[:, real], correlations[real])


def _inverse_root(covariance: Tensor, ridge: float, of: str) -> Tensor:
    """``W (d, r)`` with ``Wᵀ Σ W = I``, of the ``r`` directions that have variance."""
    variances, directions = torch.linalg.eigh(covariance)
    variances = variances.clamp(min=0) + ridge * covariance.diagonal().mean()
    real = variances > _SMALLEST_VARIANCE * variances.max()
    if not real.all():
        warnings.warn(
            f"the covariance of the {of} has rank {int(real.sum())} of {len(real)}: directions "
            "without variance are left out (a ridge would keep them)",
            stacklevel=2,
        )
    return directions[:, real] * variances[real].rsqrt()
