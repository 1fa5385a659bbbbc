"""MMD: photos and captions should be spread alike."""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import override

from itm_lightning.objectives.base import FeatureObjective
from itm_lightning.objectives.sets import unit_tokens
from itm_lightning.registry import register
from itm_lightning.types import Features


@register("objective")
class MMD(FeatureObjective):
    """Squared maximum mean discrepancy of the batch's tokens of photos and of captions.

    ``mean k(v, v') - 2 mean k(v, t) + mean k(t, t')`` over all tokens of length 1. The regulariser
    of DiVE (Kim, Kim, Kwak, CVPR 2023), and of PVSE (Song, Soleymani, CVPR 2019) before it, with
    the kernel of the authors' code, ``k(x, y) = exp(-½ ‖x - y‖)``. Memory grows with the square of
    the number of tokens: meant for sets of few.
    """

    @override
    def loss(
        self,
        scores: Tensor,
        images: Features,
        texts: Features,
        image_ids: Tensor | None = None,
        text_image_ids: Tensor | None = None,
    ) -> Tensor:
        (photos, real_photos), (captions, real_captions) = (
            unit_tokens(side, self) for side in (images, texts)
        )
        v, t = photos[real_photos], captions[real_captions]
        return _kernel(v, v) - 2 * _kernel(v, t) + _kernel(t, t)


def _kernel(left: Tensor, right: Tensor) -> Tensor:
    with torch.autocast(left.device.type, enabled=False):
        return (-torch.cdist(left, right) / 2).exp().mean()
