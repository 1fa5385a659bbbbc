"""The first token."""

from __future__ import annotations

from torch import Tensor
from typing_extensions import override

from itm_lightning.pooling.base import Pooling, pick
from itm_lightning.registry import register


@register("pooling")
class FirstPooling(Pooling):
    """The first real token: the ``[CLS]`` token of transformers that have one.

    Devlin et al. 2019, BERT. In a bidirectional recurrent network, the first token holds the last
    state of the backward direction, but only the first state of the forward direction.
    """

    @override
    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        return pick(tokens, mask, mask.byte().argmax(dim=1))  # argmax gives the first maximum
