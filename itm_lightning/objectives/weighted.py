"""WeightedSum: several objectives at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from typing_extensions import override

from itm_lightning.errors import InputError
from itm_lightning.objectives.base import Objective
from itm_lightning.objectives.comparison import Comparison
from itm_lightning.registry import register
from itm_lightning.types import Widths


@register("objective")
class WeightedSum(Objective):
    """``Σ wᵢ · objectiveᵢ``, of objectives on scores and on features alike.

    Args:
        objectives: at least one.
        weights: one number an objective; all 1 by default.

    Raises:
        InputError: there is no objective, or not one weight for each.
    """

    def __init__(self, objectives: list[Objective], weights: list[float] | None = None) -> None:
        super().__init__()
        self.weights = [1.0] * len(objectives) if weights is None else list(weights)
        if not objectives or len(objectives) != len(self.weights):
            raise InputError(
                f"WeightedSum: {len(objectives)} objectives and {len(self.weights)} weights; "
                "give at least one objective and one weight for each"
            )
        self.objectives = nn.ModuleList(objectives)

    @override
    def build(self, widths: Widths) -> None:
        for objective in self.objectives:
            cast(Objective, objective).build(widths)

    @override
    def forward(
        self, scores: Tensor, image_ids: Tensor | None = None, text_image_ids: Tensor | None = None
    ) -> Tensor:
        return self._sum(lambda objective: objective(scores, image_ids, text_image_ids))

    @override
    def loss(self, comparison: Comparison) -> Tensor:
        return self._sum(lambda objective: objective.loss(comparison))

    def _sum(self, loss: Callable[[Objective], Tensor]) -> Tensor:
        terms = zip(self.weights, self.objectives, strict=True)
        return torch.stack([weight * loss(cast(Objective, each)) for weight, each in terms]).sum()
