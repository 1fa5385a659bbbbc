"""InfoNCE: pick the right caption, and the right photo, out of the batch."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from itm_lightning.errors import InputError
from itm_lightning.objectives.base import Objective, negatives_mask
from itm_lightning.objectives.functional import symmetric_cross_entropy
from itm_lightning.registry import register

_MAX_LOG_SCALE = math.log(100)  # CLIP's bound: sharper than this trains unstably


@register("objective")
class InfoNCE(Objective):
    """Symmetric cross entropy of the scores over a temperature.

    After Radford et al., "Learning Transferable Visual Models From Natural Language Supervision",
    ICML 2021 (figure 3), whose bound on the learnt temperature, 1/100, is kept here.

    Args:
        temperature: what scores are divided by, at the start where it is learnt.
        learnable: learn the logarithm of its inverse, ``log_scale``.

    Raises:
        InputError: the temperature lies below 0.01.
    """

    log_scale: Tensor

    def __init__(self, temperature: float = 0.07, learnable: bool = True) -> None:
        super().__init__()
        if temperature < 0.01:
            raise InputError(f"InfoNCE: temperature must be at least 0.01, not {temperature}")
        log_scale = torch.tensor(-math.log(temperature))
        if learnable:
            self.log_scale = nn.Parameter(log_scale)
        else:
            self.register_buffer("log_scale", log_scale)

    def forward(
        self, scores: Tensor, image_ids: Tensor | None = None, text_image_ids: Tensor | None = None
    ) -> Tensor:
        """The loss; see :meth:`Objective.forward`."""
        # the parameter itself is clamped: a clamp in the graph has no gradient beyond its bound,
        # and a temperature that once got there would never come back
        with torch.no_grad():
            self.log_scale.clamp_(max=_MAX_LOG_SCALE)
        logits = scores.float() * self.log_scale.float().exp()
        return symmetric_cross_entropy(logits, negatives_mask(scores, image_ids, text_image_ids))
