"""Triplet: positives exceed negatives by a margin."""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import override

from itm_lightning.errors import InputError, Natural, NotNegative
from itm_lightning.objectives.base import QueryObjective
from itm_lightning.objectives.comparison import Comparison, Queries
from itm_lightning.registry import register


@register("objective")
class Triplet(QueryObjective):
    """Hinge loss over negatives in both directions, summed over the batch.

    VSE++ (Faghri et al., BMVC 2018): equation 5 sums over all negatives, equation 6 takes the
    hardest of each query. Hardest negatives can stall a model that has learnt nothing yet;
    ``warmup_steps`` starts from the sum and blends linearly into the hardest, or, as in the code of
    VSE∞ (Chen et al., CVPR 2021), goes over to them at once.

    Args:
        margin: by how much a positive should exceed its negatives.
        hardest: take only each query's hardest negative.
        warmup_steps: training steps from the sum (step 0) to the hardest alone.
        blend: whether the steps in between mix the two; else they have the sum.

    Raises:
        InputError: a warm-up is asked for without ``hardest``.
    """

    steps: Tensor

    def __init__(
        self,
        margin: NotNegative = 0.2,
        hardest: bool = True,
        warmup_steps: Natural = 0,
        blend: bool = True,
    ) -> None:
        super().__init__()
        if warmup_steps and not hardest:
            raise InputError("Triplet: warmup_steps leads to the hardest negative; set hardest")
        self.margin, self.hardest, self.warmup_steps = margin, hardest, warmup_steps
        self.blend = blend
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    @override
    def query_loss(self, queries: Queries) -> Tensor:
        beyond = queries.violations(self.margin)
        if not self.hardest:
            return beyond.sum()
        hardest = beyond.amax(dim=1).sum()
        return torch.lerp(beyond.sum(), hardest, self._hardness()) if self.warmup_steps else hardest

    @override
    def loss(self, comparison: Comparison) -> Tensor:
        loss = super().loss(comparison)
        if self.training and self.warmup_steps:
            self.steps += 1
        return loss

    def _hardness(self) -> Tensor:
        """Share of the hardest negatives in this step's loss, a scalar in [0, 1]."""
        # a tensor and not a number: reading the counter would wait for the GPU
        done = (self.steps / self.warmup_steps).clamp(max=1)
        return done if self.blend else done.floor()
