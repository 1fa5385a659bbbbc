"""The last token."""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import override

from itm_lightning.pooling.base import Pooling, pick
from itm_lightning.registry import register


@register("pooling")
class LastPooling(Pooling):
    """The last real token: the last state of a recurrent network that reads forward.

    Faghri et al. 2018, VSE++. In a bidirectional network, the last token holds the last
    state of the forward direction, but only the first state of the backward direction:
    :class:`MeanPooling` or :class:`RecurrentPooling` fits such a network better.
    """

    @override
    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        position = torch.arange(mask.shape[1], device=mask.device)
        return pick(tokens, mask, (position * mask).amax(dim=1))
