"""InfoNCE: cross entropy of the right text, and the right image, among those of the batch."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from typing_extensions import override

from itm_lightning.errors import InputError
from itm_lightning.objectives.base import QueryObjective
from itm_lightning.objectives.comparison import Comparison, Queries
from itm_lightning.registry import register
from itm_lightning.types import at_least_float32

_MAX_LOG_SCALE = math.log(100)  # CLIP's bound: sharper than this trains unstably


@register("objective")
class InfoNCE(QueryObjective):
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

    @property
    def temperature(self) -> Tensor:
        """What scores are divided by."""
        return at_least_float32(-self.log_scale).exp()

    @override
    def query_loss(self, queries: Queries) -> Tensor:
        logits = queries.scores * at_least_float32(self.log_scale).exp()
        return queries.cross_entropies(logits).sum()

    @override
    def loss(self, comparison: Comparison) -> Tensor:
        # the parameter itself is clamped: a clamp in the graph has no gradient beyond its bound,
        # and a temperature that once got there would never come back
        with torch.no_grad():
            self.log_scale.clamp_(max=_MAX_LOG_SCALE)
        return super().loss(comparison) / (2 * comparison.pairs)
