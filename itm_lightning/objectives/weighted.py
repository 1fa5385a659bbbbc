"""WeightedSum: several objectives at once."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from itm_lightning.errors import InputError
from itm_lightning.objectives.base import Objective
from itm_lightning.registry import register


@register("objective")
class WeightedSum(Objective):
    """``Σ wᵢ · objectiveᵢ``.

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

    def forward(
        self, scores: Tensor, image_ids: Tensor | None = None, text_image_ids: Tensor | None = None
    ) -> Tensor:
        """The loss; see :meth:`Objective.forward`."""
        losses = [
            weight * cast(Objective, objective)(scores, image_ids, text_image_ids)
            for weight, objective in zip(self.weights, self.objectives, strict=True)
        ]
        return torch.stack(losses).sum()
