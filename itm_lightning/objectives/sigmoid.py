"""Sigmoid: of every pair, does it belong together?"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from typing_extensions import override

from itm_lightning.errors import InputError
from itm_lightning.objectives.base import Objective, negatives_mask
from itm_lightning.objectives.functional import counted_pairs, matching_losses
from itm_lightning.precision import at_least_float32
from itm_lightning.registry import register


@register("objective")
class Sigmoid(Objective):
    """``-1/B Σᵢⱼ log sigmoid(± (scale · score + bias))``: each pair is a yes or no of its own.

    SigLIP (Zhai, Mustafa, Kolesnikov, Beyer: "Sigmoid Loss for Language Image Pre-Training", ICCV
    2023, section 3.2 and algorithm 1). Scale (its logarithm) and bias are learnt. They start so
    that nearly all pairs are taken for negatives, as nearly all are. Another caption of the same
    photo is neither positive nor negative.

    Args:
        scale: what scores are multiplied by at the start.
        bias: what is added at the start.

    Raises:
        InputError: the scale is not positive.
    """

    def __init__(self, scale: float = 10.0, bias: float = -10.0) -> None:
        super().__init__()
        if scale <= 0:
            raise InputError(f"Sigmoid: scale must be positive, not {scale}")
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale)))
        self.bias = nn.Parameter(torch.tensor(float(bias)))

    @override
    def forward(
        self, scores: Tensor, image_ids: Tensor | None = None, text_image_ids: Tensor | None = None
    ) -> Tensor:
        positives, counted = counted_pairs(negatives_mask(scores, image_ids, text_image_ids))
        logits = at_least_float32(scores) * self.log_scale.exp() + self.bias
        return matching_losses(logits, positives).masked_fill(~counted, 0).sum() / len(scores)
