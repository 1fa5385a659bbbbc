"""InformationBottleneck: keeps distributions from shrinking to points."""

from __future__ import annotations

from torch import Tensor
from typing_extensions import override

from itm_lightning.errors import InputError
from itm_lightning.objectives.base import FeatureObjective
from itm_lightning.objectives.comparison import Comparison
from itm_lightning.registry import register
from itm_lightning.similarity.spaces import Gaussians
from itm_lightning.types import Features, at_least_float32


@register("objective")
class InformationBottleneck(FeatureObjective):
    """``KL(N(μ, σ²) ‖ N(0, 1))``, the mean over dimensions and rows, of images plus texts.

    The variational information bottleneck of PCME++ (Chun, ICLR 2024), there weighted
    1e-4 beside :class:`~itm_lightning.objectives.MatchProbability`.
    """

    @override
    def loss(self, comparison: Comparison) -> Tensor:
        divergence = _divergence(comparison.head_images) + _divergence(comparison.head_texts)
        return divergence / comparison.pairs


def _divergence(side: Features) -> Tensor:
    """The mean over dimensions, summed over the rows."""
    if not isinstance(side, Gaussians) or side.pooled is None:
        raise InputError("InformationBottleneck reads variances: use it with similarity Gaussian")
    mean, log_variance = at_least_float32(side.pooled), at_least_float32(side.log_variance)
    return (mean.square() + log_variance.exp() - 1 - log_variance).mean(dim=-1).sum() / 2
