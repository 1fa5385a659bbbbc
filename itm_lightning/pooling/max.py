"""The maximum of the tokens."""

from __future__ import annotations

from torch import Tensor

from itm_lightning.pooling.base import Pooling
from itm_lightning.registry import register


@register("pooling")
class MaxPooling(Pooling):
    """The maximum of each feature over the real tokens."""

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """The maxima ``(B, D)``."""
        highest = tokens.masked_fill(~mask.unsqueeze(-1), float("-inf")).amax(dim=1)
        return highest.masked_fill(~mask.any(dim=1, keepdim=True), 0.0)
