"""Coco1K: the mean over folds of COCO's test split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor
from typing_extensions import override

from itm_lightning.errors import Size
from itm_lightning.ground_truth import GroundTruth
from itm_lightning.metrics.functional import mean_over_folds
from itm_lightning.metrics.gallery import Gallery
from itm_lightning.metrics.protocols.base import Protocol, restrict
from itm_lightning.registry import register
from itm_lightning.similarity.base import Similarity

_DIRECTIONS = ("i2t", "t2i")


@register("protocol")
class Coco1K(Protocol):
    """The mean over five folds of 1,000 images of COCO's Karpathy test split.

    The folds are consecutive in the dataset's order, and each is ranked by itself. Every score is
    averaged, median and mean rank too; rsum is the sum of the six averaged recalls.

    Karpathy & Fei-Fei (2015), Deep visual-semantic alignments for generating image descriptions.

    Args:
        folds: how many.
        fold_size: images of each.
        texts_per_image: how many texts of each image are kept, the first; ``None`` keeps all.

    Raises:
        InputError: there is no fold, or no image in it.
    """

    def __init__(
        self, folds: Size = 5, fold_size: Size = 1000, texts_per_image: Size | None = 5
    ) -> None:
        self.fold_size = fold_size
        self.images = folds * fold_size
        self.texts_per_image = texts_per_image

    @override
    def per_query(
        self, similarity: Similarity, gallery: Gallery, truth: GroundTruth
    ) -> dict[str, Tensor]:
        """Adds ``i2t_fold`` and ``t2i_fold``, int64: the number of each query's fold, from 0."""
        images = list(truth.texts_of_image.items())
        folds = []
        for number, start in enumerate(range(0, len(images), self.fold_size)):
            fold = dict(images[start : start + self.fold_size])
            its_truth = replace(truth, texts_of_image=fold)
            arrays = super().per_query(similarity, restrict(gallery, fold), its_truth)
            for way in _DIRECTIONS:
                arrays[f"{way}_fold"] = torch.full_like(arrays[f"{way}_ids"], number)
            folds.append(arrays)
        return {name: torch.cat([fold[name] for fold in folds]) for name in folds[0]}

    @override
    def scores(self, per_query: Mapping[str, Tensor]) -> dict[str, Tensor]:
        tables = []
        for fold in per_query["i2t_fold"].unique():
            rows = {f"{way}_ranks": per_query[f"{way}_fold"] == fold for way in _DIRECTIONS}
            tables.append(super().scores({name: per_query[name][rows[name]] for name in rows}))
        return mean_over_folds(tables)
