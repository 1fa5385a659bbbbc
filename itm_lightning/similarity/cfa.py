"""CFA: cross-modal factor analysis, solved in closed form."""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import override

from itm_lightning.errors import Size
from itm_lightning.registry import register
from itm_lightning.similarity.moments import Directions, LinearDirections, Moments

# Singular values of so small a share of the largest are rounding.
_SMALLEST_SHARE = 1e-10


@register("similarity")
class CFA(LinearDirections):
    """Cosine of the factors of cross-modal factor analysis.

    Li, Dimitrova, Li, Sethi (ACM MM 2003, "Multimedia Content Processing through Cross-Modal
    Association"): orthonormal ``A`` and ``B`` that minimise ``‖XA − YB‖²`` for centred ``X`` and
    ``Y`` are the singular vectors of ``XᵀY``. No covariance is inverted, so that none needs rank;
    but the result depends on the scale of every number.

    Without ``standardise`` it is PLS-SVD, the partial least squares of one decomposition; see
    :class:`~itm_lightning.similarity.PLS` for the one with deflation.

    Args:
        components: how many pairs of factors there are at most.
        standardise: divide every number by its deviation over the training pairs first.

    Raises:
        InputError: there is no component.
    """

    def __init__(self, components: Size = 128, standardise: bool = True) -> None:
        super().__init__(components)
        self.standardise = standardise

    @override
    def directions(self, moments: Moments, sums: dict[str, Tensor]) -> Directions:
        if not self.standardise:
            return singular_directions(moments.cross)
        scaled, v, t = moments.standardised()
        return singular_directions(scaled.cross).unscaled(v, t)


def singular_directions(cross_covariance: Tensor) -> Directions:
    """Singular vectors and values of ``(p, q)``, the largest first, without those that are 0."""
    u, values, vh = torch.linalg.svd(cross_covariance, full_matrices=False)
    real = (values > _SMALLEST_SHARE * values.max()) & (values > 0)
    return Directions(u[:, real], vh.T[:, real], values[real])
