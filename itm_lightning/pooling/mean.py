"""The mean of the tokens."""

from __future__ import annotations

from torch import Tensor

from itm_lightning.pooling.base import Pooling
from itm_lightning.registry import register
from itm_lightning.types import masked_mean


@register("pooling")
class MeanPooling(Pooling):
    """The mean of the real tokens."""

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """The means ``(B, D)``."""
        return masked_mean(tokens, mask)
