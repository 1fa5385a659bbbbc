"""DSCMR: deep supervised cross-modal retrieval."""

from __future__ import annotations

from torch import Tensor, nn
from typing_extensions import override

from itm_lightning.errors import NotNegative
from itm_lightning.objectives.base import FeatureObjective
from itm_lightning.objectives.comparison import Comparison
from itm_lightning.objectives.functional import likelihood_losses, pooled_vectors
from itm_lightning.part import UsesLabels
from itm_lightning.registry import register
from itm_lightning.similarity.functional import root
from itm_lightning.types import Widths, at_least_float32, full_precision, unit


@register("objective")
class DSCMR(UsesLabels, FeatureObjective):
    """Class labels, and who shares one, within and between images and texts.

    Zhen, Hu, Wang, Peng: "Deep Supervised Cross-Modal Retrieval", CVPR 2019: ``J1 + λ J2 + η J3``
    (equations 2 to 8), with the details of the authors' code. Of images ``u``, texts ``v`` (what
    the head compares, projected), labels ``y`` (0 or 1 for each class) and a linear classifier
    ``P`` that both sides share and that belongs to the objective:

    - ``J1 = mean ‖P uᵢ - yᵢ‖ + mean ‖P vᵢ - yᵢ‖``, norms without a square;
    - ``J2``: the negative log likelihood ``log(1 + exp Θᵢⱼ) - Sᵢⱼ Θᵢⱼ``, the mean over all pairs
      of the batch, of ``(u, v)``, ``(u, u)`` and ``(v, v)``. ``Θ`` is half the cosine, ``S`` is 1
      for items that share a class, else 0;
    - ``J3 = mean ‖uᵢ - vᵢ‖``.

    The published network is ``model.shared_projection`` (2048 to 1024, linear) after a linear map
    and a ReLU of each side. The authors train on VGG19's and a text CNN's features, 500 epochs by
    Adam (1e-4, betas .5 and .999) of batches of 100 in one order, and take the best epoch on test.

    Args:
        likelihood: ``λ``; 1e-3 in the authors' code.
        invariance: ``η``; 0.1 there.
    """

    def __init__(self, likelihood: NotNegative = 1e-3, invariance: NotNegative = 0.1) -> None:
        super().__init__()
        self.likelihood, self.invariance = likelihood, invariance

    @override
    def build(self, widths: Widths) -> None:
        self._dim = widths.images

    @override
    def build_classes(self, count: int) -> None:
        self.classifier = nn.Linear(self._dim, count)

    @override
    def loss(self, comparison: Comparison) -> Tensor:
        u, v = (pooled_vectors(side, self) for side in (comparison.images, comparison.texts))
        labels = comparison.labels.to(u.dtype)
        errors = [at_least_float32(self.classifier(side)) - labels for side in (u, v)]
        discrimination = sum(_lengths(error) for error in errors)
        everyones_u, everyones_v, everyones = map(comparison.gather, (u, v, labels))
        with full_precision(u):
            same = (labels @ everyones.mT).clamp(max=1)
            likelihood = sum(
                likelihood_losses(unit(own) @ unit(others).mT / 2, same).sum()
                for own, others in ((u, everyones_v), (u, everyones_u), (v, everyones_v))
            )
        total = discrimination + self.likelihood * likelihood / comparison.pairs
        return (total + self.invariance * _lengths(u - v)) / comparison.pairs


def _lengths(rows: Tensor) -> Tensor:
    """The sum of the rows' lengths; at 0 its gradient is 0."""
    return root(rows.square().sum(dim=1)).sum()
