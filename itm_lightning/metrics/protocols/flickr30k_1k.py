"""Flickr30k1K: Flickr30k's test split."""

from __future__ import annotations

from itm_lightning.errors import Size
from itm_lightning.metrics.protocols.retrieval import Retrieval
from itm_lightning.registry import register


@register("protocol")
class Flickr30k1K(Retrieval):
    """The 1,000 test images of Flickr30k against their 5,000 texts.

    Karpathy & Fei-Fei (2015), Deep visual-semantic alignments for generating image descriptions.

    Args:
        texts_per_image: how many texts of each image are kept, the first; ``None`` keeps all.
    """

    images = 1000

    def __init__(self, texts_per_image: Size | None = 5) -> None:
        self.texts_per_image = texts_per_image
