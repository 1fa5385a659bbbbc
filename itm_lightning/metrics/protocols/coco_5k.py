"""Coco5K: COCO's whole test split."""

from __future__ import annotations

from itm_lightning.metrics.protocols.retrieval import Retrieval
from itm_lightning.registry import register


@register("protocol")
class Coco5K(Retrieval):
    """The 5,000 photos of COCO's Karpathy test split against their captions.

    Karpathy & Fei-Fei (2015), Deep visual-semantic alignments for generating image descriptions.

    Args:
        captions_per_photo: keep the first so many of each photo. The literature's 5 make 25,000
            captions; ``None`` keeps all 25,010.
    """

    photos = 5000

    def __init__(self, captions_per_photo: int | None = 5) -> None:
        self.captions_per_photo = captions_per_photo
