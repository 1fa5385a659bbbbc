"""The mean of the largest tokens."""

from __future__ import annotations

from torch import Tensor
from typing_extensions import override

from itm_lightning.errors import Size
from itm_lightning.pooling.base import Pooling
from itm_lightning.registry import register


@register("pooling")
class KMaxPooling(Pooling):
    """The mean of each channel's ``k`` largest values over the real tokens.

    Kalchbrenner et al. 2014, A Convolutional Neural Network for Modelling Sentences, with the mean
    of Chen et al. 2021 (VSE∞). ``k = 1`` is :class:`MaxPooling`; a row of fewer
    tokens gives the mean of all of them.

    Args:
        k: how many values are averaged.

    Raises:
        InputError: ``k`` is less than 1.
    """

    def __init__(self, k: Size = 5) -> None:
        super().__init__()
        self.k = k

    @override
    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        k = min(self.k, tokens.shape[1])
        largest = tokens.masked_fill(~mask.unsqueeze(-1), float("-inf")).topk(k, dim=1).values
        counts = mask.sum(dim=1, keepdim=True).clamp(max=k)
        missing = counts.new_ones(k).cumsum(0).unsqueeze(0) > counts
        total = largest.masked_fill(missing.unsqueeze(-1), 0.0).sum(dim=1)
        return total / counts.clamp(min=1)
