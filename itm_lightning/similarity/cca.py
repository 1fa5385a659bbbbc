"""CCA: canonical correlation analysis, solved in closed form."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn
from typing_extensions import override

from itm_lightning.errors import InputError
from itm_lightning.registry import register
from itm_lightning.similarity.base import ClosedForm, InnerProductSimilarity
from itm_lightning.similarity.functional import of_width
from itm_lightning.types import Features, at_least_float32, double, unit

# Directions whose variance is so small a share of the largest are rounding, and left out.
_SMALLEST_VARIANCE = 1e-10
# Correlations of so little are rounding.
_SMALLEST_CORRELATION = 1e-7


@register("similarity")
class CCA(ClosedForm, InnerProductSimilarity):
    """Cosine of canonical components, each weighted by a power of its correlation.

    Canonical correlation analysis (Hotelling: "Relations Between Two Sets of Variates", Biometrika
    28, 1936) finds pairs of directions, one a side, along which images and their texts correlate
    most; Rasiwasia et al. (ACM MM 2010) retrieve by it. The ridge is that of Hardoon, Szedmak,
    Shawe-Taylor (Neural Computation 16, 2004, section 5), here relative to the mean variance; the
    weights are those of Gong, Ke, Isard, Lazebnik (IJCV 106, 2014, section 3.4: there the power is
    4).

    ``fit`` shows it all training pairs once; nothing is trained by gradient. It works on any
    encoders' pooled vectors, of whatever widths, and by default without projections. Directions of
    no variance, as where the numbers of a vector sum to 1, are left out.

    Args:
        components: how many pairs of directions there are at most.
        ridge: what is added to every variance, as a share of the side's mean variance.
        power: of the correlation that weighs each component; 0 for plain cosine.

    Attributes:
        unsupported_precisions: half-precision weights would lose what the solution found.

    Raises:
        InputError: a number is out of its range.
    """

    unsupported_precisions = ("bf16-true", "16-true")

    image_mean: nn.Parameter
    image_weight: nn.Parameter
    text_mean: nn.Parameter
    text_weight: nn.Parameter

    def __init__(self, components: int = 128, ridge: float = 0.0, power: float = 1.0) -> None:
        super().__init__()
        if components < 1:
            raise InputError(f"CCA: components is {components}; it must be at least 1")
        if ridge < 0 or power < 0:
            raise InputError(f"CCA: ridge is {ridge} and power {power}; neither may be below 0")
        self.components, self.ridge, self.power = components, ridge, power
        self._solved = False

    @override
    def build(self, image_dim: int, text_dim: int) -> None:
        # Parameters, as DistributedDataParallel wants some; no gradient is asked of them. Double:
        # what the solution is computed in.
        for side, dim in (("image", image_dim), ("text", text_dim)):
            mean = torch.zeros(dim, dtype=torch.float64)
            weight = torch.zeros(dim, self.components, dtype=torch.float64)
            setattr(self, f"{side}_mean", nn.Parameter(mean))
            setattr(self, f"{side}_weight", nn.Parameter(weight))
        correlations = torch.zeros(self.components, dtype=torch.float64)
        self.correlations = nn.Parameter(correlations)

    @override
    @torch.no_grad()
    def observe(
        self, images: Features, texts: Features, labels: Tensor | None = None
    ) -> dict[str, Tensor]:
        v, t = double(self.pooled(images)), double(self.pooled(texts))
        return {
            "pairs": torch.tensor(float(len(v)), dtype=v.dtype, device=v.device),
            "image_sum": v.sum(dim=0),
            "text_sum": t.sum(dim=0),
            "image_image": v.T @ v,
            "text_text": t.T @ t,
            "image_text": v.T @ t,
        }

    @override
    @torch.no_grad()
    def solve(self, sums: dict[str, Tensor]) -> None:
        n = sums["pairs"]
        v, t = sums["image_sum"] / n, sums["text_sum"] / n
        image_weight, text_weight, correlations = canonical_directions(
            sums["image_image"] / n - torch.outer(v, v),
            sums["text_text"] / n - torch.outer(t, t),
            sums["image_text"] / n - torch.outer(v, t),
            self.ridge,
        )
        found = min(self.components, len(correlations))
        if found == 0:
            raise InputError(
                "CCA found nothing that correlates: all images, or all texts, have the same "
                "features; use another encoder"
            )
        if found < self.components:
            warnings.warn(
                f"CCA found {found} components that correlate, of {self.components}: the features "
                "have no more",
                stacklevel=2,
            )
        for parameter, values in (
            (self.image_mean, v),
            (self.text_mean, t),
            (self.image_weight, image_weight[:, :found]),
            (self.text_weight, text_weight[:, :found]),
            (self.correlations, correlations[:found]),
        ):
            parameter.zero_()
            parameter[..., : values.shape[-1]] = values

    @override
    def embed_images(self, images: Features) -> Tensor:
        """Weighted components of length 1, ``(B, components)``."""
        return self._embedded(images, self.image_mean, self.image_weight)

    @override
    def embed_texts(self, texts: Features) -> Tensor:
        """Weighted components of length 1, ``(B, components)``."""
        return self._embedded(texts, self.text_mean, self.text_weight)

    def _embedded(self, features: Features, mean: Tensor, weight: Tensor) -> Tensor:
        vectors = at_least_float32(self.pooled(features))
        if not self._solved:
            self._solved = bool(self.correlations.any())
            if not self._solved:
                raise InputError("CCA is not solved yet: fit it, or load a checkpoint of a fit")
        of_width(len(mean), vectors, self)
        components = (double(vectors) - mean) @ weight
        weights = self.correlations.pow(self.power) if self.power else self.correlations > 0
        return unit(components * weights).to(vectors.dtype)


def canonical_directions(
    image_covariance: Tensor, text_covariance: Tensor, cross_covariance: Tensor, ridge: float = 0.0
) -> tuple[Tensor, Tensor, Tensor]:
    """Pairs of directions whose projections correlate most, the most correlated first.

    ``Σ_v^(-1/2) Σ_vt Σ_t^(-1/2) = U D Vᵀ``; directions are ``Σ_v^(-1/2) U`` and ``Σ_t^(-1/2) V``,
    so that each projection has variance 1 (with the ridge), and correlations are ``D``.

    Args:
        image_covariance: ``Σ_v (p, p)`` float64; it may lack full rank.
        text_covariance: ``Σ_t (q, q)`` float64, likewise.
        cross_covariance: ``Σ_vt (p, q)`` float64.
        ridge: added to the diagonals of the first two, as a share of their mean.

    Returns:
        Directions ``(p, k)`` and ``(q, k)``, and correlations ``(k,)``, all above 0.
    """
    image_root = _inverse_root(image_covariance, ridge)
    text_root = _inverse_root(text_covariance, ridge)
    u, correlations, vh = torch.linalg.svd(
        image_root.T @ cross_covariance @ text_root, full_matrices=False
    )
    real = correlations > _SMALLEST_CORRELATION
    return image_root @ u[:, real], text_root @ vh.T[:, real], correlations[real]


def _inverse_root(covariance: Tensor, ridge: float) -> Tensor:
    """``W (d, r)`` with ``Wᵀ Σ W = I``, of the ``r`` directions that have variance."""
    variances, directions = torch.linalg.eigh(covariance)
    variances = variances.clamp(min=0) + ridge * covariance.diagonal().mean()
    real = variances > _SMALLEST_VARIANCE * variances.max()
    return directions[:, real] * variances[real].rsqrt()
