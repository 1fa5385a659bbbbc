"""Entailment: an image should lie in the cone of points that its text entails."""

from __future__ import annotations

from torch import Tensor
from typing_extensions import override

from itm_lightning.errors import InputError, NotNegative
from itm_lightning.objectives.base import FeatureObjective
from itm_lightning.objectives.comparison import Comparison
from itm_lightning.registry import register
from itm_lightning.similarity.spaces import Hyperboloid, exterior_angle, half_aperture


@register("objective")
class Entailment(FeatureObjective):
    """``max(0, angle(t, v) - aperture(t))``, the mean over the pairs, in radians.

    MERU (Desai et al., ICML 2023, section 3, after Le et al., ACL 2019): a text is more general
    than its image, and entails all that lies within a cone that opens outwards from it, the wider
    the nearer the text lies to the vertex. There weighted 0.2 beside
    :class:`~itm_lightning.objectives.InfoNCE`.

    Args:
        min_radius: MERU's K; within ``2K`` of the vertex a text entails a whole half space.
    """

    def __init__(self, min_radius: NotNegative = 0.1) -> None:
        super().__init__()
        self.min_radius = min_radius

    @override
    def loss(self, comparison: Comparison) -> Tensor:
        images, texts = comparison.head_images, comparison.head_texts
        if not isinstance(images, Hyperboloid) or not isinstance(texts, Hyperboloid):
            raise InputError("Entailment reads hyperbolic points: use it with similarity Lorentz")
        beyond = exterior_angle(texts, images) - half_aperture(texts, self.min_radius)
        assert images.pooled is not None
        share = beyond.clamp(min=0).sum() / comparison.pairs
        return share.to(images.pooled.dtype)
