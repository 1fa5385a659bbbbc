"""The maximum of the tokens."""

from __future__ import annotations

from torch import Tensor
from typing_extensions import override

from itm_lightning.pooling.base import Pooling
from itm_lightning.registry import register


@register("pooling")
class MaxPooling(Pooling):
    """The maximum of each channel over the real tokens."""

    @override
    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        highest = tokens.masked_fill(~mask.unsqueeze(-1), float("-inf")).amax(dim=1)
        return highest.masked_fill(~mask.any(dim=1, keepdim=True), 0.0)
