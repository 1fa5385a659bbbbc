"""The first token."""

from __future__ import annotations

from torch import Tensor
from typing_extensions import override

from itm_lightning.pooling.base import Pooling, pick
from itm_lightning.registry import register


@register("pooling")
class FirstPooling(Pooling):
    """The first real token, as transformers that begin with a ``[CLS]`` token are pooled.

    Devlin et al. 2019, BERT. Of a bidirectional recurrent network it holds the last
    state of the backward direction, and of the forward one only what the first word gave.
    """

    @override
    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        return pick(tokens, mask, mask.byte().argmax(dim=1))  # the first of equals
