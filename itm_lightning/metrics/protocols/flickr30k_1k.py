"""Flickr30k1K: Flickr30k's test split."""

from __future__ import annotations

from itm_lightning.metrics.protocols.retrieval import Retrieval
from itm_lightning.registry import register


@register("protocol")
class Flickr30k1K(Retrieval):
    """The 1,000 test photos of Flickr30k against their 5,000 captions.

    Karpathy & Fei-Fei (2015), Deep visual-semantic alignments for generating image descriptions.

    Args:
        captions_per_photo: keep the first so many of each photo; ``None`` keeps all.
    """

    photos = 1000

    def __init__(self, captions_per_photo: int | None = 5) -> None:
        self.captions_per_photo = captions_per_photo
