"""Coco1K: the mean over folds of COCO's test split."""

from __future__ import annotations

from typing_extensions import override

from itm_lightning.errors import InputError
from itm_lightning.metrics.functional import gallery_recall, mean_over_folds
from itm_lightning.metrics.gallery import Gallery
from itm_lightning.metrics.protocols.base import Layout, Protocol, as_floats, part_of
from itm_lightning.registry import register
from itm_lightning.similarity.base import Similarity


@register("protocol")
class Coco1K(Protocol):
    """The mean over five folds of 1,000 photos of COCO's Karpathy test split.

    The folds are consecutive in the dataset's order, and each is ranked by itself. Every score is
    averaged, median and mean rank too; rsum is the sum of the six averaged recalls.

    Karpathy & Fei-Fei (2015), Deep visual-semantic alignments for generating image descriptions.

    Args:
        folds: how many.
        fold_size: photos of each.
        texts_per_image: keep the first so many of each photo; ``None`` keeps all.

    Raises:
        InputError: there is no fold, or no photo in it.
    """

    def __init__(
        self, folds: int = 5, fold_size: int = 1000, texts_per_image: int | None = 5
    ) -> None:
        if folds < 1 or fold_size < 1:
            raise InputError(
                f"protocol.folds is {folds} and protocol.fold_size {fold_size}; both must be at "
                "least 1"
            )
        self.fold_size = fold_size
        self.images = folds * fold_size
        self.texts_per_image = texts_per_image

    @override
    def scores(self, similarity: Similarity, gallery: Gallery, layout: Layout) -> dict[str, float]:
        images = list(layout.items())
        starts = range(0, len(images), self.fold_size)
        folds = [dict(images[start : start + self.fold_size]) for start in starts]
        tables = [gallery_recall(similarity, part_of(gallery, fold)) for fold in folds]
        return as_floats(mean_over_folds(tables))
