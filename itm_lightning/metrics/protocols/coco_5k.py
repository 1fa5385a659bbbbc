"""Coco5K: COCO's whole test split."""

from __future__ import annotations

from itm_lightning.errors import Size
from itm_lightning.metrics.protocols.retrieval import Retrieval
from itm_lightning.registry import register


@register("protocol")
class Coco5K(Retrieval):
    """The 5,000 images of COCO's Karpathy test split against their texts.

    Karpathy & Fei-Fei (2015), Deep visual-semantic alignments for generating image descriptions.

    Args:
        texts_per_image: how many texts of each image are kept, the first. The literature's 5 make
            25,000 texts; ``None`` keeps all 25,010.
    """

    images = 5000

    def __init__(self, texts_per_image: Size | None = 5) -> None:
        self.texts_per_image = texts_per_image
