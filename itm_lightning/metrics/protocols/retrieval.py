"""Retrieval: everything against everything."""

from __future__ import annotations

from typing_extensions import override

from itm_lightning.metrics.functional import gallery_recall
from itm_lightning.metrics.gallery import Gallery
from itm_lightning.metrics.protocols.base import Layout, Protocol, as_floats
from itm_lightning.registry import register
from itm_lightning.similarity.base import Similarity


@register("protocol")
class Retrieval(Protocol):
    """Every photo of the split against every caption of the split, however many."""

    @override
    def scores(self, similarity: Similarity, gallery: Gallery, layout: Layout) -> dict[str, float]:
        return as_floats(gallery_recall(similarity, gallery))
