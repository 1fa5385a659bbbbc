"""MMD: images and texts should have the same distribution."""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import override

from itm_lightning.objectives.base import FeatureObjective
from itm_lightning.objectives.comparison import Comparison
from itm_lightning.objectives.functional import unit_sets
from itm_lightning.registry import register
from itm_lightning.types import Features


@register("objective")
class MMD(FeatureObjective):
    """Squared maximum mean discrepancy of the batch's tokens of images and of texts.

    ``mean k(v, v') - 2 mean k(v, t) + mean k(t, t')`` over all tokens of length 1. The regulariser
    of DiVE (Kim, Kim, Kwak, CVPR 2023), and of PVSE (Song, Soleymani, CVPR 2019) before it, with
    the kernel of the authors' code, ``k(x, y) = exp(-½ ‖x - y‖)``. Memory grows with the square of
    the number of tokens: meant for sets of few. Where processes share a batch, each
    compares its own tokens with everybody's.
    """

    @override
    def loss(self, comparison: Comparison) -> Tensor:
        images, texts = (
            Features(*unit_sets(side, self), None) for side in (comparison.images, comparison.texts)
        )
        v, t = _real_tokens(images), _real_tokens(texts)
        vs, ts = (_real_tokens(comparison.gather(side)) for side in (images, texts))
        return _mean(v, vs, vs) - 2 * _mean(v, vs, ts) + _mean(t, ts, ts)


def _real_tokens(side: Features) -> Tensor:
    assert side.tokens is not None
    return side.tokens[side.mask]


def _mean(rows: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """The share of some ``rows`` of ``left`` in the mean kernel of ``left`` and ``right``."""
    with torch.autocast(rows.device.type, enabled=False):
        return (-torch.cdist(rows, right) / 2).exp().sum() / (len(left) * len(right))
