"""The mean of the tokens."""

from __future__ import annotations

from torch import Tensor
from typing_extensions import override

from itm_lightning.pooling.base import Pooling
from itm_lightning.registry import register
from itm_lightning.types import masked_mean


@register("pooling")
class MeanPooling(Pooling):
    """The mean of the real tokens."""

    @override
    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        return masked_mean(tokens, mask)
