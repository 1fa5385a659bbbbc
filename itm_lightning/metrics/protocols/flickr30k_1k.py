"""Flickr30k1K: Flickr30k's test split."""

from __future__ import annotations

from itm_lightning.metrics.protocols.retrieval import Retrieval
from itm_lightning.registry import register


@register("protocol")
class Flickr30k1K(Retrieval):
    """The 1,000 test photos of Flickr30k against their 5,000 captions.

    Karpathy & Fei-Fei (2015), Deep visual-semantic alignments for generating image descriptions.

    Args:
        texts_per_image: keep the first so many of each photo; ``None`` keeps all.
    """

    images = 1000

    def __init__(self, texts_per_image: int | None = 5) -> None:
        self.texts_per_image = texts_per_image
