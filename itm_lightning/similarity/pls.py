"""PLS: partial least squares with symmetric deflation, solved in closed form."""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import override

from itm_lightning.errors import Size
from itm_lightning.registry import register
from itm_lightning.similarity.moments import Directions, LinearDirections, Moments

# What is left of a covariance after deflation is rounding below so small a share of the first.
_SMALLEST_SHARE = 1e-10


@register("similarity")
class PLS(LinearDirections):
    """Cosine of the components of canonical partial least squares (PLS mode A).

    Wold, "Path Models with Latent Variables" (1975; from memory), as scikit-learn's
    ``PLSCanonical`` has it: each pair of directions covaries most in what the earlier ones left of
    both sides. Often called CM, or CCA, where the Wikipedia benchmark is re-implemented. The PLS of
    one decomposition (PLS-SVD) is :class:`~itm_lightning.similarity.CFA` without ``standardise``;
    PLS regression, which deflates one side alone, is not offered.

    Deflating the rows by a projection deflates the covariances, so that one pass over the pairs is
    enough. Where nothing is left to covary, it stops, and says so.

    Args:
        components: how many pairs of directions there are at most.
        standardise: divide every number by its deviation over the training pairs first.

    Raises:
        InputError: there is no component.
    """

    def __init__(self, components: Size = 10, standardise: bool = True) -> None:
        super().__init__(components)
        self.standardise = standardise

    @override
    def directions(self, moments: Moments, sums: dict[str, Tensor]) -> Directions:
        if not self.standardise:
            return deflated_directions(moments, self.components)
        scaled, v, t = moments.standardised()
        return deflated_directions(scaled, self.components).unscaled(v, t)


def deflated_directions(moments: Moments, components: int) -> Directions:
    """Directions (of the vectors as they are, not of what deflation leaves) and covariances.

    With the first singular vectors ``u``, ``v`` of the cross-covariance and the loading ``p =
    Σ u / (uᵀ Σ u)`` of each side, rows ``x`` become ``x − (xᵀu) p``: covariances are multiplied by
    ``I − u pᵀ`` from the right and its transpose from the left. Directions are ``U (Pᵀ U)⁻¹``.
    """
    image, text, cross = moments.image, moments.text, moments.cross
    weights: tuple[list[Tensor], list[Tensor]] = ([], [])
    loadings: tuple[list[Tensor], list[Tensor]] = ([], [])
    strengths: list[Tensor] = []
    for _ in range(min(components, *cross.shape)):
        left, values, right = torch.linalg.svd(cross, full_matrices=False)
        u, v, strength = left[:, 0], right[0], values[0]
        image_variance, text_variance = u @ image @ u, v @ text @ v
        first = strengths[0] if strengths else strength
        if strength <= _SMALLEST_SHARE * first or not image_variance * text_variance > 0:
            break
        p, q = image @ u / image_variance, text @ v / text_variance
        image_left = torch.eye(len(u)).to(image) - torch.outer(u, p)
        text_left = torch.eye(len(v)).to(text) - torch.outer(v, q)
        image = image_left.T @ image @ image_left
        text = text_left.T @ text @ text_left
        cross = image_left.T @ cross @ text_left
        for kept, pair in ((weights, (u, v)), (loadings, (p, q))):
            for side, vector in zip(kept, pair, strict=True):
                side.append(vector)
        strengths.append(strength)
    if not strengths:
        return Directions(image[:, :0], text[:, :0], cross.new_zeros(0))
    rotated = []
    for side_weights, side_loadings in zip(weights, loadings, strict=True):
        w, p = torch.stack(side_weights, dim=1), torch.stack(side_loadings, dim=1)
        rotated.append(w @ torch.linalg.inv(p.T @ w))
    return Directions(rotated[0], rotated[1], torch.stack(strengths))
